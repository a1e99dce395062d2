"""The private SQL servers of the tests can be used, killed, paused and started again, and leave nothing behind."""

import asyncio
import importlib.util
import socket
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

import pytest
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection, create_async_engine

from tests.conftest import PROGRAMS
from tests.servers import HOST, PortTaken, Server, ServerUnavailable, free_ports, skip_if_unavailable
from tests.sql_servers import mariadb, postgresql

pytestmark = [pytest.mark.server, pytest.mark.unmeasured]

KINDS = {"postgresql+asyncpg": postgresql, "mysql+asyncmy": mariadb}


@dataclass(frozen=True)
class Client:
    """A client of a server that uses one of SQLAlchemy's drivers."""

    server: Server
    driver: str

    @asynccontextmanager
    async def connect(self) -> AsyncIterator[AsyncConnection]:
        """Open a connection that commits at the end of the block."""
        engine = create_async_engine(self.server.url(self.driver))
        try:
            async with engine.begin() as connection:
                yield connection
        finally:
            await engine.dispose()

    async def execute(self, *statements: str) -> None:
        """Execute statements on a new connection, and commit."""
        async with self.connect() as connection:
            for statement in statements:
                await connection.execute(text(statement))

    async def ask(self, question: str) -> object:
        """Return the single value that a query returns."""
        async with self.connect() as connection:
            return await connection.scalar(text(question))


@pytest.fixture(scope="module", params=KINDS)
def client(request: pytest.FixtureRequest) -> Iterator[Client]:
    """Run a server of each kind, and return a client of it."""
    with skip_if_unavailable(), KINDS[request.param]() as server:
        yield Client(server, request.param)


def test_a_killed_server_keeps_port_and_data(client: Client) -> None:
    """A server that was killed and started again has the same URL and all committed data."""
    asyncio.run(client.execute("CREATE TABLE kept (value INTEGER)", "INSERT INTO kept VALUES (7)"))

    client.server.kill()
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection((HOST, client.server.port))
    client.server.start()

    assert asyncio.run(client.ask("SELECT value FROM kept")) == 7


def test_a_paused_server_answers_later(client: Client) -> None:
    """A query that is sent to a paused server is answered after the pause."""

    async def ask_while_paused() -> tuple[bool, object]:
        async with client.connect() as connection:
            with client.server.paused():
                question = asyncio.ensure_future(connection.scalar(text("SELECT 1")))
                answered, _ = await asyncio.wait({question}, timeout=0.2)
            return bool(answered), await question

    assert asyncio.run(ask_while_paused()) == (False, 1)


def test_a_taken_port_is_reported_and_passed_over(client: Client) -> None:
    """A server whose port is taken raises `PortTaken`, and `start_on_one_of` tries the next port."""
    taken = client.server.port
    client.server.kill()

    with socket.create_server((HOST, taken)):
        with pytest.raises(PortTaken, match="Address already in use"):
            client.server.start()
        client.server.start_on_one_of([taken, *free_ports()])

    assert client.server.port != taken
    assert asyncio.run(client.ask("SELECT 1")) == 1


@pytest.mark.parametrize("driver", KINDS)
def test_nothing_stays_behind(driver: str) -> None:
    """After the block, the server's directory is removed and nothing listens on its port."""
    with skip_if_unavailable(), KINDS[driver]() as server:
        assert server.home.path.exists()

    assert not server.home.path.exists()
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection((HOST, server.port))


@pytest.mark.parametrize("name", sorted(PROGRAMS))
def test_a_name_among_the_programs_exists(name: str) -> None:
    """Each name of `PROGRAMS` is a module or a folder of tests, so none that was renamed loses its marks unnoticed."""
    assert importlib.util.find_spec(name)


def test_a_missing_server_is_a_skip(monkeypatch: pytest.MonkeyPatch) -> None:
    """Tests of a server that the machine does not have are skipped."""
    monkeypatch.delenv("KNOX_REQUIRE_BACKENDS", raising=False)

    with pytest.raises(pytest.skip.Exception, match="no such program"), skip_if_unavailable():
        raise ServerUnavailable("no such program")


def test_a_missing_server_is_a_failure_where_all_are_required(monkeypatch: pytest.MonkeyPatch) -> None:
    """With `KNOX_REQUIRE_BACKENDS=1`, a missing server is an error instead of a skip."""
    monkeypatch.setenv("KNOX_REQUIRE_BACKENDS", "1")

    with pytest.raises(ServerUnavailable, match="no such program"), skip_if_unavailable():
        raise ServerUnavailable("no such program")
