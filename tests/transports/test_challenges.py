"""`WWW-Authenticate` names the transport's scheme, with an error only if a token was presented."""

from typing import Any

import pytest
from fastapi import Depends, FastAPI
from fastapi_users.authentication import BearerTransport, CookieTransport, Transport
from httpx import Response

from fastapi_users_knox import (
    KnoxCookieTransport,
    KnoxSettings,
    current_token,
    tokens,
)
from tests.asgi import talk
from tests.models import User
from tests.site import (
    Served,
    World,
    bearer,
    bearing,
    build_app,
    client_of,
    create_users,
    knox_backend,
    login,
    shared,
)
from tests.strategies import MINUTE, flipped

TOKEN = tokens.generate("00", prefix="")
COOKIE = KnoxCookieTransport()
SEVERAL = (bearer(header_prefix="Token"), COOKIE, bearer("other/login", "X-Knox"))
PREFIXES = ["Bearer", *(pytest.param(name, marks=pytest.mark.unmeasured) for name in ("Token", "tOKEN", "X-Knox.2"))]
# Routes with `current_user` and with `current_token`, and two routes of `get_knox_router`.
REFUSING = [("GET", "/active"), ("GET", "/token"), ("GET", "/knox/sessions"), ("POST", "/knox/rotate")]


@shared
def create_site(*transports: Transport) -> FastAPI:
    """Build an application with the exception handler, and routes with rules for tokens of the first transport."""
    names = ["knox", *(f"other{number}" for number in range(1, len(transports)))]
    backends = [knox_backend(name, transport) for name, transport in zip(names, transports, strict=True)]
    app, users = build_app(*backends, explains_401=True), create_users(*backends)
    rules: dict[str, dict[str, Any]] = {"token": {}, "staff": {"superuser": True}, "fresh": {"fresh_within": MINUTE}}
    for name, rule in rules.items():
        needed = Depends(current_token(users, backends[0], **rule))
        app.add_api_route(f"/{name}", _nothing, dependencies=[needed])
        app.add_api_websocket_route(f"/ws/{name}", _nothing, dependencies=[needed])
    return app


async def _nothing() -> None:
    """Return nothing; every request of these tests is refused before."""


def answer_of(response: Response) -> tuple[int, list[str]]:
    """Return the status and the challenges of a response."""
    return response.status_code, response.headers.get_list("WWW-Authenticate")


async def refusals(app: Served, headers: dict[str, str]) -> list[str]:
    """Return the distinct challenges of all routes; each route must refuse the request."""
    async with client_of(app) as client:
        answers = [await client.request(method, path, headers=headers) for method, path in REFUSING]
    assert {answer.status_code for answer in answers} == {401}
    return sorted({challenge for answer in answers for challenge in answer.headers.get_list("WWW-Authenticate")})


@pytest.mark.parametrize("prefix", PREFIXES)
@pytest.mark.parametrize(
    ("presented", "error"),
    [
        ("", None),
        ("{prefix}", None),
        ("Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ==", None),
        ("Other junk", None),
        ("{prefix} junk", "invalid_token"),
    ],
)
async def test_every_refusal_names_the_prefix(world: World, *, prefix: str, presented: str, error: str | None) -> None:
    """Every 401 names the transport's prefix, with an error only if a token was presented behind that prefix."""
    app = world.serving(create_site(bearer(header_prefix=prefix)))

    challenges = await refusals(app, {"Authorization": presented.format(prefix=prefix)})

    assert challenges == [prefix if error is None else f'{prefix} error="{error}"']


@pytest.mark.parametrize("prefix", PREFIXES)
async def test_a_refused_websocket_names_the_prefix(world: World, prefix: str) -> None:
    """A refused WebSocket handshake has the same challenge, by `current_user` and by `current_token`."""
    app = world.serving(create_site(bearer(header_prefix=prefix)))
    header = (b"authorization", f"{prefix} junk".encode())

    started = [(await talk(app, path, [header]))[0]["headers"] for path in ("/ws/active", "/ws/token")]

    expected = (b"www-authenticate", f'{prefix} error="invalid_token"'.encode())
    assert [expected in headers for headers in started] == [True, True]


@pytest.mark.parametrize("prefix", PREFIXES)
async def test_a_live_token_that_is_not_enough(world: World, ada: User, prefix: str) -> None:
    """A missing permission and an old login are reported in the transport's scheme."""
    app = world.serving(create_site(bearer(header_prefix=prefix)))
    async with client_of(app) as client:
        headers = bearing(await login(client, email=ada.email), prefix)
        world.clock.now += 2 * MINUTE
        staff, fresh = [await client.get(path, headers=headers) for path in ("/staff", "/fresh")]

    described = 'error_description="The login is too long ago; authenticate again", max_age="60"'
    assert answer_of(staff) == (403, [f'{prefix} error="insufficient_scope"'])
    assert answer_of(fresh) == (401, [f'{prefix} error="insufficient_user_authentication", {described}'])


@pytest.mark.parametrize("prefix", PREFIXES)
async def test_what_the_strategy_refuses_names_the_prefix(world: World, ada: User, prefix: str) -> None:
    """A logout that the strategy refuses is reported in the transport's scheme."""
    settings = {name: KnoxSettings(audience=name) for name in ("web", "api")}
    backends = [knox_backend(name, bearer("login", prefix)) for name in settings]
    async with world.having(**settings).client(*backends) as client:
        token = await login(client, "api", email=ada.email)
        response = await client.post("/web/logout", headers=bearing(token, prefix))

    assert answer_of(response) == (401, [f'{prefix} error="invalid_token"'])


@pytest.mark.parametrize(
    ("headers", "challenge"),
    [
        ({}, "Bearer"),
        ({"Cookie": "theme=dark"}, "Bearer"),
        ({"Cookie": "__Host-knox=junk"}, 'Bearer error="invalid_token"'),
        ({"Cookie": f"__Host-knox={flipped(TOKEN)}"}, 'Bearer error="invalid_token"'),
        ({"Cookie": f"__Host-knox={TOKEN}"}, 'Bearer error="invalid_token"'),
    ],
)
async def test_a_cookie_has_the_scheme_bearer(world: World, *, headers: dict[str, str], challenge: str) -> None:
    """A cookie's challenge is Bearer, because RFC 9110 requires a scheme and none is registered for cookies."""
    assert await refusals(world.serving(create_site(COOKIE)), headers) == [challenge]


async def test_a_cookie_from_another_site_is_not_presented(world: World) -> None:
    """A request that may not use its cookie is refused like one without a cookie."""
    app = world.serving(create_site(COOKIE))
    headers = {"Cookie": f"__Host-knox={TOKEN}", "Sec-Fetch-Site": "cross-site"}
    async with client_of(app) as client:
        answers = [await client.post(path, headers=headers) for path in ("/knox/rotate", "/knox/logout")]

    assert [answer_of(answer) for answer in answers] == [(401, ["Bearer"])] * 2


@pytest.mark.parametrize(
    ("headers", "challenge"),
    [
        ({}, "Token, X-Knox"),
        ({"Authorization": "Token junk"}, 'Token error="invalid_token"'),
        ({"Authorization": "X-Knox junk"}, 'X-Knox error="invalid_token"'),
        ({"Authorization": "Bearer junk"}, "Token, X-Knox"),
        ({"Cookie": "__Host-knox=junk"}, 'Token error="invalid_token", X-Knox error="invalid_token"'),
    ],
)
async def test_several_transports_are_all_named(world: World, *, headers: dict[str, str], challenge: str) -> None:
    """The challenge names the schemes of all transports, or only the presented token's scheme (RFC 9110 §11.6.1)."""
    async with client_of(world.serving(create_site(*SEVERAL))) as client:
        response = await client.get("/active", headers=headers)

    assert answer_of(response) == (401, [challenge])


@pytest.mark.parametrize(
    ("transport", "headers", "challenge"),
    [
        (BearerTransport("knox/login"), {}, "Bearer"),
        (BearerTransport("knox/login"), {"Authorization": "Bearer junk"}, 'Bearer error="invalid_token"'),
        (CookieTransport("knox"), {}, "Bearer"),
        (
            CookieTransport("knox"),
            {"Cookie": f"knox={TOKEN}"},
            'Bearer error="invalid_token"',
        ),
    ],
)
async def test_fastapi_users_transports_are_bearer(
    world: World, *, transport: Transport, headers: dict[str, str], challenge: str
) -> None:
    """FastAPI-Users' own transports are challenged as Bearer."""
    assert await refusals(world.serving(create_site(transport)), headers) == [challenge]
