"""The application behind a real server: any malformed token that the server passes on gives 401."""

import asyncio
import socket
from collections.abc import AsyncIterator

import pytest
from httpx import AsyncClient
from uvicorn import Config, Server

from tests.routers.test_junk import HEADERS
from tests.site import Database, Served, credentials, login
from tests.strategies import sent_to, stored, verbs

pytestmark = pytest.mark.unmeasured

Address = tuple[str, int]

BYTES = {name: headers for name, headers in HEADERS.items() if "1 MB" not in name}


@pytest.fixture(params=["h11", "httptools"])
async def address(request: pytest.FixtureRequest, app: Served) -> AsyncIterator[Address]:
    """Serve the application by uvicorn on a free port, with each of its HTTP parsers."""
    pytest.importorskip(request.param)
    with socket.create_server(("127.0.0.1", 0)) as listening:
        server = Server(Config(app, http=request.param, ws="none", lifespan="off", log_config=None))
        serving = asyncio.create_task(server.serve(sockets=[listening]))
        yield listening.getsockname()
        server.should_exit = True
        await serving


async def answered(address: Address, headers: list[tuple[bytes, bytes]], path: bytes = b"/active") -> tuple[int, bytes]:
    """Send these exact bytes over a connection, and return the status and the body of the response."""
    reader, writer = await asyncio.open_connection(*address)
    lines = [
        b"GET " + path + b" HTTP/1.1",
        b"Host: test",
        b"Connection: close",
        *(b": ".join(header) for header in headers),
    ]
    writer.write(b"\r\n".join([*lines, b"", b""]))
    answer = await reader.read()
    writer.close()
    await writer.wait_closed()
    return int(answer.split(b" ")[1]), answer.partition(b"\r\n\r\n")[2]


async def test_junk_is_refused_behind_a_server(address: Address, database: Database) -> None:
    """A malformed header gives 401, or 400 if the server itself refuses it, and sends no statement."""
    with sent_to(database.engine) as statements:
        answers = {name: (await answered(address, headers))[0] for name, headers in BYTES.items()}

    passed_on = {
        name for name, headers in BYTES.items() if not any(byte < 32 for _, header in headers for byte in header)
    }
    assert set(answers.values()) <= {400, 401}
    assert {answers[name] for name in passed_on} == {401}
    assert statements == []


async def test_a_long_header_is_refused_behind_a_server(address: Address) -> None:
    """A malformed token gives 401 up to the longest header that the server accepts."""
    answers = [
        await answered(address, [(b"Authorization", b"Bearer " + b"a" * size)]) for size in (1_000, 10_000, 60_000)
    ]

    assert {status for status, _ in answers} == {401}


async def test_a_token_is_accepted_behind_a_server(address: Address, client: AsyncClient, database: Database) -> None:
    """A token is accepted over a real connection, also with spaces around it."""
    await database.create_user()
    token = (await login(client)).encode()

    with sent_to(database.engine) as statements:
        answers = [
            await answered(address, [(b"Authorization", prefix + token + b" ")])
            for prefix in (b"Bearer ", b"bearer  ", b" BEARER ")
        ]

    assert answers == [(200, b'"ada@example.org"')] * 3
    assert verbs(statements) == ["SELECT"] * 3


async def test_a_login_behind_a_server_notes_the_address(address: Address, database: Database) -> None:
    """The record of a login holds the client's address as the server reports it."""
    await database.create_user()

    async with AsyncClient(base_url=f"http://{address[0]}:{address[1]}") as client:
        response = await client.post("/knox/login", data=credentials())

    [row] = await stored(database.engine)
    assert response.status_code == 200
    assert row.ip_address == "127.0.0.1"
