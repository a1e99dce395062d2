"""What differs between the databases: how a transaction that writes begins and waits, and what errors mean."""

from collections.abc import AsyncIterator, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager

from sqlalchemy import Connection, Engine, Update, exc
from sqlalchemy.ext.asyncio import AsyncConnection

from fastapi_users_knox.errors import KnoxError, describe

__all__ = [
    "has_open_sqlite",
    "is_locked",
    "is_transient",
    "locks_rows",
    "may_autocommit",
    "reading",
    "sees_latest",
    "without_data",
    "writing",
]

_TRANSIENT = {
    *("40001", "40P01", "55P03"),  # PostgreSQL: serialization failure, dead-lock, lock not available
    *(1020, 1205, 1213),  # MariaDB: record changed, lock wait timeout, dead-lock
}
_SQLITE_WAIT = ("PRAGMA busy_timeout", "PRAGMA busy_timeout = {}")  # milliseconds
_MYSQL_WAIT = (  # seconds, for tables and for rows
    "SELECT @@lock_wait_timeout, @@innodb_lock_wait_timeout",
    "SET lock_wait_timeout = {0}, innodb_lock_wait_timeout = {1}",
)
_MARIADB_LOCKED = 1180  # What SKIP LOCKED answers of a locked row, instead of skipping it, where nothing may wait.
_SQLITE_BUSY = {5, 6}  # SQLITE_BUSY, SQLITE_LOCKED


def may_autocommit(bind: Engine | Connection) -> bool:
    """Tell whether a SELECT may go without a transaction: on PostgreSQL, where the application has allowed it.

    There it saves two trips of three, for BEGIN and ROLLBACK; other drivers need trips to switch it on and off.
    """
    return (
        isinstance(bind, Engine)
        and bind.dialect.name == "postgresql"
        and bool(bind.get_execution_options().get("knox_autocommit"))
    )


def writing(
    connection: AsyncConnection, no_rows: Update, *, patience: float | None
) -> AbstractAsyncContextManager[None]:
    """Run one transaction that writes, in which each statement sees what others have committed by then.

    Args:
        connection: One that has not begun a transaction.
        no_rows: An UPDATE that changes nothing.
        patience: How many seconds a statement may wait for a lock; `None`: as long as the connection's setting says.

    Raises:
        KnoxError: The database is none that the limit and the locks are known to hold on.
    """
    match connection.dialect.name:
        case "postgresql":
            return _writing_postgresql(connection, patience)
        case "mysql" | "mariadb":
            return _writing_mysql(connection, patience)
        case "sqlite":
            return _writing_sqlite(connection, no_rows, patience)
        case other:
            raise KnoxError(f"tokens cannot be kept on {other}")


@asynccontextmanager
async def reading(connection: AsyncConnection, *, patience: float) -> AsyncIterator[None]:
    """Let the next statement see what others have committed by then, and SQLite not wait long for a writer."""
    if connection.dialect.name == "sqlite":
        async with _changed(connection, *_SQLITE_WAIT, round(patience * 1000)):
            yield
    else:
        await connection.execution_options(isolation_level="READ COMMITTED")
        yield


def without_data(error: exc.DBAPIError) -> exc.DBAPIError:
    """Return the same error as a log may show it: with the statement, but no parameters and no values of a row."""
    return type(error)(error.statement, None, Exception(describe(error)))


async def sees_latest(connection: AsyncConnection) -> bool:
    """Tell whether each statement of the open transaction sees what others have committed by then."""
    if connection.dialect.name == "sqlite":
        return not await has_open_sqlite(connection)
    return await connection.get_isolation_level() in {"READ COMMITTED", "READ UNCOMMITTED"}


async def has_open_sqlite(connection: AsyncConnection) -> bool:
    """Tell whether this is SQLite with a transaction open: what SQLAlchemy calls one may not have begun there yet."""
    if connection.dialect.name != "sqlite":
        return False
    driver = (await connection.get_raw_connection()).driver_connection
    return bool(getattr(driver, "in_transaction", True))


def locks_rows(connection: Connection) -> bool:
    """Return whether transactions lock rows: on SQLite one that writes has locked the whole database."""
    return connection.dialect.name != "sqlite"


def is_transient(error: exc.DBAPIError) -> bool:
    """Tell whether the same work may succeed a moment later."""
    return not _TRANSIENT.isdisjoint(_codes(error)) or getattr(error.orig, "sqlite_errorcode", 0) & 0xFF in _SQLITE_BUSY


def is_locked(error: exc.DBAPIError) -> bool:
    """Tell whether a SELECT that skips what is locked has failed because all of it is."""
    return _MARIADB_LOCKED in _codes(error)


def _codes(error: exc.DBAPIError) -> Sequence[object]:
    """Return SQL's own code, which MariaDB's drivers may have too, and MariaDB's."""
    return getattr(error.orig, "sqlstate", None), *getattr(error.orig, "args", ())[:1]


@asynccontextmanager
async def _writing_postgresql(connection: AsyncConnection, patience: float | None) -> AsyncIterator[None]:
    await connection.execution_options(isolation_level="READ COMMITTED")
    async with connection.begin():
        if patience is not None:
            await connection.exec_driver_sql(f"SET LOCAL statement_timeout = {patience * 1000:.0f}")
        yield


@asynccontextmanager
async def _writing_mysql(connection: AsyncConnection, patience: float | None) -> AsyncIterator[None]:
    """Wait for no lock at all where time is short: MySQL counts in whole seconds."""
    await connection.execution_options(isolation_level="READ COMMITTED")
    async with _changed(connection, *_MYSQL_WAIT, None if patience is None else 0), connection.begin():
        yield


@asynccontextmanager
async def _writing_sqlite(connection: AsyncConnection, no_rows: Update, patience: float | None) -> AsyncIterator[None]:
    """Begin with a write: SQLite lets one transaction write at a time, and may refuse to turn a reader into it."""
    milliseconds = None if patience is None else round(patience * 1000)
    async with _changed(connection, *_SQLITE_WAIT, milliseconds), connection.begin():
        if await has_open_sqlite(connection):  # An application may have its driver begin by itself.
            await connection.execute(no_rows)
        else:
            await connection.exec_driver_sql("BEGIN IMMEDIATE")
        yield


@asynccontextmanager
async def _changed(connection: AsyncConnection, ask: str, change: str, value: int | None) -> AsyncIterator[None]:
    """Change a setting of the connection for a while, if there is a value for it."""
    if value is None:
        yield
        return
    usual = (await connection.exec_driver_sql(ask)).one()
    await connection.exec_driver_sql(change.format(value, value))
    await connection.rollback()
    try:
        yield
    finally:
        try:
            await connection.exec_driver_sql(change.format(*usual))
        except exc.SQLAlchemyError:
            await connection.invalidate()  # It must not go back to the pool as it is.
