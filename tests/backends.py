"""The databases and Redis servers on which the tests run, described so that any process can connect to them."""

import uuid
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

from fastapi.requests import HTTPConnection
from redis.asyncio import Redis, RedisCluster
from redis.asyncio.sentinel import Sentinel
from sqlalchemy import Connection, event
from sqlalchemy.engine import make_url
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession, create_async_engine

from fastapi_users_knox import GetLoginOptions, KnoxSettings, KnoxStrategy, Listener, TokenStore
from fastapi_users_knox.redis import RedisTokenStore
from tests.models import User, UserManager, create_empty_tables, store_on, user_manager_on

NOW = datetime(2030, 1, 1, 12, tzinfo=UTC)
DEFAULTS = KnoxSettings()


@dataclass(frozen=True, kw_only=True)
class App:
    """What one request of an application has: a session for the users, and a store for the tokens."""

    session: AsyncSession
    store: TokenStore[User, uuid.UUID]

    @property
    def user_manager(self) -> UserManager:
        """A user manager on the session."""
        return user_manager_on(self.session)

    def strategy(
        self,
        settings: KnoxSettings = DEFAULTS,
        *,
        now: datetime = NOW,
        listeners: Iterable[Listener] = (),
        login_options: GetLoginOptions | None = None,
        request: HTTPConnection | None = None,
    ) -> KnoxStrategy[User, uuid.UUID]:
        """Return a strategy whose clock stands still."""
        return KnoxStrategy(
            self.store,
            settings,
            request=request,
            user_db=self.user_manager.user_db,
            listeners=listeners,
            login_options=login_options,
            clock=lambda: now,
        )


Connect = Callable[[], AbstractAsyncContextManager[Redis | RedisCluster]]
OpenApp = Callable[[], AbstractAsyncContextManager[App]]


@dataclass(frozen=True, kw_only=True)
class Backend:
    """A database, and how an application uses it. The description can be pickled and sent to another process.

    Attributes:
        url: The URL of the database.
        options: Options of `create_async_engine`.
        begins: Whether SQLite is in WAL mode and transactions begin as in SQLAlchemy's documented recipe.
        freeze: A statement after which other connections can read the tokens but not write them, until the connection
            of the statement is closed.
        impatient: Options with which a transaction fails soon if another transaction holds a lock.
        ask_wait: A query that returns how long the connection waits for a lock.
        expire_on_commit: Whether a commit expires the objects in the sessions of tests that run on both kinds.
    """

    url: str
    options: Mapping[str, Any] = field(default_factory=dict)
    begins: bool = False
    freeze: str = "UPDATE knox_token SET name = name"
    impatient: Mapping[str, Any] = field(default_factory=dict)
    ask_wait: str = "PRAGMA busy_timeout"
    expire_on_commit: bool = True

    def create_engine(self, **options: Any) -> AsyncEngine:
        """Create an engine. The options override those of the backend."""
        engine = create_async_engine(self.url, **{**self.options, **options})
        if engine.dialect.name == "sqlite":
            event.listen(engine.sync_engine, "connect", _write_to_the_cache_alone)
        if self.begins:
            _begin_by_recipe(engine)
        return engine

    @asynccontextmanager
    async def serving(self, engine: AsyncEngine | None = None) -> AsyncIterator[OpenApp]:
        """Return what one process of an application needs: a function that opens what each request has."""
        used = engine or self.create_engine()

        @asynccontextmanager
        async def open_app() -> AsyncIterator[App]:
            async with AsyncSession(used, expire_on_commit=False) as session:
                yield App(session=session, store=store_on(session))

        try:
            yield open_app
        finally:
            await used.dispose()

    async def empty(self, engine: AsyncEngine | None = None) -> None:
        """Delete all users and tokens."""
        used = engine or self.create_engine()
        await create_empty_tables(used)
        await used.dispose()

    @property
    def lost_url(self) -> str:
        """A URL of the same kind at which no server answers."""
        url = make_url(self.url)
        lost = url.set(database="/nowhere/at/all.db") if url.port is None else url.set(port=1)
        return lost.render_as_string(hide_password=False)


@dataclass(frozen=True, kw_only=True)
class RedisBackend(Backend):
    """A Redis server for the tokens, together with a database for the users.

    Attributes:
        connect: A function that creates a client, and closes the client at the end of the block.
    """

    connect: Connect

    @asynccontextmanager
    async def serving(self, engine: AsyncEngine | None = None) -> AsyncIterator[OpenApp]:
        """Return what one process needs. All requests of the process share one client."""
        async with super().serving(engine) as open_users, self.connect() as redis:

            @asynccontextmanager
            async def open_app() -> AsyncIterator[App]:
                async with open_users() as users:
                    yield App(session=users.session, store=RedisTokenStore(redis))

            yield open_app

    async def empty(self, engine: AsyncEngine | None = None) -> None:
        """Delete all users and keys."""
        await super().empty(engine)
        async with self.connect() as redis:
            await redis.flushall()


@dataclass(frozen=True, kw_only=True)
class Engines:
    """The engines of database files that tests share.

    Each new engine would compile all statements again, and each new file would need its tables. Both take longer than
    most tests. Between two tests, an engine has no connection open.

    Attributes:
        directory: The directory of the files.
    """

    directory: Path
    _kept: dict[str, AsyncEngine] = field(default_factory=dict, init=False)

    def of(self, backend: Backend) -> AsyncEngine:
        """Return the engine of a file in the directory, or a new engine of any other database."""
        if str(self.directory) not in backend.url:
            return backend.create_engine()
        if backend.url not in self._kept:
            self._kept[backend.url] = backend.create_engine()
        return self._kept[backend.url]


_make_sentinel: Callable[..., Sentinel] = Sentinel  # The arguments of `Sentinel` have no types.


@asynccontextmanager
async def sentinel_master(sentinels: list[tuple[str, int]], name: str, **options: Any) -> AsyncIterator[Redis]:
    """Create a client of the master that the sentinels name. At the end, close the clients of the sentinels too."""
    sentinel = _make_sentinel(sentinels)
    async with AsyncExitStack() as stack:
        for watcher in sentinel.sentinels:
            await stack.enter_async_context(watcher)
        yield await stack.enter_async_context(sentinel.master_for(name, **options))


def _write_to_the_cache_alone(connection: Any, _record: object) -> None:
    """Make SQLite commit without waiting for the disk. Waiting would only matter if the machine lost power."""
    cursor = connection.cursor()
    cursor.execute("PRAGMA synchronous = OFF")
    cursor.close()


def _begin_by_recipe(engine: AsyncEngine) -> None:
    @event.listens_for(engine.sync_engine, "connect")
    def connect(connection: Any, _record: object) -> None:
        connection.isolation_level = None
        cursor = connection.cursor()
        cursor.execute("PRAGMA journal_mode = WAL")
        cursor.close()

    @event.listens_for(engine.sync_engine, "begin")
    def begin(connection: Connection) -> None:
        connection.exec_driver_sql("BEGIN")


NO_WAIT = {"connect_args": {"timeout": 0}}
POOL = {"pool_size": 10, "max_overflow": 90}
# By default, a connection to SQLite waits for locks for five seconds, which many callers on a busy machine may need.
SQLITE_POOL = {**POOL, "connect_args": {"timeout": 60}}

SQLITE: Mapping[str, Callable[[Path], Backend]] = {
    "sqlite": lambda path: Backend(url=f"sqlite+aiosqlite:///{path}/test.db", options=SQLITE_POOL, impatient=NO_WAIT),
    "sqlite-wal-begin": lambda path: Backend(
        url=f"sqlite+aiosqlite:///{path}/test.db", options=SQLITE_POOL, begins=True, impatient=NO_WAIT
    ),
    "sqlite-autocommit": lambda path: Backend(
        url=f"sqlite+aiosqlite:///{path}/test.db",
        options=SQLITE_POOL | {"isolation_level": "AUTOCOMMIT"},
        freeze="BEGIN IMMEDIATE",
        expire_on_commit=False,
        impatient=NO_WAIT | {"isolation_level": "SERIALIZABLE"},
    ),
}
MEMORY: Mapping[str, Callable[[Path], Backend]] = {
    "sqlite-memory": lambda _path: Backend(url="sqlite+aiosqlite://", expire_on_commit=False)
}
FREEZE = {
    "postgresql_server": "LOCK TABLE knox_token IN SHARE MODE",
    "mariadb_server": "LOCK TABLES knox_token READ",
}
IMPATIENT = {"isolation_level": "READ COMMITTED"}
ASK_WAIT = {
    "postgresql_server": "SHOW statement_timeout",
    "mariadb_server": "SELECT @@lock_wait_timeout, @@innodb_lock_wait_timeout",
}
KEEPING = {"postgresql-psycopg", "mariadb-autocommit"}  # Each database has sessions of both kinds.
SERVERS: Mapping[str, tuple[str, str, Mapping[str, Any]]] = {
    "postgresql-asyncpg": ("postgresql_server", "postgresql+asyncpg", {}),
    "postgresql-psycopg": ("postgresql_server", "postgresql+psycopg", {}),
    "postgresql-serializable": (
        "postgresql_server",
        "postgresql+asyncpg",
        {"isolation_level": "SERIALIZABLE"},
    ),
    "postgresql-repeatable-read": (
        "postgresql_server",
        "postgresql+asyncpg",
        {"isolation_level": "REPEATABLE READ"},
    ),
    "mariadb": ("mariadb_server", "mysql+asyncmy", {}),
    "mariadb-serializable": ("mariadb_server", "mariadb+asyncmy", {"isolation_level": "SERIALIZABLE"}),
    "mariadb-autocommit": ("mariadb_server", "mysql+asyncmy", {"isolation_level": "AUTOCOMMIT"}),
}

REDIS: Mapping[str, tuple[str, Callable[..., Connect]]] = {
    "redis-6.2": ("redis_6_server", lambda server, **options: partial(Redis.from_url, server.url(), **options)),
    "redis-7": ("redis_7_server", lambda server, **options: partial(Redis.from_url, server.url(), **options)),
    "valkey": ("valkey_server", lambda server, **options: partial(Redis.from_url, server.url(), **options)),
    "redis-cluster": (
        "redis_cluster_servers",
        lambda servers, **options: partial(RedisCluster.from_url, servers.url(), **options),
    ),
    "redis-sentinel": (
        "redis_sentinel_servers",
        lambda servers, **options: partial(sentinel_master, servers.sentinels, servers.master_name, **options),
    ),
}
