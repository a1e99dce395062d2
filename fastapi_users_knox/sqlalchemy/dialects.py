"""The differences between the databases: how a write begins and waits for locks, and what errors mean."""

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager

from sqlalchemy import Connection, Dialect, Engine, Update, exc
from sqlalchemy.ext.asyncio import AsyncConnection

from fastapi_users_knox.errors import KnoxError, describe

__all__ = [
    "begin_writing",
    "has_open_sqlite",
    "is_locked",
    "is_transient",
    "locks_rows",
    "may_autocommit",
    "options_to_write",
    "reading",
    "sees_latest",
    "without_data",
    "writing_in_time",
]

_TRANSIENT = {
    *("40001", "40P01", "55P03"),  # PostgreSQL: serialization failure, deadlock, lock not available
    *(1020, 1205, 1213),  # MariaDB: record changed, lock wait timeout, deadlock
}
_SQLITE_WAIT = ("PRAGMA busy_timeout", "PRAGMA busy_timeout = {}")  # milliseconds
_MYSQL_WAIT = (  # seconds, for tables and for rows
    "SELECT @@lock_wait_timeout, @@innodb_lock_wait_timeout",
    "SET lock_wait_timeout = {0}, innodb_lock_wait_timeout = {1}",
)
_MARIADB_LOCKED = 1180  # With a lock wait timeout of 0, SKIP LOCKED raises this for a locked row.
_SQLITE_BUSY = {5, 6}  # SQLITE_BUSY, SQLITE_LOCKED


def may_autocommit(bind: Engine | Connection) -> bool:
    """Return whether a SELECT may run without a transaction: on PostgreSQL, if the application has allowed it.

    On PostgreSQL this saves two of three round trips: BEGIN and ROLLBACK. The drivers of other databases need
    round trips to turn autocommit on and off.
    """
    return (
        isinstance(bind, Engine)
        and bind.dialect.name == "postgresql"
        and bool(bind.get_execution_options().get("knox_autocommit"))
    )


def options_to_write(dialect: Dialect) -> Mapping[str, str]:
    """Return the connection options with which each statement sees everything committed before it starts.

    Raises:
        KnoxError: The locks and the limit have not been tested on this database.
    """
    match dialect.name:
        case "postgresql" | "mysql" | "mariadb":
            return {"isolation_level": "READ COMMITTED"}
        case "sqlite":
            return {}
        case other:
            raise KnoxError(
                f"tokens cannot be stored on {other}: only PostgreSQL, MariaDB, MySQL and SQLite are supported"
            )


def begin_writing(connection: Connection, no_rows: Update) -> None:
    """Take SQLite's write lock at the start of a transaction.

    SQLite lets one transaction write at a time, and may refuse the lock to a transaction that has already read.

    Args:
        connection: A connection in whose transaction nothing has been read yet.
        no_rows: An UPDATE that changes nothing.
    """
    if connection.dialect.name != "sqlite":
        return
    if has_open_sqlite(connection):  # The application may have configured its driver to begin transactions.
        connection.execute(no_rows)
    else:
        connection.exec_driver_sql("BEGIN IMMEDIATE")


def writing_in_time(connection: AsyncConnection, *, patience: float) -> AbstractAsyncContextManager[None]:
    """Run one transaction in which no statement waits long for a lock.

    Args:
        connection: A connection that has not begun a transaction.
        patience: The number of seconds that a statement may wait.
    """
    match connection.dialect.name:
        case "postgresql":
            return _writing_postgresql(connection, patience)
        case "sqlite":
            return _writing_with_setting(connection, _SQLITE_WAIT, round(patience * 1000))
        case _:
            # Do not wait for a lock at all, because the shortest wait on MySQL is a whole second.
            return _writing_with_setting(connection, _MYSQL_WAIT, 0)


@asynccontextmanager
async def reading(connection: AsyncConnection, *, patience: float) -> AsyncIterator[None]:
    """Let the next statement see everything committed before it starts, and on SQLite not wait long for a writer."""
    if connection.dialect.name == "sqlite":
        async with _with_setting(connection, *_SQLITE_WAIT, round(patience * 1000)):
            yield
    else:
        await connection.execution_options(isolation_level="READ COMMITTED")
        yield


def without_data(error: exc.DBAPIError) -> exc.DBAPIError:
    """Return the same error without parameters and row values, so that it may be logged."""
    return type(error)(error.statement, None, Exception(describe(error)))


def sees_latest(connection: Connection) -> bool:
    """Return whether each statement of the open transaction sees everything committed before it starts.

    On MariaDB and MySQL the isolation level of the session decides, because they do not report a level that SET
    TRANSACTION has set for a single transaction.
    """
    if connection.dialect.name == "sqlite":
        return not has_open_sqlite(connection)
    return connection.get_isolation_level() in {"READ COMMITTED", "READ UNCOMMITTED"}


def has_open_sqlite(connection: Connection) -> bool:
    """Return whether SQLite has a transaction open.

    SQLAlchemy may have begun a transaction for which the driver has not sent BEGIN yet.
    """
    if connection.dialect.name != "sqlite":
        return False
    return bool(getattr(connection.connection.driver_connection, "in_transaction", True))


def locks_rows(connection: Connection) -> bool:
    """Return whether transactions lock rows; on SQLite, a writing transaction locks the whole database instead."""
    return connection.dialect.name != "sqlite"


def is_transient(error: exc.DBAPIError) -> bool:
    """Return whether the same work may succeed a moment later."""
    return not _TRANSIENT.isdisjoint(_codes(error)) or getattr(error.orig, "sqlite_errorcode", 0) & 0xFF in _SQLITE_BUSY


def is_locked(error: exc.DBAPIError) -> bool:
    """Return whether a SELECT ... SKIP LOCKED has failed because all its rows are locked."""
    return _MARIADB_LOCKED in _codes(error)


def _codes(error: exc.DBAPIError) -> Sequence[object]:
    """Return the SQLSTATE and the error number; some drivers for MariaDB provide both."""
    return getattr(error.orig, "sqlstate", None), *getattr(error.orig, "args", ())[:1]


@asynccontextmanager
async def _writing_postgresql(connection: AsyncConnection, patience: float) -> AsyncIterator[None]:
    """Run one transaction in which PostgreSQL cancels a statement after `patience` seconds."""
    async with connection.begin():
        await connection.exec_driver_sql(f"SET LOCAL statement_timeout = {patience * 1000:.0f}")
        yield


@asynccontextmanager
async def _writing_with_setting(connection: AsyncConnection, wait: tuple[str, str], value: int) -> AsyncIterator[None]:
    """Run one transaction with a changed setting of the connection."""
    async with _with_setting(connection, *wait, value), connection.begin():
        yield


@asynccontextmanager
async def _with_setting(connection: AsyncConnection, query: str, change: str, value: int) -> AsyncIterator[None]:
    """Change a setting of the connection, and restore it afterwards."""
    usual = (await connection.exec_driver_sql(query)).one()
    await connection.exec_driver_sql(change.format(value, value))
    await connection.rollback()
    try:
        yield
    finally:
        try:
            await connection.exec_driver_sql(change.format(*usual))
        except exc.SQLAlchemyError:
            await connection.invalidate()  # It must not return to the pool with the changed setting.
