"""Writing on the session's own connection before its transaction begins, so that no second connection is needed."""

from collections.abc import Callable
from typing import Any, TypeVar

from sqlalchemy import Connection, exc
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncSession

from fastapi_users_knox.shielding import run_to_the_end
from fastapi_users_knox.sqlalchemy.dialects import writing_in_time
from fastapi_users_knox.sqlalchemy.sessions import close_transaction

__all__ = ["write_on_own_connection"]

T = TypeVar("T")


async def write_on_own_connection(
    session: AsyncSession, connection: AsyncConnection, write: Callable[[Connection], T]
) -> T:
    """Run a write in one transaction of the driver in which no statement waits long for a lock, and commit it.

    For SQLAlchemy, the session is still in its transaction afterwards. The driver begins that transaction with the
    application's next statement.

    Args:
        session: The application's session, which the application does not use inside a `begin()` block.
        connection: The session's connection. Its driver has begun no transaction.
        write: The write, which gets the connection.
    """
    try:
        return await connection.run_sync(_write, write)
    except BaseException:
        if connection.invalidated:  # The session can then use another connection.
            await run_to_the_end(session.run_sync(close_transaction))
        raise


def _write(connection: Connection, write: Callable[[Connection], T]) -> T:
    """Run the write in a greenlet. The driver commits, because SQLAlchemy would end the session's transaction."""
    driver: Any = connection.connection.dbapi_connection
    try:
        try:
            with writing_in_time(connection):
                written = write(connection)
        except exc.DBAPIError:
            if not connection.invalidated:
                driver.rollback()
            raise
        driver.commit()
    except exc.DBAPIError:
        raise
    except BaseException:
        connection.invalidate()  # A statement, the ROLLBACK or the COMMIT was interrupted, so its state is not known.
        raise
    return written
