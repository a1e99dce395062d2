"""How a verb gets at the database: on the caller's session, or on a second connection that is prepared like it."""

import asyncio
import logging
import random
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager, contextmanager, nullcontext
from typing import TYPE_CHECKING, Any, TypeVar
from weakref import WeakKeyDictionary

from sqlalchemy import ClauseElement, Connection, Engine, Pool, Row, Select, StaticPool, exc
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, AsyncSession

from fastapi_users_knox.errors import KnoxError, StoreUnavailable, describe
from fastapi_users_knox.shielding import run_to_the_end
from fastapi_users_knox.sqlalchemy.dialects import (
    begin_writing,
    has_open_sqlite,
    is_locked,
    is_transient,
    options_to_write,
    reading,
    sees_latest,
    without_data,
    writing_in_time,
)
from fastapi_users_knox.sqlalchemy.hidden import tables_of
from fastapi_users_knox.sqlalchemy.postgresql import OpenTransaction, inspect_transaction, tables_found
from fastapi_users_knox.sqlalchemy.reading import fetch
from fastapi_users_knox.sqlalchemy.sessions import (
    commit_keeping_loaded,
    executing_options,
    give_up,
    lasting_options,
    refuse_transaction_block,
    run_begin_hooks,
    with_options,
)
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


_engines: WeakKeyDictionary[Pool, _EngineState] = WeakKeyDictionary()  # One pool is behind all copies of an engine.


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
        self._probe = statements.find(1, with_user=False)
        self._tables = tables_of(statements)
        self._snapshot_is_new = False
        self._read: SessionTransaction | None = None
        self._last: ClauseElement = statements.no_rows  # By which a session that routes has found its last connection.
        self._options: Mapping[str, object] = {}

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
            self._last, self._snapshot_is_new = statement, not self.session.in_transaction()
            rows = await fetch(self.session, statement, parameters, mapper=self._mapper)
            # A transaction that this read has begun holds nothing of the application's yet: `beside` may end it.
            begun = self._snapshot_is_new and is_whole
            self._read = self.session.sync_session.get_transaction() if begun else None
            if self._snapshot_is_new and not rows and self.session.in_transaction():
                # Another backend may look for the same token next, in a transaction of its own.
                await commit_keeping_loaded(self.session)
            return rows

    @property
    def is_current(self) -> bool:
        """Whether what was just read is sure to be what was committed by then."""
        return self._snapshot_is_new and isinstance(self._bind(), Engine)

    async def read_latest(
        self, statement: Select[Any], parameters: Mapping[str, object], *, explain: Work[None]
    ) -> Sequence[Row[Any]] | None:
        """Read what is committed now where the caller's transaction may see an older snapshot, else return `None`.

        Args:
            statement: Sent as it is.
            parameters: Its parameters.
            explain: Called if nothing is found any more; raises if it is merely hidden.

        Raises:
            StoreUnavailable: No second connection can be had in time: what the snapshot shows may have been ended.
            KnoxError: The session is bound to a connection that shows an older snapshot, or the second connection
                lacks what the session has set for its transaction.
        """
        with self._reaching():
            connection = await self._connection(self._last)
            if isinstance(self._bind(), Connection):
                await connection.run_sync(_refuse_snapshot)
                return None
            if not self._has_second_connection() or await connection.run_sync(sees_latest):
                return None
            self._options = {**await connection.run_sync(lasting_options), **await self._executing_options()}
            async with self._connect() as second, reading(second, patience=_PATIENCE):
                return await second.run_sync(self._read_prepared, statement, parameters, explain)

    async def write(self, work: Work[T]) -> T:
        """Do the work on the session and commit it, along with what the session holds; retry it if it meets others.

        What the session holds is committed even if the work raises. The work is done in a transaction in which each
        statement sees what others have committed by then, and `after_begin` listeners of the session have run.

        Raises:
            StoreUnavailable: The database cannot be reached, or the work still fails because of others at the 4th try.
            KnoxError: The session is in a transaction that the application has to commit by itself.
        """
        with self._reaching():
            refuse_transaction_block(self.session.sync_session)
            for attempt in range(_RETRIES):
                try:
                    return await self._attempt(work)
                except exc.DBAPIError as error:
                    if not is_transient(error):
                        raise
                await asyncio.sleep(random.uniform(0, 0.02 * 2**attempt))  # noqa: S311 (it spreads, it hides nothing)
            return await self._attempt(work)

    async def beside(self, work: Work[T]) -> T | None:
        """Do a write that a read has caused: within a second, or not at all; `None` if it was skipped, and logged.

        The caller's transaction is left alone, unless it holds nothing but our own read.
        """
        try:
            if isinstance(self._bind(), Connection):
                return await self._attempt(work)
            if self.session.in_transaction():
                self._options = await (await self._connection(self._last)).run_sync(lasting_options)
            self._options = {**self._options, **await self._executing_options()}
            if self._is_our_read():
                await commit_keeping_loaded(self.session)
            async with self._turn():
                return await self._unbroken(self._write_in_time(work))
        except Exception as error:  # noqa: BLE001 (whatever it is, it must not fail the request)
            if isinstance(error, exc.DBAPIError) and is_locked(error):
                return None  # Whoever has locked it writes.
            _logger.warning("A token's use was not written (last_used_at, expires_at): %s", describe(error))
            return None

    async def must_wait(self) -> bool:
        """Return whether a write `beside` has to wait for an idle session.

        It has to where there is no second connection, and on SQLite while the caller has a transaction open: a write
        by another would make the caller's own next write fail.
        """
        if not self.session.in_transaction() or self._is_our_read():
            return False
        if not self._has_second_connection():
            return True
        return await (await self._connection(self._last)).run_sync(has_open_sqlite)

    @property
    def attempts(self) -> Attempts:
        """What this process has tried lately on this engine."""
        return self._state().attempts

    # What follows serves the methods above.

    def _bind(self) -> Engine | Connection:
        return self.session.sync_session.get_bind(self._mapper, clause=self._no_rows)

    def _state(self) -> _EngineState:
        return _engines.setdefault(self._bind().engine.pool, _EngineState())

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
        except exc.StatementError as error:
            # A default or a type of the application's own columns has raised: SQLAlchemy's message has all parameters.
            raise (error.orig or error) from None
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

    def _turn(self) -> AbstractAsyncContextManager[None]:
        return nullcontext() if self._has_second_connection() else self._state().turn()

    async def _connection(self, clause: ClauseElement, options: Mapping[str, object] | None = None) -> AsyncConnection:
        return await self.session.connection({"mapper": self._mapper, "clause": clause}, options)

    async def _executing_options(self) -> Mapping[str, object]:
        return await executing_options(self.session, self._probe, mapper=self._mapper)

    async def _attempt(self, work: Work[T]) -> T:
        async with self._turn():
            return await self._unbroken(self._write(work))

    async def _unbroken(self, working: Coroutine[Any, Any, T]) -> T:
        # A transaction that SQLite's driver is torn out of would keep the file locked.
        return await (run_to_the_end(working) if self._bind().dialect.name == "sqlite" else working)

    async def _write(self, work: Work[T]) -> T:
        """Work in the transaction that is open where that can be, as its settings hold there, and else in a new one."""
        options, is_bound = options_to_write(self._bind().dialect), isinstance(self._bind(), Connection)
        if is_bound:
            await (await self._connection(self._no_rows)).run_sync(_refuse_snapshot)
        async with self._ending():
            found = OpenTransaction()
            if is_bound or self.session.in_transaction():
                connection = await self._connection(self._no_rows)
                self._options = await connection.run_sync(lasting_options)
                found = await connection.run_sync(inspect_transaction, self._tables)
                if is_bound or found.is_joinable:
                    return await self._write_nested(connection, work)
                await self._commit_callers()
            self.session.sync_session.begin()
            connection = await self._connection(self._no_rows, {**self._options, **options})
            await connection.run_sync(self._refuse_other_tables, found)
            outcome = await connection.run_sync(self._work, work, await self._executing_options())
            await commit_keeping_loaded(self.session)
            return outcome

    async def _write_nested(self, connection: AsyncConnection, work: Work[T]) -> T:
        """Work in a SAVEPOINT of the caller's transaction, and commit that, whatever the work raises."""
        with self._reaching():  # What fails of the caller's own cannot be tried again.
            await self.session.flush()
        options = await self._executing_options()
        try:
            outcome = await connection.run_sync(self._work_nested, work, options)
        except Exception:
            if not connection.invalidated:
                await self._commit_callers()
            raise
        await self._commit_callers()
        return outcome

    async def _commit_callers(self) -> None:
        """Commit what the caller has begun: if that fails, it is lost, and nothing may be tried again without it."""
        with self._reaching():
            await commit_keeping_loaded(self.session)

    @asynccontextmanager
    async def _ending(self) -> AsyncIterator[None]:
        """Leave no half of a transaction behind, whatever is raised, and however often the task is cancelled."""
        callers = self.session.sync_session.get_transaction()
        try:
            yield
        except BaseException:
            await run_to_the_end(self.session.run_sync(give_up, callers))
            raise

    async def _write_in_time(self, work: Work[T]) -> T:
        options = options_to_write(self._bind().dialect)
        async with self._connect(options) as connection, writing_in_time(connection, patience=_PATIENCE):
            return await connection.run_sync(self._work_prepared, work)

    @asynccontextmanager
    async def _connect(self, options: Mapping[str, object] | None = None) -> AsyncIterator[AsyncConnection]:
        """Get a second connection with the options of the session's, if one can be had in time."""
        async with AsyncExitStack() as stack:
            async with asyncio.timeout(_PATIENCE):
                connecting = AsyncEngine(self._bind().engine).connect()
                connection = await stack.enter_async_context(connecting)
            await connection.execution_options(**{**self._options, **(options or {})})
            yield connection

    # Each of these runs as a whole in one greenlet.

    def _refuse_other_tables(self, connection: Connection, found: OpenTransaction) -> None:
        """Raise if the names of our tables find others than they did in the transaction that had to be committed."""
        if found.tables is not None and found.tables != tables_found(connection, self._tables):
            raise KnoxError(
                "the tables of the tokens and users are not found any more where they were: what was set for the "
                "session's transaction, such as by SET LOCAL search_path, has ended with a commit. Set it in an "
                "after_begin event of the session"
            )

    def _work(self, connection: Connection, work: Work[T], options: Mapping[str, object]) -> T:
        with with_options(connection, options):
            begin_writing(connection, self._no_rows)
            return work(connection)

    def _work_nested(self, connection: Connection, work: Work[T], options: Mapping[str, object]) -> T:
        with connection.begin_nested():
            return self._work(connection, work, options)

    def _work_prepared(self, connection: Connection, work: Work[T]) -> T:
        begin_writing(connection, self._no_rows)
        run_begin_hooks(self.session.sync_session, connection)
        return work(connection)

    def _read_prepared(
        self, connection: Connection, statement: Select[Any], parameters: Mapping[str, object], explain: Work[None]
    ) -> Sequence[Row[Any]]:
        run_begin_hooks(self.session.sync_session, connection)
        rows = connection.execute(statement, parameters).all()
        if not rows:
            explain(connection)
        return rows


def _refuse_snapshot(connection: Connection) -> None:
    """Keep sessions that are bound to a connection from counting and judging tokens by an older snapshot."""
    if connection.dialect.name != "sqlite" and not sees_latest(connection):
        raise KnoxError(
            "a session that is bound to a connection needs READ COMMITTED for its tokens: "
            'pass isolation_level="READ COMMITTED" to create_async_engine'
        )
