"""A second connection, prepared like the application's session, for work outside the session's transaction."""

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from typing import TypeVar

from sqlalchemy import Connection, Engine, StaticPool, Update
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, AsyncSession

from fastapi_users_knox.errors import KnoxError
from fastapi_users_knox.sqlalchemy import dialects
from fastapi_users_knox.sqlalchemy.dialects import begin_writing, options_to_write, reading, writing_in_time
from fastapi_users_knox.sqlalchemy.lazy_begin import has_begun_early
from fastapi_users_knox.sqlalchemy.sessions import run_begin_hooks

__all__ = ["has_second_connection", "read_on_second_connection", "write_on_second_connection"]

T = TypeVar("T")


def has_second_connection(bind: Engine | Connection) -> bool:
    """Return whether a second connection can be opened.

    No second connection can be opened if the session is bound to a connection, or if all sessions share one connection,
    as with in-memory SQLite.
    """
    return isinstance(bind, Engine) and not isinstance(bind.pool, StaticPool)


async def read_on_second_connection(
    session: AsyncSession, engine: Engine, options: Mapping[str, object], read: Callable[[Connection], T]
) -> T:
    """Run a read that sees everything committed before it starts.

    Args:
        session: The application's session. Its `after_begin` listeners prepare the transaction.
        engine: The engine from which the connection is opened.
        options: The execution options of the session's connection.
        read: The function that reads, which is called with the connection.

    Raises:
        TimeoutError: No connection is free in time.
    """

    def read_prepared(connection: Connection) -> T:
        """Run the listeners, and then read."""
        with reading(connection):
            run_begin_hooks(session.sync_session, connection)
            return read(connection)

    async with _connect(engine, options) as connection:
        return await connection.run_sync(read_prepared)


async def write_on_second_connection(
    session: AsyncSession,
    engine: Engine,
    options: Mapping[str, object],
    write: Callable[[Connection], T],
    *,
    no_rows: Update,
) -> T:
    """Run a write in one transaction, and commit it. No statement of the write waits long for a lock.

    Args:
        session: The application's session. Its `after_begin` listeners prepare the transaction.
        engine: The engine from which the connection is opened.
        options: The execution options of the session's connection.
        write: The function that writes, which is called with the connection.
        no_rows: An UPDATE that changes nothing, but takes SQLite's write lock.

    Raises:
        TimeoutError: No connection is free in time.
    """

    def write_prepared(connection: Connection) -> T:
        """Take the write lock of SQLite, run the listeners, and then write."""
        with writing_in_time(connection):
            begin_writing(connection, no_rows)
            run_begin_hooks(session.sync_session, connection)
            written = write(connection)
            connection.commit()
            return written

    async with _connect(engine, {**options, **options_to_write(engine.dialect)}) as connection:
        return await connection.run_sync(write_prepared)


@asynccontextmanager
async def _connect(engine: Engine, options: Mapping[str, object]) -> AsyncIterator[AsyncConnection]:
    """Open a connection with these execution options, or raise `TimeoutError` if no connection is free in time."""
    async with AsyncExitStack() as stack:
        async with asyncio.timeout(dialects.MAX_WAIT):
            connection = await stack.enter_async_context(AsyncEngine(engine).connect())
        if has_begun_early(connection.sync_connection):
            raise KnoxError(
                "a checkout listener of the pool has begun a transaction, and its settings would be lost: make them in "
                "an after_begin event of the session"
            )
        # A streamed result would need a cursor on the server, which nobody closes if the result has one row.
        await connection.execution_options(**{**options, "stream_results": False})
        yield connection
