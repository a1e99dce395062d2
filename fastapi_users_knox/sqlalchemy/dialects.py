"""What differs between the databases: how a transaction that writes begins and waits, and what errors mean."""

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


def options_to_write(dialect: Dialect) -> Mapping[str, str]:
    """Return the options of a connection on which each statement is to see what others have committed by then.

    Raises:
        KnoxError: The database is none that the limit and the locks are known to hold on.
    """
    match dialect.name:
        case "postgresql" | "mysql" | "mariadb":
            return {"isolation_level": "READ COMMITTED"}
        case "sqlite":
            return {}
        case other:
            raise KnoxError(f"tokens cannot be kept on {other}")


def begin_writing(connection: Connection, no_rows: Update) -> None:
    """Take SQLite's write lock: it lets one transaction write at a time, and may refuse to turn a reader into it.

    Args:
        connection: One whose transaction has read nothing yet.
        no_rows: An UPDATE that changes nothing.
    """
    if connection.dialect.name != "sqlite":
        return
    if has_open_sqlite(connection):  # An application may have its driver begin by itself.
        connection.execute(no_rows)
    else:
        connection.exec_driver_sql("BEGIN IMMEDIATE")


def writing_in_time(connection: AsyncConnection, *, patience: float) -> AbstractAsyncContextManager[None]:
    """Run one transaction in which no statement waits long for a lock.

    Args:
        connection: One that has not begun a transaction.
        patience: How many seconds a statement may wait.
    """
    match connection.dialect.name:
        case "postgresql":
            return _writing_postgresql(connection, patience)
        case "sqlite":
            return _writing_changed(connection, _SQLITE_WAIT, round(patience * 1000))
        case _:
            # Wait for no lock at all: MySQL counts in whole seconds.
            return _writing_changed(connection, _MYSQL_WAIT, 0)


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


def sees_latest(connection: Connection) -> bool:
    """Return whether each statement of the open transaction sees what others have committed by then.

    On MariaDB and MySQL that is the level of the session: SET TRANSACTION for one transaction is not reported.
    """
    if connection.dialect.name == "sqlite":
        return not has_open_sqlite(connection)
    return connection.get_isolation_level() in {"READ COMMITTED", "READ UNCOMMITTED"}


def has_open_sqlite(connection: Connection) -> bool:
    """Return whether SQLite has a transaction open: what SQLAlchemy calls one may not have begun there yet."""
    if connection.dialect.name != "sqlite":
        return False
    return bool(getattr(connection.connection.driver_connection, "in_transaction", True))


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
async def _writing_postgresql(connection: AsyncConnection, patience: float) -> AsyncIterator[None]:
    async with connection.begin():
        await connection.exec_driver_sql(f"SET LOCAL statement_timeout = {patience * 1000:.0f}")
        yield


@asynccontextmanager
async def _writing_changed(connection: AsyncConnection, wait: tuple[str, str], value: int) -> AsyncIterator[None]:
    async with _changed(connection, *wait, value), connection.begin():
        yield


@asynccontextmanager
async def _changed(connection: AsyncConnection, ask: str, change: str, value: int) -> AsyncIterator[None]:
    """Change a setting of the connection for a while."""
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
