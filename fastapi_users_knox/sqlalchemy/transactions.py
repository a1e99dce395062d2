"""How a verb gets at the database: on the caller's session, in a transaction of its own, or bounded, beside a read."""

import asyncio
import logging
import random
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager, nullcontext
from typing import TYPE_CHECKING, Any, TypeVar
from weakref import WeakKeyDictionary

from sqlalchemy import Connection, Engine, Row, Select, StaticPool, exc
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, AsyncSession

from fastapi_users_knox.errors import KnoxError, StoreUnavailable, describe
from fastapi_users_knox.sqlalchemy.dialects import (
    has_open_sqlite,
    is_locked,
    is_transient,
    reading,
    sees_latest,
    without_data,
    writing,
)
from fastapi_users_knox.sqlalchemy.reading import commit, fetch
from fastapi_users_knox.sqlalchemy.statements import Statements
from fastapi_users_knox.store import Attempts

if TYPE_CHECKING:
    from sqlalchemy.orm import SessionTransaction

__all__ = ["Transactions"]

_logger = logging.getLogger("fastapi_users_knox")

T = TypeVar("T")
Work = Callable[[Connection], T]

_RETRIES = 3
_PATIENCE = 0.3  # seconds to wait for a connection, and again for a lock, where a request must not be held up
_OUR_FAULT = (exc.IntegrityError, exc.ProgrammingError, exc.DataError)


class _EngineState:
    """What this process has to remember of an engine: what it has tried to write, and whose turn it is to write.

    The turn is taken only where all sessions share one connection, as with SQLite in memory, and so one transaction.
    """

    def __init__(self) -> None:
        self.attempts = Attempts()
        self._turns: WeakKeyDictionary[asyncio.AbstractEventLoop, asyncio.Lock] = WeakKeyDictionary()

    def turn(self) -> asyncio.Lock:
        """Return the lock of this event loop: in another loop there are others to wait for."""
        return self._turns.setdefault(asyncio.get_running_loop(), asyncio.Lock())


_engines: WeakKeyDictionary[Engine, _EngineState] = WeakKeyDictionary()


class Transactions:
    """Read and write through one session of the application's.

    Args:
        session: Whose transaction stays the caller's.
        statements: On the tokens' table, whose mapper is how a session that routes finds its engine.
    """

    def __init__(self, session: AsyncSession, statements: Statements) -> None:
        """Take the session; nothing is sent yet."""
        self.session = session
        self._mapper = statements.mapper
        self._no_rows = statements.no_rows
        self._snapshot_is_new = False
        self._read: SessionTransaction | None = None

    async def read(
        self, statement: Select[Any], parameters: Mapping[str, object], *, is_whole: bool = True
    ) -> Sequence[Row[Any]]:
        """Read on the caller's session; nothing is flushed, committed or rolled back.

        Args:
            statement: Sent as it is.
            parameters: Its parameters.
            is_whole: Whether a write `beside` may follow without the application's code having run in between.
        """
        with self._reaching():
            self._snapshot_is_new = not self.session.in_transaction()
            rows = await fetch(self.session, statement, parameters, mapper=self._mapper)
            # A transaction that this read has begun holds nothing of the application's yet: `beside` may end it.
            begun = self._snapshot_is_new and is_whole
            self._read = self.session.sync_session.get_transaction() if begun else None
            if self._snapshot_is_new and not rows and self.session.in_transaction():
                await self._commit()  # Another backend may look for the same token next, in a transaction of its own.
            return rows

    @property
    def is_current(self) -> bool:
        """Whether what was just read is sure to be what was committed by then."""
        return self._snapshot_is_new and isinstance(self._bind(), Engine)

    async def read_latest(self, statement: Select[Any], parameters: Mapping[str, object]) -> Sequence[Row[Any]] | None:
        """Read what is committed now where the caller's transaction may see an older snapshot, else return `None`.

        Raises:
            StoreUnavailable: No second connection can be had in time: what the snapshot shows may have been ended.
            KnoxError: The session is bound to a connection that shows an older snapshot.
        """
        with self._reaching():
            if isinstance(self._bind(), Connection):
                await _refuse_snapshot(await self._connection())
                return None
            if not self._has_second_connection():
                return None
            if await sees_latest(await self._connection()):
                return None
            async with self._connect(_PATIENCE) as connection, reading(connection, patience=_PATIENCE):
                return (await connection.execute(statement, parameters)).all()

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
                    if not is_transient(error):
                        raise
                await asyncio.sleep(random.uniform(0, 0.02 * 2**attempt))  # noqa: S311 (it spreads, it hides nothing)
            return await self._transact(work)

    async def beside(self, work: Work[T]) -> T | None:
        """Do a write that a read has caused: within a second, or not at all; `None` if it was skipped, and logged.

        The caller's transaction is left alone, unless it holds nothing but our own read.
        """
        try:
            if self._is_our_read():
                await self._commit()
            return await self._transact(work, patience=_PATIENCE)
        except Exception as error:  # noqa: BLE001 (whatever it is, it must not fail the request)
            if isinstance(error, exc.DBAPIError) and is_locked(error):
                return None  # Whoever has locked it writes.
            _logger.warning("A token's use was not written (last_used_at, expires_at): %s", describe(error))
            return None

    async def must_wait(self) -> bool:
        """Tell whether a write `beside` has to wait for an idle session.

        It has to where there is no second connection, and on SQLite while the caller has a transaction open: a write
        by another would make the caller's own next write fail.
        """
        if not self.session.in_transaction() or self._is_our_read():
            return False
        return not self._has_second_connection() or await has_open_sqlite(await self._connection())

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
        except _OUR_FAULT as error:
            if self._mapper.local_table.description not in str(error.statement):
                raise  # It is about the application's own statement.
            raise without_data(error) from None
        except (exc.DBAPIError, exc.TimeoutError, OSError) as error:
            raise StoreUnavailable.because(error) from None
        except Exception as error:
            # SQLAlchemy leaves what asyncpg raises while it connects as it is.
            if type(error).__module__.partition(".")[0] == self._bind().dialect.driver:
                raise StoreUnavailable.because(error) from None
            raise

    def _is_our_read(self) -> bool:
        """Tell whether the session's transaction is open, and is the one that our own read has begun."""
        transaction = self.session.sync_session.get_transaction()
        return transaction is not None and transaction is self._read

    def _has_second_connection(self) -> bool:
        bind = self._bind()
        return isinstance(bind, Engine) and not isinstance(bind.pool, StaticPool)

    async def _connection(self) -> AsyncConnection:
        return await self.session.connection(bind_arguments={"mapper": self._mapper})

    async def _commit(self) -> None:
        await commit(self.session)

    async def _transact(self, work: Work[T], *, patience: float | None = None) -> T:
        bind = self._bind()
        if isinstance(bind, Connection):
            return await self._transact_nested(work)
        async with nullcontext() if self._has_second_connection() else self._state().turn():
            working = self._transact_alone(work, patience)
            return await (_to_the_end(working) if bind.dialect.name == "sqlite" else working)

    async def _transact_alone(self, work: Work[T], patience: float | None) -> T:
        async with self._connect(patience) as connection, writing(connection, self._no_rows, patience=patience):
            return await connection.run_sync(work)

    async def _transact_nested(self, work: Work[T]) -> T:
        """Work on the one connection the session is bound to, as in test suites that roll everything back."""
        connection = await self._connection()
        await _refuse_snapshot(connection)
        async with connection.begin_nested():
            await connection.execute(self._no_rows)  # SQLite's write lock.
            outcome = await connection.run_sync(work)
        await self._commit()
        return outcome

    @asynccontextmanager
    async def _connect(self, patience: float | None) -> AsyncIterator[AsyncConnection]:
        async with AsyncExitStack() as stack:
            async with asyncio.timeout(patience):
                connecting = AsyncEngine(self._bind().engine).connect()
                connection = await stack.enter_async_context(connecting)
            yield connection


async def _refuse_snapshot(connection: AsyncConnection) -> None:
    """Keep sessions that are bound to a connection from counting and judging tokens by PostgreSQL's older snapshots."""
    if connection.dialect.name == "postgresql" and not await sees_latest(connection):
        raise KnoxError("a session that is bound to a connection needs READ COMMITTED for its tokens")


async def _to_the_end(working: Coroutine[Any, Any, T]) -> T:
    """Finish a transaction though its request is cancelled: one that SQLite's driver is torn out of locks the file."""
    task, cancelled = asyncio.create_task(working), None
    while not task.done():
        try:
            await asyncio.wait([task])
        except asyncio.CancelledError as error:  # It may come more than once, as anyio's does.
            cancelled = error
    if cancelled is not None:
        raise cancelled from task.exception()
    return task.result()
