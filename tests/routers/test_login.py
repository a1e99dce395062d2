"""Logging in over HTTP: the response, what it revokes, the limit, and the OpenAPI document."""

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from fastapi_users.authentication import Transport
from httpx import AsyncClient
from sqlalchemy.ext.asyncio import AsyncEngine

from fastapi_users_knox import KnoxBearerTransport, KnoxSettings
from tests.models import User
from tests.site import (
    Database,
    UserRead,
    World,
    bearer,
    bearing,
    cookie_backend,
    create_app,
    credentials,
    knox_backend,
    login,
)
from tests.strategies import DEFAULTS, HOUR, stored

pytestmark = pytest.mark.unmeasured

Build = Callable[..., AsyncClient]

USER_READ = KnoxBearerTransport("knox/login", user_schema=UserRead)


@pytest.fixture
async def ada(database: Database) -> User:
    """Create a user."""
    return await database.create_user()


@pytest.fixture
def build(world: World) -> Build:
    """Return a function that opens a client of an application with these settings and this transport."""

    def build(settings: KnoxSettings = DEFAULTS, transport: Transport | None = None) -> AsyncClient:
        return world.having(knox=settings).client(knox_backend(transport=transport))

    return build


@pytest.mark.usefixtures("ada")
@pytest.mark.parametrize(
    ("ttl", "expiry"),
    [
        (HOUR, {"expires_in": 3600, "expiry": "2030-01-01T13:00:00Z"}),
        (None, {"expiry": None}),
    ],
)
async def test_a_login_answers(build: Build, ttl: timedelta | None, expiry: dict[str, Any]) -> None:
    """The login response has the token, its type and its expiry, and must not be cached (RFC 6749 §5.1)."""
    async with build(KnoxSettings(token_ttl=ttl)) as client:
        response = await client.post("/knox/login", data=credentials())

    body = response.json()
    assert body.pop("access_token").startswith("knox_")
    assert body == {"token_type": "bearer"} | expiry
    assert response.headers["Cache-Control"] == "no-store"


async def test_a_login_may_answer_with_the_user(build: Build, ada: User) -> None:
    """With `user_schema` the login response contains the user as `/users/me` returns it."""
    async with build(transport=USER_READ) as client:
        body = (await client.post("/knox/login", data=credentials())).json()
        me = await client.get("/users/me", headers=bearing(body["access_token"]))

    assert body["user"] == me.json()
    assert body["user"]["id"] == str(ada.id)


@pytest.mark.usefixtures("ada")
async def test_the_prefix_may_be_knox_s(build: Build) -> None:
    """With `header_prefix="Token"` the token is sent as `Authorization: Token ...`, and "Bearer" is refused."""
    async with build(transport=bearer(header_prefix="Token")) as client:
        token = await login(client)
        statuses = [
            (await client.get("/active", headers=bearing(token, prefix))).status_code
            for prefix in ("Token", "token", "Bearer")
        ]

    assert statuses == [200, 200, 401]


@pytest.mark.usefixtures("ada")
async def test_a_login_revokes_the_token_presented(client: AsyncClient) -> None:
    """A login revokes the token that it presents, so the user has one session, not two (ASVS 7.2.4)."""
    old = await login(client)

    again = await client.post("/knox/login", data=credentials(), headers=bearing(old))

    assert again.status_code == 200
    assert (await client.get("/active", headers=bearing(old))).status_code == 401


@pytest.mark.usefixtures("ada")
async def test_a_browser_s_login_revokes_its_old_session(world: World, engine: AsyncEngine) -> None:
    """With FastAPI-Users' `CookieTransport` a second login in a browser revokes the first session."""
    async with world.client(cookie_backend()) as browser:
        first = await browser.post("/cookie/login", data=credentials())
        second = await browser.post("/cookie/login", data=credentials())
        me = await browser.get("/active")

    assert (first.status_code, second.status_code, me.status_code) == (204, 204, 200)
    assert len(await stored(engine)) == 1


@pytest.mark.usefixtures("ada")
async def test_a_client_is_described(client: AsyncClient, engine: AsyncEngine) -> None:
    """The record holds the user agent, device name and address of the client, but no forwarded address."""
    headers = {"User-Agent": "curl/8", "X-Device-Name": "phone", "X-Forwarded-For": "198.51.100.7"}

    await client.post("/knox/login", data=credentials(), headers=headers)

    [row] = await stored(engine)
    assert (row.user_agent, row.name, row.ip_address) == ("curl/8", "phone", "127.0.0.1")


@pytest.mark.usefixtures("ada")
async def test_the_limit(build: Build, engine: AsyncEngine) -> None:
    """At the limit a login gets 403 and changes no record, but one that presents a token may replace it."""
    async with build(KnoxSettings(token_limit_per_user=2)) as client:
        tokens = [await login(client) for _ in range(2)]
        rows = await stored(engine)

        refused = await client.post("/knox/login", data=credentials())
        unchanged = await stored(engine) == rows
        again = await client.post("/knox/login", data=credentials(), headers=bearing(tokens[0]))

    assert (refused.status_code, refused.json()) == (403, {"detail": "LOGIN_TOKEN_LIMIT_REACHED"})
    assert unchanged
    assert again.status_code == 200
    assert len(await stored(engine)) == 2


@pytest.mark.parametrize("form", [credentials(password="wrong"), {}])
async def test_a_failed_login_revokes_nothing(client: AsyncClient, ada: User, form: dict[str, str]) -> None:
    """A failed login does not revoke the token presented with it."""
    token = await login(client, email=ada.email)

    response = await client.post("/knox/login", data=form, headers=bearing(token))

    assert response.status_code in {400, 422}
    assert (await client.get("/active", headers=bearing(token))).status_code == 200


def operation(path: str) -> dict[str, Any]:
    """Return the OpenAPI operation of a POST."""
    found: dict[str, Any] = create_app(knox_backend()).openapi()["paths"][path]["post"]
    return found


async def test_a_login_is_documented() -> None:
    """OpenAPI documents the login's success, bad credentials, the limit and the unavailable store."""
    responses = operation("/knox/login")["responses"]

    assert {"200", "400", "403", "503"} <= responses.keys()
    schema = responses["200"]["content"]["application/json"]["schema"]
    assert schema == {"$ref": "#/components/schemas/KnoxLoginResponse"}
    assert "LOGIN_BAD_CREDENTIALS" in responses["400"]["content"]["application/json"]["examples"]


@pytest.mark.parametrize("path", ["/knox/logout", "/knox/logout-all"])
async def test_a_logout_is_documented(path: str) -> None:
    """OpenAPI documents that a logout requires a token and answers 204 or 401."""
    documented = operation(path)

    assert {"204", "401"} <= documented["responses"].keys()
    assert documented["security"] == [{"KnoxBearer": []}]


@pytest.mark.parametrize("verb", ["login", "logout", "logout_all"])
async def test_routes_are_named_after_their_backend(verb: str) -> None:
    """Route names contain the backend's name, so `url_path_for` finds the routes of each."""
    app = create_app(knox_backend("web"), knox_backend("api"))

    for name in ("web", "api"):
        assert app.url_path_for(f"auth:{name}.{verb}") == f"/{name}/{verb.replace('_', '-')}"
