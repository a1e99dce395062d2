"""The same application behind a real server: what of the junk gets through it gives 401."""

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
    """Serve the application by uvicorn, with either of its parsers, on a free port."""
    pytest.importorskip(request.param)
    with socket.create_server(("127.0.0.1", 0)) as listening:
        server = Server(Config(app, http=request.param, ws="none", lifespan="off", log_config=None))
        serving = asyncio.create_task(server.serve(sockets=[listening]))
        yield listening.getsockname()
        server.should_exit = True
        await serving


async def answered(address: Address, headers: list[tuple[bytes, bytes]], path: bytes = b"/active") -> tuple[int, bytes]:
    """Send these very bytes over a connection, and return the answer's status and what follows it."""
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
    """Whatever bytes a server lets through give 401, what it does not is its own 400, and nothing is 500."""
    with sent_to(database.engine) as statements:
        answers = {name: (await answered(address, headers))[0] for name, headers in BYTES.items()}

    let_through = {
        name for name, headers in BYTES.items() if not any(byte < 32 for _, header in headers for byte in header)
    }
    assert set(answers.values()) <= {400, 401}
    assert {answers[name] for name in let_through} == {401}
    assert statements == []


async def test_a_long_header_is_refused_behind_a_server(address: Address) -> None:
    """As much as a server takes is refused as any junk."""
    answers = [
        await answered(address, [(b"Authorization", b"Bearer " + b"a" * size)]) for size in (1_000, 10_000, 60_000)
    ]

    assert {status for status, _ in answers} == {401}


async def test_a_token_is_accepted_behind_a_server(address: Address, client: AsyncClient, database: Database) -> None:
    """A token from a login is the user's, on a real connection too, and spaces around it do no harm."""
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
    """What the server knows of the connection is in the record."""
    await database.create_user()

    async with AsyncClient(base_url=f"http://{address[0]}:{address[1]}") as client:
        response = await client.post("/knox/login", data=credentials())

    [row] = await stored(database.engine)
    assert response.status_code == 200
    assert row.ip_address == "127.0.0.1"
