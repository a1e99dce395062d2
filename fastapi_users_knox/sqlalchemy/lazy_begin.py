"""Reading before the driver begins a transaction, which saves two of three round trips: BEGIN and ROLLBACK.

SQLAlchemy begins a transaction with the first statement of a session, and the drivers of PostgreSQL then send BEGIN.
This module sends the store's SELECT before BEGIN. The application's first statement then begins the transaction as
usual.
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, Engine, NullPool
from sqlalchemy.orm import Session

from fastapi_users_knox.sqlalchemy.sessions import has_begin_hooks

__all__ = ["before_begin", "begins_plainly", "has_driver_begun", "may_hold_back_begin"]

_BEGINS_WITH = {"isolation_level", "postgresql_readonly", "postgresql_deferrable"}
_IS_DIRECT = "fastapi_users_knox.is_direct"
_ASK = "SELECT pg_backend_pid(), current_setting('transaction_isolation')"


@dataclass(frozen=True, kw_only=True)
class _Driver:
    """Facts that a driver's own connection knows without a round trip.

    Attributes:
        is_in_transaction: A function that returns whether the driver has begun a transaction.
        server_pid: A function that returns the process id that the server reported when the connection was opened.
    """

    is_in_transaction: Callable[[Any], bool]
    server_pid: Callable[[Any], int]


_DRIVERS: Mapping[str, _Driver] = {
    "asyncpg": _Driver(
        is_in_transaction=lambda connection: connection.is_in_transaction(),
        server_pid=lambda connection: connection.get_server_pid(),
    ),
    "psycopg": _Driver(
        is_in_transaction=lambda connection: bool(connection.info.transaction_status),
        server_pid=lambda connection: connection.info.backend_pid,
    ),
}


def begins_plainly(session: Session, connection: Connection) -> bool:
    """Return whether the session's transactions begin without anything that the application has added."""
    return not (
        session.twophase
        or has_begin_hooks(session)
        or connection.dispatch.begin
        or _BEGINS_WITH & connection.get_execution_options().keys()
        or connection.dialect.detect_autocommit_setting(connection.connection)
    )


def may_hold_back_begin(session: Session, bind: Engine | Connection) -> bool:
    """Return whether `before_begin` can have an effect, which requires PostgreSQL and a session with an engine."""
    return isinstance(bind, Engine) and bind.dialect.driver in _DRIVERS and not session.in_nested_transaction()


def has_driver_begun(connection: Connection) -> bool:
    """Return whether the driver has begun the transaction that SQLAlchemy has begun."""
    driver = _DRIVERS.get(connection.dialect.driver)
    return driver is None or driver.is_in_transaction(connection.connection.driver_connection)


@contextmanager
def before_begin(session: Session, connection: Connection) -> Iterator[None]:
    """Send the statements of this block before the driver begins a transaction, if that is safe.

    Sending before BEGIN is safe under four conditions. The application adds nothing to the beginning of the
    transaction. No listener of the engine can send statements that depend on a transaction. The isolation level is READ
    COMMITTED, so each statement sees the latest state anyway. No pooler distributes the connection's statements among
    several server processes.

    Args:
        session: The application's session.
        connection: The connection that the session uses for the statements.
    """
    is_safe = (
        not has_driver_begun(connection)
        and begins_plainly(session, connection)
        and not (connection.dispatch.before_execute or connection.dispatch.before_cursor_execute)
        and _is_direct(connection)
    )
    if not is_safe:
        yield
        return
    # SQLAlchemy's adapters of both drivers send nothing when `autocommit` is set. SQLAlchemy itself sets it with
    # psycopg, for a ping.
    adapter: Any = connection.connection.dbapi_connection
    adapter.autocommit = True
    try:
        yield
    finally:
        _begin_as_usual(connection, adapter)


def _is_direct(connection: Connection) -> bool:
    """Return whether this connection runs at READ COMMITTED, and always leads to the same server process.

    The server is asked for its process id once for each connection of the pool. A pooler that shares its connections to
    the server, such as PgBouncer, reports an invented process id to the client. Through a pooler, only the statements
    of one transaction are sure to reach the same server process. asyncpg needs the same process, because a statement
    that it has prepared is known only there.
    """
    known: bool | None = connection.info.get(_IS_DIRECT)
    if known is not None:
        return known
    if isinstance(connection.engine.pool, NullPool):
        return False  # No connection is used again, so the server would be asked at each read.
    pid, isolation = connection.exec_driver_sql(_ASK).one()
    server_pid = _DRIVERS[connection.dialect.driver].server_pid(connection.connection.driver_connection)
    connection.info[_IS_DIRECT] = pid == server_pid and isolation == "read committed"
    return False  # This query has begun a transaction.


def _begin_as_usual(connection: Connection, adapter: Any) -> None:  # noqa: ANN401 (SQLAlchemy does not export the class)
    """Make the driver begin a transaction with the next statement, as usual, or invalidate the connection."""
    try:
        adapter.autocommit = False
    except BaseException as error:
        connection.invalidate()  # After any error, no statement of the application may run in autocommit.
        if not isinstance(error, Exception):
            raise
