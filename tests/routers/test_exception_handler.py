"""The handler of 401 answers: FastAPI-Users' own get the header `WWW-Authenticate`, too."""

import pytest
from fastapi import FastAPI
from fastapi.exceptions import HTTPException
from fastapi.requests import HTTPConnection
from starlette.exceptions import HTTPException as AnyHTTPException

from fastapi_users_knox import unauthorized
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
    """Give the application with our handler of 401 answers."""
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
    """With the handler added, `current_user` distinguishes a refused token from none."""
    async with client_of(explaining) as client:
        response = await client.get("/active", headers=headers)

    assert (response.status_code, response.json()) == (401, {"detail": "Unauthorized"})
    assert response.headers["WWW-Authenticate"] == challenge


async def test_a_dead_cookie_or_another_prefix_counts_as_presented(world: World, ada: User) -> None:
    """A token of ours is one wherever it stands."""
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
    """Detail and headers stay, and a challenge that is there is not replaced."""
    app = FastAPI()
    app.add_exception_handler(401, unauthorized)

    @app.get("/")
    async def refuse() -> None:
        raise error

    async with client_of(app) as client:
        response = await client.get("/")

    assert (response.status_code, response.json()) == (401, {"detail": error.detail})
    assert response.headers.get_list("WWW-Authenticate") == [challenge]
    assert response.headers["X-Mine"] == "kept"


async def test_a_websocket_s_401_gets_the_header(explaining: Served) -> None:
    """A refused handshake has an answer, which the handler serves too."""
    [start, *_] = await talk(explaining, "/ws/active", [(b"authorization", b"Bearer junk")])

    assert (start["type"], start["status"]) == ("websocket.http.response.start", 401)
    assert (b"www-authenticate", INVALID.encode()) in start["headers"]


async def test_any_other_error_stays_one() -> None:
    """Set as the handler of what is no HTTP error, it hides nothing."""
    with pytest.raises(LookupError):
        await unauthorized(HTTPConnection({"type": "http", "headers": []}), LookupError())
