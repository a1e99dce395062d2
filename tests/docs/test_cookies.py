"""The applications of the page on cookies work as the page describes."""

import math
import re
import sqlite3
import uuid
from collections.abc import AsyncIterator, Iterator
from contextlib import closing, contextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from fastapi.requests import HTTPConnection
from httpx import ASGITransport, AsyncClient
from sqlalchemy import select, update
from sqlalchemy.pool import QueuePool

from fastapi_users_knox import ClientInfo, TokenExpired, TokenIssued, TokenRecord
from tests.asgi import Socket, socket_to
from tests.docs.folder import DOCS, LOGIN, ORIGIN, calling, load

SECOND = timedelta(seconds=1)
MINUTE = timedelta(minutes=1)
HOUR = timedelta(hours=1)
COOKIE = "__Host-knox"


# the applications


@pytest.mark.usefixtures("jane")
async def test_a_browser_logs_in_by_cookie_and_a_program_by_header() -> None:
    """One route accepts the cookie and the header, the cookie is as shown, and a logout deletes it."""
    shown = re.search(r"^Set-Cookie: (.+)$", (DOCS / "cookies.md").read_text(), re.MULTILINE)
    async with calling(load("cookies").app) as browser:
        program = (await browser.post("/auth/login", data=LOGIN)).json()["access_token"]
        by_header = await browser.post("/authenticated-route", headers={"Authorization": f"Bearer {program}"})
        login = await browser.post("/browser/login", data=LOGIN)
        by_cookie = await browser.post("/authenticated-route")
        forged = await browser.post("/authenticated-route", headers={"Sec-Fetch-Site": "cross-site"})
        logout = await browser.post("/browser/logout")
        after = await browser.post("/authenticated-route")

    assert shown
    assert re.sub("knox_[0-9A-Za-z]+", "knox_...", login.headers["Set-Cookie"]) == shown[1]
    assert (login.status_code, logout.status_code) == (204, 204)
    assert [by_header.json(), by_cookie.json()] == ["Hello jane@example.org!"] * 2
    assert (forged.status_code, after.status_code) == (401, 401)


async def shift(**by: timedelta) -> None:
    """Move these times of all records."""
    db = load("db")
    async with db.async_session_maker() as session:
        for record in await session.scalars(select(db.KnoxToken)):
            for name, delta in by.items():
                setattr(record, name, getattr(record, name) + delta)
        await session.commit()


@pytest.mark.usefixtures("jane")
async def test_a_refresh_moves_the_cookie() -> None:
    """With the settings shown, a cookie used 20 minutes after the login is valid for half an hour again."""
    load("settings").settings = load("auto_refresh").settings
    async with calling(load("cookies").app) as browser:
        await browser.post("/browser/login", data=LOGIN)
        await shift(created_at=-20 * MINUTE, expires_at=-20 * MINUTE)
        answer = await browser.post("/authenticated-route")

    assert answer.status_code == 200
    assert "; Max-Age=1800; " in answer.headers["Set-Cookie"]


async def test_a_frontend_s_requests_are_trusted() -> None:
    """The transport trusts the same origins that CORS allows to read responses."""
    module = load("cookie_frontend")
    async with AsyncClient(transport=ASGITransport(module.app), base_url="https://api.example.org") as client:
        for origin, is_trusted in (("https://app.example.org", True), ("https://evil.example.org", False)):
            headers = {"Origin": origin, "Access-Control-Request-Method": "POST"}
            preflight = await client.options("/", headers=headers)

            scope = {"type": "http", "method": "POST", "headers": [(b"origin", origin.encode())]}
            assert module.transport.trusts(HTTPConnection(scope)) == is_trusted
            assert (preflight.headers.get("Access-Control-Allow-Origin") == origin) == is_trusted
            assert preflight.headers["Access-Control-Allow-Credentials"] == "true"


@pytest.mark.usefixtures("jane")
async def test_no_other_page_logs_a_browser_in() -> None:
    """A login sent by another origin's page gets 403 and sets no cookie."""
    async with calling(load("cookie_login").app) as browser:
        forged = await browser.post("/browser/login", data=LOGIN, headers={"Origin": "https://evil.example.org"})
        own = await browser.post("/browser/login", data=LOGIN, headers={"Origin": ORIGIN})

    assert (forged.status_code, own.status_code) == (403, 204)
    assert "Set-Cookie" not in forged.headers


# WebSockets


@pytest.fixture
def module(jane: str) -> Any:  # noqa: ARG001 (it registers her)
    """Load the application with the WebSocket."""
    return load("live")


@pytest.fixture
async def browser(module: Any) -> AsyncIterator[AsyncClient]:
    """Return a browser that is logged in."""
    async with calling(module.app) as browser:
        await browser.post("/browser/login", data=LOGIN)
        yield browser


def cookie_of(browser: AsyncClient) -> dict[str, str]:
    """Return the headers with which a browser opens a WebSocket."""
    return {"Cookie": f"{COOKIE}={browser.cookies[COOKIE]}", "Origin": "https://test"}


async def converse(socket: Socket) -> None:
    """Require that the WebSocket is open, by sending a message and receiving the reply."""
    socket.send("hello")
    assert (await socket.receive())["text"] == "jane@example.org said hello"


async def is_closed(socket: Socket) -> bool:
    """Return whether the application closes the WebSocket with code 1008."""
    message = await socket.receive()
    return (message["type"], message["code"]) == ("websocket.close", 1008)


async def test_a_websocket_is_opened_by_cookie_or_header(module: Any, browser: AsyncClient) -> None:
    """A WebSocket opens with a cookie or a header, and is forgotten once the client disconnects."""
    token = (await browser.post("/auth/login", data=LOGIN, headers={"Cookie": ""})).json()["access_token"]
    for headers in (cookie_of(browser), {"Authorization": f"Bearer {token}"}):
        async with socket_to(module.app, "/ws", headers) as socket:
            assert (await socket.receive())["type"] == "websocket.accept"
            await converse(socket)

    assert not module.open_scopes


async def test_an_open_websocket_holds_no_connection(module: Any, browser: AsyncClient) -> None:
    """An open WebSocket keeps no database connection checked out."""
    async with socket_to(module.app, "/ws", cookie_of(browser)) as socket:
        await socket.receive()
        await converse(socket)

        assert isinstance(load("db").engine.pool, QueuePool)
        assert load("db").engine.pool.checkedout() == 0


async def test_a_logout_closes_the_websocket(module: Any, browser: AsyncClient) -> None:
    """A logout closes all WebSockets that were opened with its token, and no other WebSockets."""
    async with AsyncClient(transport=ASGITransport(module.app), base_url=ORIGIN) as phone:
        await phone.post("/browser/login", data=LOGIN)
        async with (
            socket_to(module.app, "/ws", cookie_of(browser)) as one,
            socket_to(module.app, "/ws", cookie_of(browser)) as two,
            socket_to(module.app, "/ws", cookie_of(phone)) as other,
        ):
            for socket in (one, two, other):
                await socket.receive()
            await browser.post("/browser/logout")

            assert [await is_closed(one), await is_closed(two)] == [True, True]
            await converse(other)

    assert not module.open_scopes


async def test_the_expiry_closes_the_websocket(module: Any, browser: AsyncClient) -> None:
    """A WebSocket is closed when its token expires, although no event is published then."""
    await shift(created_at=2 * SECOND - 10 * HOUR, expires_at=2 * SECOND - 10 * HOUR)
    db = load("db")
    async with db.async_session_maker() as session:
        await session.execute(update(db.KnoxToken).values(last_used_at=datetime.now(UTC)))  # so that no refresh is due
        await session.commit()

    async with socket_to(module.app, "/ws", cookie_of(browser)) as socket:
        assert (await socket.receive())["type"] == "websocket.accept"
        assert await is_closed(socket)


async def test_a_token_that_is_revoked_meanwhile_opens_no_websocket(module: Any, browser: AsyncClient) -> None:
    """A token that is revoked while its WebSocket is being opened is refused by the second read."""
    note = module.open_till_end

    @contextmanager
    def note_too_late(record: Any) -> Iterator[Any]:
        with closing(sqlite3.connect(str(load("db").engine.url.database))) as connection, connection:
            connection.execute("DELETE FROM knox_token")
        with note(record) as scope:
            yield scope

    vars(module)["open_till_end"] = note_too_late
    async with socket_to(module.app, "/ws", cookie_of(browser)) as socket:
        assert await is_closed(socket)

    assert not module.open_scopes


async def test_an_endless_token_s_websocket_has_no_deadline(module: Any) -> None:
    """The WebSocket of a token that never expires stays open until the token is revoked."""
    now = datetime.now(UTC)
    record = TokenRecord(id=uuid.uuid4(), user_id=uuid.uuid4(), audience="", created_at=now, expires_at=None)

    with module.open_till_end(record) as scope:
        assert scope.deadline == math.inf
        module.close_websockets(TokenIssued(user_id=record.user_id, client=ClientInfo(), record=record))
        assert not scope.cancel_called
        module.close_websockets(TokenExpired(user_id=record.user_id, client=ClientInfo(), record=record))
        assert scope.cancel_called
