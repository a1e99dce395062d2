"""Writing on the session's own connection between two transactions, so that no second connection is needed."""

from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from sqlalchemy import Connection, Update
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncSession

from fastapi_users_knox.shielding import run_to_the_end
from fastapi_users_knox.sqlalchemy.dialects import begin_writing, writing_in_time
from fastapi_users_knox.sqlalchemy.sessions import close_transaction, with_options

__all__ = ["write_on_own_connection"]

T = TypeVar("T")


async def write_on_own_connection(
    session: AsyncSession,
    connection: AsyncConnection,
    options: Mapping[str, object],
    write: Callable[[Connection], T],
    *,
    no_rows: Update,
) -> T:
    """Run a write in one transaction of the driver, and commit it. No statement of the write waits long for a lock.

    The session's transaction in SQLAlchemy stays open. The driver begins a new transaction with the next statement.

    Args:
        session: The application's session.
        connection: The session's connection. Its driver has begun no transaction, or one that contains only reads by
            the store.
        options: The execution options for the write.
        write: The function that writes, which is called with the connection.
        no_rows: An UPDATE that changes nothing, but takes SQLite's write lock.
    """
    try:
        return await connection.run_sync(_write, options, write, no_rows=no_rows)
    except BaseException:
        if connection.invalidated:  # After this, the session can use another connection.
            await run_to_the_end(session.run_sync(close_transaction))
        raise


def _write(
    connection: Connection, options: Mapping[str, object], write: Callable[[Connection], T], *, no_rows: Update
) -> T:
    """Run the write in a greenlet. The driver commits: a commit by SQLAlchemy would end the session's transaction."""
    driver: Any = connection.connection.dbapi_connection
    try:
        driver.commit()
        with with_options(connection, options), writing_in_time(connection):
            begin_writing(connection, no_rows)
            written = write(connection)
            driver.commit()
            return written
    except Exception:
        if not connection.invalidated:
            driver.rollback()
        raise
    except BaseException:
        connection.invalidate()  # The write was cancelled, so the state of the connection is not known.
        raise
