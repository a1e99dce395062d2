"""Fixtures for all tests: the servers, one of each a run, and the databases on them."""

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession, async_sessionmaker
from sqlalchemy.pool import QueuePool

from tests.backends import ASK_WAIT, FREEZE, IMPATIENT, MEMORY, POOL, SERVERS, SQLITE, Backend
from tests.models import create_empty_tables
from tests.servers import Server, mariadb, postgresql, skip_if_unavailable


@pytest.fixture(scope="session")
def postgresql_server() -> Iterator[Server]:
    """Run a PostgreSQL of our own."""
    with skip_if_unavailable(), postgresql() as server:
        yield server


@pytest.fixture(scope="session")
def mariadb_server() -> Iterator[Server]:
    """Run a MariaDB of our own."""
    with skip_if_unavailable(), mariadb() as server:
        yield server


@pytest.fixture
def anyio_backend() -> str:
    """Run on asyncio, as SQLAlchemy does."""
    return "asyncio"


def _backend(name: str, request: pytest.FixtureRequest, path: Path) -> Backend:
    if name in SERVERS:
        fixture, scheme, options = SERVERS[name]
        server: Server = request.getfixturevalue(fixture)
        return Backend(
            url=server.url(scheme),
            options=POOL | dict(options),
            freeze=FREEZE[fixture],
            impatient=IMPATIENT,
            ask_wait=ASK_WAIT[fixture],
        )
    return {**SQLITE, **MEMORY}[name](path)


@pytest.fixture(params=[*SQLITE, *SERVERS])
def backend(request: pytest.FixtureRequest, tmp_path: Path) -> Backend:
    """Give each database that several connections can share."""
    return _backend(request.param, request, tmp_path)


@pytest.fixture(params=[*SQLITE, *MEMORY, *SERVERS])
def any_backend(request: pytest.FixtureRequest, tmp_path: Path) -> Backend:
    """Give each database, SQLite in memory included."""
    return _backend(request.param, request, tmp_path)


@pytest.fixture
async def engine(any_backend: Backend) -> AsyncIterator[AsyncEngine]:
    """Give an engine on empty tables, and see that no connection stays checked out."""
    engine = any_backend.create_engine()
    await create_empty_tables(engine)
    yield engine
    pool = engine.pool
    checked_out = pool.checkedout() if isinstance(pool, QueuePool) else 0
    await engine.dispose()
    assert checked_out == 0


@pytest.fixture(params=[True, False], ids=["expiring", "keeping"])
def sessions(request: pytest.FixtureRequest, engine: AsyncEngine) -> async_sessionmaker[AsyncSession]:
    """Give sessions, with `expire_on_commit` on and off."""
    return async_sessionmaker(engine, expire_on_commit=request.param)
