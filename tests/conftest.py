"""Fixtures for all tests: one server of each kind for the whole run, the databases on them, and the tests' marks."""

import gc
import sys
import threading
from collections.abc import AsyncIterator, Generator, Iterator
from contextlib import contextmanager, nullcontext
from functools import partialmethod
from importlib import import_module
from pathlib import Path
from pkgutil import walk_packages

import pytest
from hypothesis import HealthCheck, settings
from pwdlib.hashers.argon2 import Argon2Hasher
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession, async_sessionmaker
from sqlalchemy.pool import QueuePool

import fastapi_users_knox
from tests.backends import (
    ASK_WAIT,
    FREEZE,
    IMPATIENT,
    KEEPING,
    MEMORY,
    POOL,
    REDIS,
    SERVERS,
    SQLITE,
    Backend,
    Engines,
    RedisBackend,
)
from tests.delays import lengthen_delays
from tests.models import create_empty_tables
from tests.poolers import pgbouncer
from tests.redis.clients import CLIENTS, TO_REPLICAS
from tests.redis_servers import ClusterServers, RedisServer, SentinelServers, redis, redis_cluster, redis_sentinel
from tests.servers import Server, skip_if_unavailable
from tests.sql_servers import mariadb, postgresql

SERVER_FIXTURES = {
    *("postgresql_server", "pgbouncer_server", "mariadb_server", "redis_6_server", "redis_7_server", "valkey_server"),
    *("redis_cluster_servers", "redis_sentinel_servers"),
}
SERVER_NAMES = {*SERVER_FIXTURES, *SERVERS, *REDIS, *CLIENTS, *TO_REPLICAS}
# One server of each kind reaches every line. Other drivers, isolation levels and releases differ in their own code.
MEASURED = {"postgresql-asyncpg", "mariadb", "redis-7", "redis-cluster", "redis_7_server"}
VARIANTS = {*SERVERS, *REDIS, *CLIENTS, *TO_REPLICAS, "redis_6_server", "valkey_server"} - MEASURED

# The modules that start servers, browsers or other processes without the fixtures above.
PROGRAMS = {
    *("tests.docs", "tests.test_benchmarks", "tests.test_benchmarks_http", "tests.test_example_app"),
    *("tests.test_example_program", "tests.test_generated_client", "tests.test_races"),
    *("tests.transports.test_chromium", "tests.admin.test_chromium"),
}


# A busy machine may need long for an example, so the time says nothing about the code.
settings.register_profile("knox", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("knox")


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark the tests that need a server, by their fixtures and parameters, and those that run without coverage.

    The marks `measured` and `unmeasured` of a test or module say it for what the rule does not know.
    """
    for item in items:
        names = {*getattr(item, "fixturenames", ()), *_texts_among_parameters(item)}
        module = ".".join(item.path.relative_to(item.config.rootpath).with_suffix("").parts)
        is_program = bool({module, module.rpartition(".")[0]} & PROGRAMS)
        if names & SERVER_NAMES or is_program:
            item.add_marker("server")
        if names & VARIANTS or is_program:
            item.add_marker("unmeasured")
    # What is cached is made in a measured test, if one needs it: a process runs those first.
    items.sort(key=_is_unmeasured)


def _is_unmeasured(item: pytest.Item) -> bool:
    return item.get_closest_marker("unmeasured") is not None and item.get_closest_marker("measured") is None


def _texts_among_parameters(item: pytest.Item) -> Iterator[str]:
    callspec = getattr(item, "callspec", None)
    yield from (value for value in (callspec.params.values() if callspec else ()) if isinstance(value, str))


def pytest_sessionstart(session: pytest.Session) -> None:
    """Measure no coverage in the process that only distributes the tests to others."""
    if getattr(session.config.option, "numprocesses", None):
        sys.settrace(None)


def pytest_collection_finish() -> None:
    """Import the whole package while coverage is measured, and prepare the garbage collector.

    The collector then skips the modules and the tests, which exist until the end anyway.
    """
    for module in walk_packages(fastapi_users_knox.__path__, f"{fastapi_users_knox.__name__}."):
        import_module(module.name)
    gc.collect()
    gc.freeze()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> Generator[None, object, object]:
    """Run the tests that are marked `unmeasured` without measuring coverage."""
    with untraced() if _is_unmeasured(item) else nullcontext():
        return (yield)


@contextmanager
def untraced() -> Iterator[None]:
    """Switch off the tracing of this block and of the processes that it starts, because tracing doubles the time."""
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


@pytest.fixture(scope="session", autouse=True)
def _small_hashes() -> Iterator[None]:
    """Hash passwords with the smallest parameters, because no test is about the cost of a hash."""
    smallest = partialmethod(Argon2Hasher.__init__, time_cost=1, memory_cost=8, parallelism=1)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Argon2Hasher, "__init__", smallest)
        yield


@pytest.fixture(autouse=True)
def _long_delays(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let requests wait as long as a busy machine needs for the writes of a read, unless the test is `bounded`."""
    if request.node.get_closest_marker("bounded") is None:
        lengthen_delays(monkeypatch.setattr)


@pytest.fixture(scope="session")
def postgresql_server() -> Iterator[Server]:
    """Run a private PostgreSQL server."""
    with skip_if_unavailable(), postgresql() as server:
        yield server


@pytest.fixture(scope="session")
def pgbouncer_server(postgresql_server: Server) -> Iterator[Server]:
    """Run a private PgBouncer in front of the PostgreSQL server."""
    with skip_if_unavailable(), pgbouncer(postgresql_server) as server:
        yield server


@pytest.fixture(scope="session")
def mariadb_server() -> Iterator[Server]:
    """Run a private MariaDB server."""
    with skip_if_unavailable(), mariadb() as server:
        yield server


@pytest.fixture(scope="session")
def redis_6_server() -> Iterator[RedisServer]:
    """Run a private Redis 6.2 server."""
    with skip_if_unavailable(), redis("redis-6.2") as server:
        yield server


@pytest.fixture(scope="session")
def redis_7_server() -> Iterator[RedisServer]:
    """Run a private Redis server, of release 7 or of the newer release that the machine has."""
    with skip_if_unavailable(), redis("redis-7") as server:
        yield server


@pytest.fixture(scope="session")
def valkey_server() -> Iterator[RedisServer]:
    """Run a private Valkey server."""
    with skip_if_unavailable(), redis("valkey") as server:
        yield server


@pytest.fixture(scope="session")
def redis_cluster_servers() -> Iterator[ClusterServers]:
    """Run a private Redis cluster of three masters with one replica each."""
    with skip_if_unavailable(), redis_cluster("any", replicas=1) as servers:
        yield servers


@pytest.fixture(scope="session")
def redis_sentinel_servers() -> Iterator[SentinelServers]:
    """Run a private master, a replica and a sentinel, for tests in which the master does not fail."""
    with skip_if_unavailable(), redis_sentinel("any", down_after=600_000) as servers:
        yield servers


@pytest.fixture(scope="session")
def anyio_backend() -> str:
    """Run asynchronous tests on asyncio, as SQLAlchemy does. The scope lets all fixtures be asynchronous."""
    return "asyncio"


def backend_of(name: str, request: pytest.FixtureRequest, path: Path) -> Backend:
    """Return the backend of this name, start its server, and keep its files in the directory."""
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
            expire_on_commit=name not in KEEPING,
            freeze=FREEZE[fixture],
            impatient=IMPATIENT,
            ask_wait=ASK_WAIT[fixture],
        )
    return {**SQLITE, **MEMORY}[name](path)


@pytest.fixture(params=[*SQLITE, *SERVERS])
def backend(request: pytest.FixtureRequest, tmp_path: Path) -> Backend:
    """Return each database that several connections can share."""
    return backend_of(request.param, request, tmp_path)


@pytest.fixture(params=[*SQLITE, *MEMORY, *SERVERS])
def any_backend(request: pytest.FixtureRequest, tmp_path: Path) -> Backend:
    """Return each database, including SQLite in memory."""
    return backend_of(request.param, request, tmp_path)


@pytest.fixture(scope="session")
def engines(tmp_path_factory: pytest.TempPathFactory) -> Engines:
    """Return the engines of database files that tests share."""
    return Engines(directory=tmp_path_factory.mktemp("shared"))


@pytest.fixture
async def engine(any_backend: Backend, engines: Engines) -> AsyncIterator[AsyncEngine]:
    """Return an engine on empty tables, and check at the end that every connection was returned to the pool."""
    engine = engines.of(any_backend)
    await create_empty_tables(engine)
    yield engine
    pool = engine.pool
    checked_out = pool.checkedout() if isinstance(pool, QueuePool) else 0
    await engine.dispose()
    assert checked_out == 0


@pytest.fixture
def sessions(
    request: pytest.FixtureRequest, engine: AsyncEngine, any_backend: Backend
) -> async_sessionmaker[AsyncSession]:
    """Return a session factory. Its `expire_on_commit` is the backend's, unless the test chooses it by parameters."""
    return async_sessionmaker(engine, expire_on_commit=getattr(request, "param", any_backend.expire_on_commit))
