"""The exception handler that adds `WWW-Authenticate` to FastAPI-Users' 401 responses."""

import pytest
from fastapi import FastAPI
from fastapi.exceptions import HTTPException
from fastapi.requests import HTTPConnection
from starlette.exceptions import HTTPException as AnyHTTPException

from fastapi_users_knox import unauthorized_handler
from tests.asgi import talk
from tests.models import User
from tests.site import (
    Served,
    World,
    bearer,
    bearing,
    client_of,
    cookie_backend,
    create_app,
    knox_backend,
    login,
)

INVALID = 'Bearer error="invalid_token"'


@pytest.fixture
def explaining(world: World) -> Served:
    """Return the application with `unauthorized_handler`."""
    return world.serving(create_app(knox_backend(), explains_401=True))


@pytest.mark.parametrize(
    ("headers", "challenge"),
    [
        ({}, "Bearer"),
        ({"Authorization": "Bearer "}, "Bearer"),
        ({"Authorization": "Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ=="}, "Bearer"),
        ({"Cookie": "theme=dark"}, "Bearer"),
        ({"Authorization": "Bearer junk"}, INVALID),
    ],
)
async def test_fastapi_users_401_gets_the_header(
    explaining: Served, *, headers: dict[str, str], challenge: str
) -> None:
    """With the handler, `WWW-Authenticate` reports an invalid token only if the request presented one."""
    async with client_of(explaining) as client:
        response = await client.get("/active", headers=headers)

    assert (response.status_code, response.json()) == (401, {"detail": "Unauthorized"})
    assert response.headers["WWW-Authenticate"] == challenge


async def test_a_revoked_token_counts_as_presented(world: World, ada: User) -> None:
    """A revoked token in a cookie or behind another header prefix is reported as an invalid token."""
    knox = knox_backend(transport=bearer(header_prefix="Token"))
    async with world.client(knox, cookie_backend(), explains_401=True) as client:
        token = await login(client, email=ada.email)
        await client.post("/knox/logout-all", headers=bearing(token, "Token"))
        answers = [
            await client.get("/active", headers=headers)
            for headers in (bearing(token, "Token"), {"Cookie": f"knox={token}"})
        ]

    expected = [(401, 'Token error="invalid_token"')] * 2
    assert [(answer.status_code, answer.headers["WWW-Authenticate"]) for answer in answers] == expected


@pytest.mark.parametrize(
    ("error", "challenge"),
    [
        (HTTPException(401, {"code": "OURS"}, {"X-Mine": "kept"}), "Bearer"),
        (HTTPException(401, "OURS", {"www-authenticate": "Basic", "X-Mine": "kept"}), "Basic"),
        (AnyHTTPException(401, "OURS", {"X-Mine": "kept"}), "Bearer"),
    ],
)
async def test_an_application_s_own_401_is_kept(error: AnyHTTPException, challenge: str) -> None:
    """The handler keeps an application's own detail and headers, including its challenge."""
    app = FastAPI()
    app.add_exception_handler(401, unauthorized_handler)

    @app.get("/")
    async def refuse() -> None:
        raise error

    async with client_of(app) as client:
        response = await client.get("/")

    assert (response.status_code, response.json()) == (401, {"detail": error.detail})
    assert response.headers.get_list("WWW-Authenticate") == [challenge]
    assert response.headers["X-Mine"] == "kept"


async def test_a_websocket_s_401_gets_the_header(explaining: Served) -> None:
    """The 401 that refuses a WebSocket handshake has the header too."""
    [start, *_] = await talk(explaining, "/ws/active", [(b"authorization", b"Bearer junk")])

    assert (start["type"], start["status"]) == ("websocket.http.response.start", 401)
    assert (b"www-authenticate", INVALID.encode()) in start["headers"]


async def test_any_other_error_is_raised_again() -> None:
    """Registered for an exception that is not an HTTP error, the handler raises it again."""
    with pytest.raises(LookupError):
        await unauthorized_handler(HTTPConnection({"type": "http", "headers": []}), LookupError())
