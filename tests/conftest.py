"""Fixtures for all tests: the servers, one of each a run, and the databases on them; and which tests need servers."""

import gc
import sys
import threading
from collections.abc import AsyncIterator, Generator, Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path

import pytest
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession, async_sessionmaker
from sqlalchemy.pool import QueuePool

from tests.backends import ASK_WAIT, FREEZE, IMPATIENT, MEMORY, POOL, REDIS, SERVERS, SQLITE, Backend, RedisBackend
from tests.models import create_empty_tables
from tests.redis.clients import CLIENTS, TO_REPLICAS
from tests.redis_servers import ClusterServers, RedisServer, SentinelServers, redis, redis_cluster, redis_sentinel
from tests.servers import Server, skip_if_unavailable
from tests.sql_servers import mariadb, postgresql

SERVER_FIXTURES = {
    *("postgresql_server", "mariadb_server", "redis_6_server", "redis_7_server", "valkey_server"),
    *("redis_cluster_servers", "redis_sentinel_servers"),
}
SERVER_NAMES = {*SERVER_FIXTURES, *SERVERS, *REDIS, *CLIENTS, *TO_REPLICAS}
# One server of each kind reaches every line; what another driver, level or release does differently is not in ours.
MEASURED = {"postgresql-asyncpg", "mariadb", "redis-7", "redis-cluster", "redis_7_server"}
VARIANTS = {*SERVERS, *REDIS, *CLIENTS, *TO_REPLICAS, "redis_6_server", "valkey_server"} - MEASURED

# Those that start a server, a browser or other processes by themselves, or follow a page in a process of its own.
PROGRAMS = {
    *("tests.docs", "tests.test_benchmarks", "tests.test_benchmarks_http", "tests.test_example_app"),
    *("tests.test_example_program", "tests.test_races", "tests.transports.test_chromium"),
}


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark the tests that need a server, by their fixtures and parameters, and those that need not be measured."""
    for item in items:
        names = {*getattr(item, "fixturenames", ()), *_texts_among_parameters(item)}
        module = ".".join(item.path.relative_to(item.config.rootpath).with_suffix("").parts)
        if names & SERVER_NAMES or {module, module.rpartition(".")[0]} & PROGRAMS:
            item.add_marker("server")
        if names & VARIANTS:
            item.add_marker("unmeasured")


def _texts_among_parameters(item: pytest.Item) -> Iterator[str]:
    callspec = getattr(item, "callspec", None)
    yield from (value for value in (callspec.params.values() if callspec else ()) if isinstance(value, str))


def pytest_collection_finish() -> None:
    """Let the garbage collector pass over what stays till the end: the modules and the tests themselves."""
    gc.collect()
    gc.freeze()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> Generator[None, object, object]:
    """Measure no coverage in tests that are marked `unmeasured`."""
    with nullcontext() if item.get_closest_marker("unmeasured") is None else untraced():
        return (yield)


@contextmanager
def untraced() -> Iterator[None]:
    """Trace neither what runs here nor the processes that it starts: that takes as long as what is traced."""
    here, in_threads = sys.gettrace(), threading.gettrace()
    sys.settrace(None)
    threading.settrace(None)
    try:
        with pytest.MonkeyPatch.context() as patch:
            patch.delenv("COVERAGE_PROCESS_CONFIG", raising=False)
            yield
    finally:
        sys.settrace(here)
        threading.settrace(in_threads)


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


@pytest.fixture(scope="session")
def redis_6_server() -> Iterator[RedisServer]:
    """Run a Redis 6.2 of our own."""
    with skip_if_unavailable(), redis("redis-6.2") as server:
        yield server


@pytest.fixture(scope="session")
def redis_7_server() -> Iterator[RedisServer]:
    """Run a Redis 7, or whichever newer one the machine has, of our own."""
    with skip_if_unavailable(), redis("redis-7") as server:
        yield server


@pytest.fixture(scope="session")
def valkey_server() -> Iterator[RedisServer]:
    """Run a Valkey of our own."""
    with skip_if_unavailable(), redis("valkey") as server:
        yield server


@pytest.fixture(scope="session")
def redis_cluster_servers() -> Iterator[ClusterServers]:
    """Run a cluster of our own, of three masters and their replicas."""
    with skip_if_unavailable(), redis_cluster("any", replicas=1) as servers:
        yield servers


@pytest.fixture(scope="session")
def redis_sentinel_servers() -> Iterator[SentinelServers]:
    """Run a master, a replica and a sentinel of our own, for tests that let the master be."""
    with skip_if_unavailable(), redis_sentinel("any", down_after=600_000) as servers:
        yield servers


@pytest.fixture(scope="session")
def anyio_backend() -> str:
    """Run on asyncio, as SQLAlchemy does; fixtures of every scope may be asynchronous."""
    return "asyncio"


def backend_of(name: str, request: pytest.FixtureRequest, path: Path) -> Backend:
    """Make a backend by its name, with its server running and its files in a directory."""
    if name in REDIS:
        fixture, connect = REDIS[name]
        users = SQLITE["sqlite"](path)
        return RedisBackend(url=users.url, options=users.options, connect=connect(request.getfixturevalue(fixture)))
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
    return backend_of(request.param, request, tmp_path)


@pytest.fixture(params=[*SQLITE, *MEMORY, *SERVERS])
def any_backend(request: pytest.FixtureRequest, tmp_path: Path) -> Backend:
    """Give each database, SQLite in memory included."""
    return backend_of(request.param, request, tmp_path)


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
