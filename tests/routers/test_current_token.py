"""`current_token`: the user and the record in one read, and the responses to refused requests."""

import uuid
from collections.abc import Mapping
from datetime import timedelta
from typing import Annotated, Any

import pytest
from fastapi import Depends, FastAPI, WebSocket
from httpx import AsyncClient
from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncEngine

from fastapi_users_knox import KnoxSettings, TokenRecord, current_token
from tests.asgi import talk
from tests.models import User
from tests.routers.device import Device
from tests.site import (
    Database,
    Served,
    Session,
    World,
    bearing,
    build_app,
    client_of,
    create_users,
    knox_backend,
    login,
    shared,
)
from tests.strategies import HOUR, MILLISECOND, MINUTE, Clock, change_user, flipped, sent_to, stored, verbs

Current = tuple[User, TokenRecord[uuid.UUID]]

INVALID = 'Bearer error="invalid_token"'
RULES: dict[str, dict[str, Any]] = {
    "anyone": {},
    "active": {"active": True},
    "optional": {"optional": True},
    "verified": {"active": True, "verified": True},
    "superuser": {"superuser": True},
    "optional-superuser": {"optional": True, "superuser": True},
    "passive": {"touch": False},
    "fresh": {"fresh_within": MINUTE},
    "optional-fresh": {"optional": True, "fresh_within": MINUTE},
    "fresh-superuser": {"superuser": True, "fresh_within": MINUTE},
}


@shared
def create_site() -> FastAPI:
    """Build an application with a route for each set of rules."""
    backend = knox_backend()
    app, users = build_app(backend), create_users(backend)
    for name, rules in RULES.items():
        _add_route(app, name, current_token(users, backend, **rules))
    return app


def _add_route(app: FastAPI, name: str, dependency: Any) -> None:
    """Add a route and a WebSocket that depend on `current_token`."""

    @app.get(f"/token/{name}")
    async def who(current: Annotated[Current | None, Depends(dependency)]) -> list[str]:
        return [current[0].email, str(current[1].id)] if current else []

    @app.websocket(f"/ws/token/{name}")
    async def talk(websocket: WebSocket, current: Annotated[Current | None, Depends(dependency)]) -> None:
        await websocket.accept()
        await websocket.send_json([current[0].email, str(current[1].id)] if current else [])
        await websocket.close()


@pytest.fixture
def settings() -> Mapping[str, KnoxSettings]:
    """Let the tokens be refreshed."""
    return {"knox": KnoxSettings(auto_refresh=True)}


@pytest.fixture
def app(world: World) -> Served:
    """Return the application."""
    return world.serving(create_site())


async def test_user_and_record_are_given(laptop: Device) -> None:
    """The route receives the user and the record of the token presented."""
    response = await laptop.call("GET", "/token/anyone")

    assert response.json() == ["ada@example.org", await laptop.id()]


async def test_it_takes_one_read(laptop: Device, engine: AsyncEngine) -> None:
    """One SELECT reads the token, its record and the user."""
    await laptop.call("GET", "/token/anyone")

    with sent_to(engine) as statements:
        await laptop.call("GET", "/token/anyone")

    assert verbs(statements) == ["SELECT"]


@pytest.mark.parametrize(
    ("method", "path", "statements"),
    [("GET", "/knox/sessions", ["SELECT"] * 2), ("DELETE", "/knox/sessions/{id}", ["SELECT", "BEGIN", "DELETE"])],
)
async def test_the_sessions_routes_read_the_token_once(
    laptop: Device, phone: Device, engine: AsyncEngine, *, method: str, path: str, statements: list[str]
) -> None:
    """The routes of the sessions authenticate by one SELECT, apart from their own statements."""
    path = path.format(id=await phone.id())
    await laptop.sessions()

    with sent_to(engine) as sent:
        response = await laptop.call(method, path)

    assert response.is_success
    assert verbs(sent) == statements


async def test_use_is_noted(laptop: Device, engine: AsyncEngine) -> None:
    """A request counts as a use and refreshes the token."""
    [before] = await stored(engine)

    await laptop.call("GET", "/token/anyone")

    [after] = await stored(engine)
    assert (before.last_used_at, after.expires_at - before.expires_at) == (None, HOUR)


async def test_a_passive_read_writes_nothing(laptop: Device, engine: AsyncEngine) -> None:
    """With `touch=False` a page that polls does not keep its session alive."""
    rows = await stored(engine)

    response = await laptop.call("GET", "/token/passive")

    assert response.status_code == 200
    assert await stored(engine) == rows


@pytest.mark.parametrize(
    ("route", "user", "status"),
    [
        ("anyone", {}, 200),
        ("active", {}, 200),
        ("optional", {}, 200),
        ("verified", {}, 403),
        ("verified", {"is_verified": True}, 200),
        ("superuser", {}, 403),
        ("superuser", {"is_superuser": True}, 200),
        ("fresh-superuser", {}, 403),
    ],
)
async def test_who_is_let_in(
    client: AsyncClient, database: Database, *, route: str, user: dict[str, Any], status: int
) -> None:
    """`verified` and `superuser` accept or forbid as `current_user` does, and the header gives the reason."""
    await database.create_user(**user)

    response = await client.get(f"/token/{route}", headers=bearing(await login(client)))

    assert response.status_code == status
    if status == 403:
        assert response.json() == {"detail": "Forbidden"}
        assert response.headers["WWW-Authenticate"] == 'Bearer error="insufficient_scope"'


@pytest.mark.parametrize("route", ["anyone", "active", "verified", "superuser", "passive", "fresh"])
@pytest.mark.parametrize(
    ("headers", "challenge"),
    [
        ({}, "Bearer"),
        ({"Authorization": "Bearer"}, "Bearer"),
        ({"Authorization": "Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ=="}, "Bearer"),
        ({"Authorization": "Bearer junk"}, INVALID),
    ],
)
async def test_who_is_not_let_in(client: AsyncClient, *, route: str, headers: dict[str, str], challenge: str) -> None:
    """The challenge contains an error only if a token was presented (RFC 6750 §3.1)."""
    response = await client.get(f"/token/{route}", headers=headers)

    assert (response.status_code, response.json()) == (401, {"detail": "Unauthorized"})
    assert response.headers["WWW-Authenticate"] == challenge


@pytest.mark.parametrize("route", ["optional", "optional-superuser", "optional-fresh"])
async def test_an_optional_route_is_open(laptop: Device, *, route: str) -> None:
    """On an optional route a user who does not meet the rules counts as no user, as in FastAPI-Users."""
    answers = [
        await laptop.call("GET", f"/token/{route}"),
        await laptop.http.get(f"/token/{route}"),
        await laptop.http.get(f"/token/{route}", headers=bearing(flipped(laptop.token))),
    ]

    assert {answer.status_code for answer in answers} == {200}
    assert [bool(answer.json()) for answer in answers] == [route == "optional", False, False]


@pytest.mark.parametrize("route", ["anyone", "active"])
async def test_the_inactive_are_refused(laptop: Device, ada: User, database: Database, *, route: str) -> None:
    """Every route refuses an inactive user's token."""
    await change_user(database.engine, ada, is_active=False)

    response = await laptop.call("GET", f"/token/{route}")

    assert (response.status_code, response.headers["WWW-Authenticate"]) == (401, INVALID)


@pytest.mark.parametrize(("active", "status"), [(False, 200), (True, 401)])
async def test_whom_the_request_has_made_inactive_is_refused(
    world: World, laptop: Device, *, active: bool, status: int
) -> None:
    """With `active=True` a user whom the request itself has deactivated is refused, as by `current_user`."""
    app = FastAPI()
    get_current = current_token(create_users(knox_backend()), knox_backend(), active=active)

    @app.get("/")
    async def deactivate(
        user: Annotated[User, Depends(_deactivate)], current: Annotated[Current, Depends(get_current)]
    ) -> bool:
        return user is current[0]

    async with client_of(world.serving(app)) as client:
        response = await client.get("/", headers=bearing(laptop.token))

    assert response.status_code == status


async def _deactivate(session: Session) -> User:
    """Deactivate the user in the request's session, without writing it."""
    user = (await session.execute(select(User))).scalar_one()
    user.is_active = False
    return user


@pytest.mark.parametrize(("age", "status"), [(timedelta(0), 200), (MINUTE, 200), (MINUTE + MILLISECOND, 401)])
async def test_a_login_must_be_fresh(
    client: AsyncClient, ada: User, clock: Clock, *, age: timedelta, status: int
) -> None:
    """`fresh_within` accepts a login up to that age."""
    device = Device(http=client, token=await login(client, email=ada.email))
    clock.now += age

    response = await device.call("GET", "/token/fresh")

    assert response.status_code == status


async def test_neither_use_nor_rotation_makes_a_login_fresh(laptop: Device) -> None:
    """Neither using nor rotating a token makes its login fresh, and the header gives the reason."""
    await laptop.call("GET", "/token/anyone")
    rotation = await laptop.call("POST", "/knox/rotate")
    rotated = Device(http=laptop.http, token=rotation.json()["access_token"])

    response = await rotated.call("GET", "/token/fresh")

    challenge = 'Bearer error="insufficient_user_authentication", '
    described = 'error_description="The login is too long ago; authenticate again", max_age="60"'
    assert (response.status_code, response.json()) == (401, {"detail": "REAUTHENTICATION_REQUIRED"})
    assert response.headers["WWW-Authenticate"] == challenge + described
    assert await rotated.is_logged_in()


async def test_a_websocket_takes_a_token(app: Served, laptop: Device) -> None:
    """`current_token` authenticates WebSockets too."""
    sent = await talk(app, "/ws/token/fresh-superuser", [(b"authorization", f"Bearer {laptop.token}".encode())])
    more = await talk(app, "/ws/token/anyone", [(b"authorization", f"Bearer {laptop.token}".encode())])

    assert (sent[0]["type"], sent[0]["status"]) == ("websocket.http.response.start", 403)
    assert (b"www-authenticate", b'Bearer error="insufficient_scope"') in sent[0]["headers"]
    assert [message["type"] for message in more] == ["websocket.accept", "websocket.send", "websocket.close"]


@pytest.mark.parametrize(
    ("headers", "challenge"), [([], b"Bearer"), ([(b"authorization", b"Bearer junk")], INVALID.encode())]
)
async def test_a_websocket_is_refused(app: Served, headers: list[tuple[bytes, bytes]], challenge: bytes) -> None:
    """A WebSocket without a valid token gets 401 with the challenge."""
    [start, *_] = await talk(app, "/ws/token/anyone", headers)

    assert (start["type"], start["status"]) == ("websocket.http.response.start", 401)
    assert (b"www-authenticate", challenge) in start["headers"]


async def test_it_is_documented() -> None:
    """OpenAPI documents that a route with `current_token` takes a token."""
    assert create_site().openapi()["paths"]["/token/optional"]["get"]["security"] == [{"KnoxBearer": []}]
