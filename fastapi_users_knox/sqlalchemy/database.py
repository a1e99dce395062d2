"""What the verbs of one store share: the application's session, the statements, and facts about the last read."""

import asyncio
from collections.abc import Callable, Coroutine, Mapping
from contextlib import AbstractAsyncContextManager, nullcontext
from typing import TYPE_CHECKING, Any, TypeVar
from weakref import WeakKeyDictionary

from sqlalchemy import ClauseElement, Connection, Engine, Pool
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncSession

from fastapi_users_knox.attempts import Attempts
from fastapi_users_knox.shielding import run_to_the_end
from fastapi_users_knox.sqlalchemy.second_connection import has_second_connection
from fastapi_users_knox.sqlalchemy.sessions import executing_options
from fastapi_users_knox.sqlalchemy.statements import Statements

if TYPE_CHECKING:
    from sqlalchemy.orm import SessionTransaction

__all__ = ["Database", "Work"]

T = TypeVar("T")
Work = Callable[[Connection], T]


class _EngineState:
    """What this process remembers about an engine: the writes that it has attempted, and which task may write now.

    Writers take turns only if all sessions share one connection, and therefore one transaction, as with in-memory
    SQLite.
    """

    def __init__(self) -> None:
        """Start without any attempts."""
        self.attempts = Attempts()
        self._turns: WeakKeyDictionary[asyncio.AbstractEventLoop, asyncio.Lock] = WeakKeyDictionary()

    def turn(self) -> asyncio.Lock:
        """Return the lock of the running event loop, because a lock cannot be shared between event loops."""
        return self._turns.setdefault(asyncio.get_running_loop(), asyncio.Lock())


_engines: WeakKeyDictionary[Pool, _EngineState] = WeakKeyDictionary()  # All copies of an engine share one pool.


class Database:
    """One session of the application, the statements for the token table, and facts about the last read.

    Attributes:
        session: The application's session.
        sql: The statements.
        last_statement: The statement of the last read. A session that routes statements to several engines needs this
            statement to find the connection of that read.
        saw_latest: Whether it is certain that the last read saw everything committed before the read started.
        read_transaction: The transaction that the last read began, as long as the application cannot have written
            anything in it; `None` if there is no such transaction.
        options: The execution options of the session's connection, as the store last read them.
        has_found_token: Whether a token has been found, and no token has been removed since.
    """

    def __init__(self, session: AsyncSession, sql: Statements) -> None:
        """Take the session. Nothing is sent to the database."""
        self.session: AsyncSession = session
        self.sql: Statements = sql
        self.last_statement: ClauseElement = sql.no_rows
        self.saw_latest = False
        self.read_transaction: SessionTransaction | None = None
        self.options: Mapping[str, object] = {}
        self.has_found_token = False
        self._probe = sql.find(1, with_user=False)

    def bind(self) -> Engine | Connection:
        """Return the engine that the session uses for tokens, or the connection that the session is bound to."""
        return self.session.sync_session.get_bind(self.sql.mapper, clause=self.sql.no_rows)

    async def connection(self, clause: ClauseElement, options: Mapping[str, object] | None = None) -> AsyncConnection:
        """Return the connection that the session uses for a statement, in the session's transaction."""
        return await self.session.connection({"mapper": self.sql.mapper, "clause": clause}, options)

    async def hook_options(self) -> Mapping[str, object]:
        """Return the execution options that the application's hooks add to a statement on the tokens' table."""
        return await executing_options(self.session, self._probe, mapper=self.sql.mapper)

    def has_second_connection(self) -> bool:
        """Return whether a second connection can be opened."""
        return has_second_connection(self.bind())

    def is_read_transaction_open(self) -> bool:
        """Return whether the session's open transaction is the one that the store's own last read began."""
        transaction = self.session.sync_session.get_transaction()
        return transaction is not None and transaction is self.read_transaction

    @property
    def attempts(self) -> Attempts:
        """The recent attempts of this process to write on this engine because of a read."""
        return self._engine_state().attempts

    def turn(self) -> AbstractAsyncContextManager[None]:
        """Return a context manager that waits until it is this task's turn, if all writers share one connection."""
        return nullcontext() if self.has_second_connection() else self._engine_state().turn()

    async def run_uncancelled(self, writing: Coroutine[Any, Any, T]) -> T:
        """Run a write. On SQLite, delay a cancellation until the write is done.

        If SQLite's driver were interrupted inside a transaction, the database file would stay locked.
        """
        return await (run_to_the_end(writing) if self.bind().dialect.name == "sqlite" else writing)

    def _engine_state(self) -> _EngineState:
        """Return what this process remembers about the engine."""
        return _engines.setdefault(self.bind().engine.pool, _EngineState())
