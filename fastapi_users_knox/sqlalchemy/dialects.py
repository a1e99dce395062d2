"""The differences between the databases: how a write begins, how it waits for locks, and what errors mean."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

from sqlalchemy import Connection, Dialect, Update, exc

from fastapi_users_knox.errors import KnoxError, describe

__all__ = [
    "MAX_WAIT",
    "begin_writing",
    "has_open_sqlite",
    "is_locked",
    "is_transient",
    "locks_in_subquery",
    "locks_rows",
    "options_to_write",
    "reading",
    "sees_latest",
    "without_data",
    "writing_in_time",
]

# Seconds to wait for a second connection, and then for a lock. The contract of `TokenStore` allows one second for the
# two waits together. With less time, a slow database causes more skipped writes, and more reads that raise
# `StoreUnavailable` because they need a second connection. With more time, requests wait longer while no connection is
# free or a lock is held.
MAX_WAIT = 0.3

_TRANSIENT = {
    *("40001", "40P01", "55P03"),  # PostgreSQL: serialization failure, deadlock, lock not available
    *(1020, 1205, 1213),  # MariaDB: record changed, lock wait timeout, deadlock
}
# A crash may lose the write, but a later read then repeats the write. So the commit need not wait for a disk or a
# standby server.
_POSTGRESQL_WAIT = "SELECT set_config('statement_timeout', '{}', true), set_config('synchronous_commit', 'off', true)"
_SQLITE_WAIT = ("PRAGMA busy_timeout", "PRAGMA busy_timeout = {}")  # milliseconds
_MYSQL_WAIT = (  # in seconds, for locks on tables and on rows
    "SELECT @@lock_wait_timeout, @@innodb_lock_wait_timeout",
    "SET lock_wait_timeout = {0}, innodb_lock_wait_timeout = {1}",
)
_MARIADB_LOCKED = 1180  # With a lock wait timeout of 0, SKIP LOCKED raises this error for a locked row.
_SQLITE_BUSY = {5, 6}  # SQLITE_BUSY, SQLITE_LOCKED


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


@contextmanager
def writing_in_time(connection: Connection) -> Iterator[None]:
    """Run one transaction in which no statement waits longer than `MAX_WAIT` for a lock.

    Args:
        connection: A connection whose driver has not begun a transaction.
    """
    match connection.dialect.name:
        case "postgresql":
            connection.exec_driver_sql(_POSTGRESQL_WAIT.format(round(MAX_WAIT * 1000)))
            yield
        case "sqlite":
            with _with_setting(connection, _SQLITE_WAIT, round(MAX_WAIT * 1000)):
                yield
        case _:
            # Do not wait for a lock at all, because the shortest wait on MySQL is a whole second.
            with _with_setting(connection, _MYSQL_WAIT, 0):
                yield


@contextmanager
def reading(connection: Connection) -> Iterator[None]:
    """Let the next statement see all that was committed before it starts. On SQLite, do not wait long for a writer."""
    if connection.dialect.name == "sqlite":
        with _with_setting(connection, _SQLITE_WAIT, round(MAX_WAIT * 1000)):
            yield
    else:
        connection.execution_options(isolation_level="READ COMMITTED")
        yield


def without_data(error: exc.DBAPIError) -> exc.DBAPIError:
    """Return the same error without parameters and row values, so that it may be logged."""
    return type(error)(error.statement, None, Exception(describe(error)))


def sees_latest(connection: Connection) -> bool:
    """Return whether each statement of the open transaction sees everything committed before it starts.

    On MariaDB and MySQL the isolation level of the session decides, because these databases do not report a level that
    SET TRANSACTION has set for a single transaction.
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
    """Return whether transactions lock rows. On SQLite, a writing transaction locks the whole database instead."""
    return connection.dialect.name != "sqlite"


def locks_in_subquery(connection: Connection) -> bool:
    """Return whether an UPDATE may lock rows of its own table in a subquery. On SQLite, that lock is not needed."""
    return connection.dialect.name not in {"mysql", "mariadb"}


def is_transient(error: exc.DBAPIError) -> bool:
    """Return whether the same work may succeed if it is done again a moment later."""
    return not _TRANSIENT.isdisjoint(_codes(error)) or getattr(error.orig, "sqlite_errorcode", 0) & 0xFF in _SQLITE_BUSY


def is_locked(error: exc.DBAPIError) -> bool:
    """Return whether a SELECT ... SKIP LOCKED has failed because all its rows are locked."""
    return _MARIADB_LOCKED in _codes(error)


def _codes(error: exc.DBAPIError) -> Sequence[object]:
    """Return the SQLSTATE and the error number; some drivers for MariaDB provide both."""
    return getattr(error.orig, "sqlstate", None), *getattr(error.orig, "args", ())[:1]


@contextmanager
def _with_setting(connection: Connection, wait: tuple[str, str], value: int) -> Iterator[None]:
    """Change a setting of the connection, outside of any transaction, and restore it afterwards."""
    query, change = wait
    usual = connection.exec_driver_sql(query).one()
    connection.exec_driver_sql(change.format(value, value))
    try:
        yield
    finally:
        try:
            connection.exec_driver_sql(change.format(*usual))
        except exc.SQLAlchemyError:
            connection.invalidate()  # The pool must not get the connection back with the changed setting.
