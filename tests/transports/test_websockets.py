"""A WebSocket authenticates by the token in the cookie or in the header."""

from collections.abc import Callable

import pytest
from httpx import AsyncClient

from fastapi_users_knox import KnoxCookieTransport
from tests.asgi import socket_to
from tests.models import User
from tests.site import Served, credentials
from tests.strategies import HOUR, Clock

pytestmark = pytest.mark.unmeasured

TOKEN = KnoxCookieTransport().cookie_name

PRESENTING: dict[str, Callable[[str], dict[str, str]]] = {
    "cookie": lambda token: {"Cookie": f"{TOKEN}={token}", "Origin": "https://test"},
    "a program's cookie": lambda token: {"Cookie": f"{TOKEN}={token}"},
    "header": lambda token: {"Authorization": f"Bearer {token}"},
    "header from elsewhere": lambda token: {"Authorization": f"Bearer {token}", "Origin": "https://elsewhere"},
}
REFUSED: dict[str, Callable[[str], dict[str, str]]] = {
    "nothing": lambda _: {},
    "junk": lambda token: {"Cookie": f"{TOKEN}={token[:-1]}", "Authorization": "Bearer junk"},
    "another cookie": lambda token: {"Cookie": f"knox={token}"},
    "another page's": lambda token: {"Cookie": f"{TOKEN}={token}", "Origin": "https://elsewhere"},
    "a plain page's": lambda token: {"Cookie": f"{TOKEN}={token}", "Origin": "http://test"},
}


@pytest.fixture
async def token(stranger: AsyncClient, ada: User) -> str:
    """Log in and return the token."""
    response = await stranger.post("/bearer/login", data=credentials(ada.email))
    text: str = response.json()["access_token"]
    return text


@pytest.mark.parametrize("present", PRESENTING.values(), ids=PRESENTING)
async def test_who_is_let_in(app: Served, token: str, present: Callable[[str], dict[str, str]]) -> None:
    """A WebSocket is accepted with the token in the cookie or in the header, because every backend is tried."""
    async with socket_to(app, "/ws", present(token)) as socket:
        accepted, message = await socket.receive(), await socket.receive()

    assert (accepted["type"], message["text"]) == ("websocket.accept", "ada@example.org")


@pytest.mark.parametrize("present", REFUSED.values(), ids=REFUSED)
async def test_who_is_refused(app: Served, token: str, present: Callable[[str], dict[str, str]]) -> None:
    """A WebSocket is refused without a valid token, or if its page may not use the cookie."""
    async with socket_to(app, "/ws", present(token)) as socket:
        answer = await socket.receive()

    assert answer["type"] != "websocket.accept"


async def test_an_expired_token_opens_none(app: Served, token: str, clock: Clock) -> None:
    """An expired token opens no WebSocket."""
    clock.now += HOUR

    async with socket_to(app, "/ws", {"Cookie": f"{TOKEN}={token}"}) as socket:
        answer = await socket.receive()

    assert answer["type"] != "websocket.accept"
