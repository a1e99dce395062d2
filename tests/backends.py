"""The databases that the store contract and the race tests run on, each as an engine that any process can make."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, event
from sqlalchemy.engine import make_url
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine


@dataclass(frozen=True, kw_only=True)
class Backend:
    """A database and how an application is set up on it; it can be sent to another process.

    Attributes:
        url: Where it is.
        options: Of `create_async_engine`.
        begins: Whether SQLite is in WAL mode and begins by SQLAlchemy's documented recipe.
        freeze: The statement that lets others read the tokens but not write to them, till its connection ends.
        impatient: Options with which two transactions that collide find out soon.
        ask_wait: The statement that asks how long the connection waits for a lock.
    """

    url: str
    options: Mapping[str, Any] = field(default_factory=dict)
    begins: bool = False
    freeze: str = "UPDATE knox_token SET name = name"
    impatient: Mapping[str, Any] = field(default_factory=dict)
    ask_wait: str = "PRAGMA busy_timeout"

    def create_engine(self, **options: Any) -> AsyncEngine:
        """Make an engine; options override the backend's own."""
        engine = create_async_engine(self.url, **{**self.options, **options})
        if self.begins:
            _begin_by_recipe(engine)
        return engine

    @property
    def lost_url(self) -> str:
        """An address of the same kind at which nothing answers."""
        url = make_url(self.url)
        lost = url.set(database="/nowhere/at/all.db") if url.port is None else url.set(port=1)
        return lost.render_as_string(hide_password=False)


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

SQLITE: Mapping[str, Callable[[Path], Backend]] = {
    "sqlite": lambda path: Backend(url=f"sqlite+aiosqlite:///{path}/test.db", options=POOL, impatient=NO_WAIT),
    "sqlite-wal-begin": lambda path: Backend(
        url=f"sqlite+aiosqlite:///{path}/test.db", options=POOL, begins=True, impatient=NO_WAIT
    ),
    "sqlite-autocommit": lambda path: Backend(
        url=f"sqlite+aiosqlite:///{path}/test.db",
        options=POOL | {"isolation_level": "AUTOCOMMIT"},
        freeze="BEGIN IMMEDIATE",
        impatient=NO_WAIT | {"isolation_level": "SERIALIZABLE"},
    ),
}
MEMORY: Mapping[str, Callable[[Path], Backend]] = {"sqlite-memory": lambda _path: Backend(url="sqlite+aiosqlite://")}
FREEZE = {
    "postgresql_server": "LOCK TABLE knox_token IN SHARE MODE",
    "mariadb_server": "LOCK TABLES knox_token READ",
}
IMPATIENT = {"isolation_level": "READ COMMITTED"}
ASK_WAIT = {
    "postgresql_server": "SHOW statement_timeout",
    "mariadb_server": "SELECT @@lock_wait_timeout, @@innodb_lock_wait_timeout",
}
SERVERS: Mapping[str, tuple[str, str, Mapping[str, Any]]] = {
    "postgresql-asyncpg": ("postgresql_server", "postgresql+asyncpg", {}),
    "postgresql-psycopg": ("postgresql_server", "postgresql+psycopg", {}),
    "postgresql-serializable": ("postgresql_server", "postgresql+asyncpg", {"isolation_level": "SERIALIZABLE"}),
    "postgresql-repeatable-read": (
        "postgresql_server",
        "postgresql+asyncpg",
        {"isolation_level": "REPEATABLE READ"},
    ),
    "mariadb": ("mariadb_server", "mysql+asyncmy", {}),
    "mariadb-serializable": ("mariadb_server", "mariadb+asyncmy", {"isolation_level": "SERIALIZABLE"}),
    "mariadb-autocommit": ("mariadb_server", "mysql+asyncmy", {"isolation_level": "AUTOCOMMIT"}),
}
