"""How a verb gets at the database: on the caller's session, in a transaction of its own, or bounded, beside a read.

What differs between databases is here and nowhere else.
"""

import asyncio
import logging
import random
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from typing import Any, TypeVar
from weakref import WeakKeyDictionary

from sqlalchemy import Connection, Engine, Executable, Row, StaticPool, exc, false, inspect, update
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, AsyncSession
from sqlalchemy.orm import SessionTransaction

from fastapi_users_knox.errors import StoreUnavailable
from fastapi_users_knox.store import Attempts

__all__ = ["Transactions"]

logger = logging.getLogger("fastapi_users_knox")

T = TypeVar("T")
Work = Callable[[AsyncConnection], Awaitable[T]]

_RETRIES = 3
_PATIENCE = 0.3  # seconds to wait for a connection, and again for a lock, where a request must not be held up
_TRANSIENT = {
    *("40001", "40P01", "55P03"),  # PostgreSQL: serialization failure, dead-lock, lock not available
    *(1020, 1205, 1213),  # MariaDB: record changed, lock wait timeout, dead-lock
}
_SQLITE_BUSY = {5, 6}  # SQLITE_BUSY, SQLITE_LOCKED
_OUR_FAULT = (exc.IntegrityError, exc.ProgrammingError, exc.DataError, exc.NotSupportedError)


class _EngineState:
    """What this process has to remember of an engine: what it has tried to write, and whose turn it is to write.

    The turn is taken only where all sessions share one connection, as with SQLite in memory, and so one transaction.
    """

    def __init__(self) -> None:
        self.attempts = Attempts()
        self.turn = asyncio.Lock()


_engines: WeakKeyDictionary[Engine, _EngineState] = WeakKeyDictionary()


class Transactions:
    """Read and write for one table, through one session of the application's.

    Args:
        session: Whose transaction stays the caller's.
        table: The mapped class, by which a session that routes finds its engine.
    """

    def __init__(self, session: AsyncSession, table: type[Any]) -> None:
        """Take the session; nothing is sent yet."""
        self.session = session
        self._no_rows = update(table).where(false()).values(audience="")
        self._mapper = inspect(table)
        self._snapshot_is_new = False
        self._read: SessionTransaction | None = None

    async def read(
        self, statement: Executable, parameters: Mapping[str, object], *, is_whole: bool = True
    ) -> Sequence[Row[Any]]:
        """Read on the caller's session; nothing is flushed, committed or rolled back.

        Args:
            statement: Sent as it is.
            parameters: Its parameters.
            is_whole: Whether a write `beside` may follow without the application's code having run in between.
        """
        with self._reaching():
            self._snapshot_is_new = not self.session.in_transaction()
            rows = (await self.session.execute(statement, parameters)).unique().all()
            # A transaction that this read has begun holds nothing of the application's yet: `beside` may end it.
            begun = self._snapshot_is_new and is_whole
            self._read = self.session.sync_session.get_transaction() if begun else None
            return rows

    async def read_latest(self, statement: Executable, parameters: Mapping[str, object]) -> Sequence[Row[Any]] | None:
        """Read what is committed now where the caller's transaction may see an older snapshot, else return `None`.

        It returns `None` too where no second connection can be had in time: then the caller's view has to do.
        """
        if self._snapshot_is_new or not self._has_second_connection():
            return None
        try:
            with self._reaching():
                if await self._sees_latest():
                    return None
            async with self._connect(_PATIENCE) as connection:
                return (await connection.execute(statement, parameters)).all()
        except (exc.TimeoutError, TimeoutError):
            logger.warning("No second connection to check a token past the open transaction's snapshot")
            return None

    async def write(self, work: Work[T]) -> T:
        """Commit what the session holds, then do the work in one new transaction, again if it fails for others' sake.

        Raises:
            StoreUnavailable: The database cannot be reached, or the work failed for others' sake 4 times.
        """
        with self._reaching():
            await self._commit()
            for attempt in range(_RETRIES):
                try:
                    return await self._transact(work)
                except exc.DBAPIError as error:
                    if not _is_transient(error):
                        raise
                await asyncio.sleep(random.uniform(0, 0.02 * 2**attempt))  # noqa: S311 (it spreads, it hides nothing)
            return await self._transact(work)

    async def beside(self, work: Work[T]) -> T | None:
        """Do a write that a read has caused: within a second, or not at all; `None` if it was skipped, and logged.

        The caller's transaction is left alone, unless it holds nothing but our own read.
        """
        try:
            if self.session.in_transaction() and self.session.sync_session.get_transaction() is self._read:
                await self._commit()
            return await self._transact(work, patience=_PATIENCE)
        except Exception:  # noqa: BLE001 (whatever it is, it must not fail the request)
            logger.warning("A token's use was not written: the database did not let us in time", exc_info=True)
            return None

    async def must_wait(self) -> bool:
        """Tell whether a write `beside` has to wait for an idle session.

        It has to where there is no second connection, and on SQLite while the caller has a transaction open: a write
        by another would make the caller's own next write fail.
        """
        if not self.session.in_transaction() or self.session.sync_session.get_transaction() is self._read:
            return False
        return not self._has_second_connection() or await _is_open_sqlite(await self._connection())

    @property
    def attempts(self) -> Attempts:
        """What this process has tried lately on this engine."""
        return self._state().attempts

    # What follows serves the methods above.

    def _bind(self) -> Engine | Connection:
        return self.session.sync_session.get_bind(self._mapper, clause=self._no_rows)

    def _state(self) -> _EngineState:
        return _engines.setdefault(self._bind().engine, _EngineState())

    @contextmanager
    def _reaching(self) -> Iterator[None]:
        """Turn what a database in trouble raises into `StoreUnavailable`; what is a mistake of ours stays as it is."""
        try:
            yield
        except _OUR_FAULT:
            raise
        except (exc.DBAPIError, exc.TimeoutError, OSError) as error:
            raise StoreUnavailable from error
        except Exception as error:
            # SQLAlchemy leaves what asyncpg raises while it connects as it is.
            if type(error).__module__.partition(".")[0] == self._bind().dialect.driver:
                raise StoreUnavailable from error
            raise

    def _has_second_connection(self) -> bool:
        bind = self._bind()
        return isinstance(bind, Engine) and not isinstance(bind.pool, StaticPool)

    async def _sees_latest(self) -> bool:
        """Tell whether each statement of the open transaction sees what others have committed by then."""
        connection = await self._connection()
        if connection.dialect.name == "sqlite":
            return not await _is_open_sqlite(connection)
        return await connection.get_isolation_level() in {"READ COMMITTED", "READ UNCOMMITTED"}

    async def _connection(self) -> AsyncConnection:
        return await self.session.connection(bind_arguments={"mapper": self._mapper})

    async def _commit(self) -> None:
        """Commit without expiring what the application has loaded: its next attribute access could not be awaited."""
        session = self.session.sync_session
        expire_on_commit, session.expire_on_commit = session.expire_on_commit, False
        try:
            await self.session.commit()
        finally:
            session.expire_on_commit = expire_on_commit

    async def _transact(self, work: Work[T], *, patience: float | None = None) -> T:
        if isinstance(self._bind(), Connection):
            return await self._transact_nested(work)
        if not self._has_second_connection():
            async with self._state().turn:
                return await self._transact_alone(work, patience)
        return await self._transact_alone(work, patience)

    async def _transact_alone(self, work: Work[T], patience: float | None) -> T:
        async with self._connect(patience) as connection:
            if connection.dialect.name != "sqlite":
                # Whatever the engine is set to: here each statement must see what others have committed by then.
                await connection.execution_options(isolation_level="READ COMMITTED")
            async with _bounded(connection, patience), connection.begin():
                await self._lock(connection, patience)
                return await work(connection)

    async def _transact_nested(self, work: Work[T]) -> T:
        """Work on the one connection the session is bound to, as in test suites that roll everything back."""
        connection = await self._connection()
        async with connection.begin_nested():
            outcome = await work(connection)
        await self._commit()
        return outcome

    @asynccontextmanager
    async def _connect(self, patience: float | None) -> AsyncIterator[AsyncConnection]:
        async with AsyncExitStack() as stack:
            async with asyncio.timeout(patience):
                connecting = AsyncEngine(self._bind().engine).connect()
                connection = await stack.enter_async_context(connecting)
            yield connection

    async def _lock(self, connection: AsyncConnection, patience: float | None) -> None:
        """Begin as a writer: SQLite refuses to turn a reader into one, and PostgreSQL must not wait for ever."""
        if connection.dialect.name == "postgresql" and patience is not None:
            await connection.exec_driver_sql(f"SET LOCAL statement_timeout = {patience * 1000:.0f}")
        if connection.dialect.name == "sqlite":
            if await _is_open_sqlite(connection):
                await connection.execute(self._no_rows)
            else:
                await connection.exec_driver_sql("BEGIN IMMEDIATE")


@asynccontextmanager
async def _bounded(connection: AsyncConnection, patience: float | None) -> AsyncIterator[None]:
    """Shorten, for a while, how long this connection waits for locks, where that is a setting of the connection."""
    bound = _WAITS.get(connection.dialect.name)
    if patience is None or bound is None:
        yield
        return
    read, change, shortest = bound
    usual = (await connection.exec_driver_sql(read)).scalar_one()
    await connection.exec_driver_sql(change.format(shortest))
    await connection.rollback()
    try:
        yield
    finally:
        await connection.exec_driver_sql(change.format(usual))


_WAITS = {
    "sqlite": ("PRAGMA busy_timeout", "PRAGMA busy_timeout = {}", 300),
    "mysql": ("SELECT @@lock_wait_timeout", "SET lock_wait_timeout = {}", 0),
    "mariadb": ("SELECT @@lock_wait_timeout", "SET lock_wait_timeout = {}", 0),
}


async def _is_open_sqlite(connection: AsyncConnection) -> bool:
    """Tell whether this is SQLite with a transaction open: what SQLAlchemy calls one may not have begun there yet."""
    if connection.dialect.name != "sqlite":
        return False
    driver = (await connection.get_raw_connection()).driver_connection
    return bool(getattr(driver, "in_transaction", True))


def _is_transient(error: exc.DBAPIError) -> bool:
    """Tell whether the same work may succeed a moment later."""
    code = getattr(error.orig, "sqlstate", None) or next(iter(getattr(error.orig, "args", ())), None)
    return code in _TRANSIENT or getattr(error.orig, "sqlite_errorcode", 0) & 0xFF in _SQLITE_BUSY
