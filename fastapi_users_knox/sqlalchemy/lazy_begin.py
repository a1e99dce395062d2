"""Reading before the driver begins a transaction, which saves two of three round trips: BEGIN and ROLLBACK.

SQLAlchemy begins a transaction with the first statement of a session, and the drivers of PostgreSQL then send BEGIN.
This module sends the store's SELECT before BEGIN. The application's first statement then begins the transaction as
usual.
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, Engine, QueuePool
from sqlalchemy.orm import Session

from fastapi_users_knox.sqlalchemy.sessions import BEGINS_WITH, is_overridden

__all__ = ["before_begin", "has_begun_early", "has_direct_engine", "has_driver_begun", "may_precede_begin"]

_IS_DIRECT = "fastapi_users_knox.is_direct"
_ASK = "SELECT pg_backend_pid(), current_setting('transaction_isolation')"

# Where the application can add something to a transaction: settings at its beginning, or statements of its own.
_OPTIONS = BEGINS_WITH | {"stream_results", "yield_per"}  # The last two need a cursor, and that needs a transaction.
_SESSION_EVENTS = ("after_begin", "after_transaction_create", "do_orm_execute")
_CONNECTION_EVENTS = (
    *("engine_connect", "begin", "before_execute", "after_execute"),
    *("before_cursor_execute", "after_cursor_execute"),
)
_DIALECT_EVENTS = ("do_execute", "do_execute_no_params", "do_executemany", "handle_error")


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


def may_precede_begin(session: Session, connection: Connection) -> bool:
    """Return whether statements on this connection may be sent before the driver begins the session's transaction.

    Everything must be true that `before_begin` lists, and the driver must not have begun the transaction yet.
    """
    return bool(connection.info.get(_IS_DIRECT)) and _is_undisturbed(session, connection)


def has_direct_engine(session: Session, bind: Engine | Connection) -> bool:
    """Return whether `before_begin` can have an effect: on PostgreSQL, in a session that always uses this one engine.

    A session with a `get_bind` of its own may use another connection for each statement.
    """
    return isinstance(bind, Engine) and bind.dialect.driver in _DRIVERS and not is_overridden(type(session).get_bind)


def has_driver_begun(connection: Connection) -> bool:
    """Return whether the driver has begun the transaction that SQLAlchemy has begun."""
    driver = _DRIVERS.get(connection.dialect.driver)
    return driver is None or driver.is_in_transaction(connection.connection.driver_connection)


def has_begun_early(connection: Connection | None) -> bool:
    """Return whether the driver is known to have begun a transaction although SQLAlchemy has begun none."""
    return connection is not None and connection.dialect.driver in _DRIVERS and has_driver_begun(connection)


@contextmanager
def before_begin(session: Session, connection: Connection) -> Iterator[None]:
    """Send the statements of this block before the driver begins a transaction, where that is safe.

    It is safe if all of this is true:

    - The application adds nothing to a transaction, by a setting at its beginning or by a listener.
    - The isolation level is READ COMMITTED, so each statement sees the latest state anyway.
    - The connection is used by one session at a time.
    - No pooler distributes the connection's statements among several server processes.

    Args:
        session: The application's session.
        connection: The connection that the session uses for the statements.
    """
    if not _is_undisturbed(session, connection) or not _is_direct(connection):
        yield
        return
    adapter: Any = connection.connection.dbapi_connection
    try:
        # SQLAlchemy's adapters of both drivers send nothing when this is set. SQLAlchemy itself sets it to ping with
        # psycopg.
        adapter.autocommit = True
        yield
    finally:
        _begin_as_usual(connection, adapter)


def _is_undisturbed(session: Session, connection: Connection) -> bool:
    """Return whether nothing of the application can belong to the transaction of this session before it begins."""
    dialect = connection.dialect
    return not (
        has_driver_begun(connection)
        or session.twophase
        or _OPTIONS & connection.get_execution_options().keys()
        or not isinstance(connection.engine.pool, QueuePool)
        or connection.engine.pool.dispatch.checkout
        or any(getattr(session.dispatch, name) for name in _SESSION_EVENTS)
        or any(getattr(connection.dispatch, name) for name in _CONNECTION_EVENTS)
        or any(getattr(dialect.dispatch, name) for name in _DIALECT_EVENTS)
        or dialect.detect_autocommit_setting(connection.connection)
    )


def _is_direct(connection: Connection) -> bool:
    """Return whether this connection leads to one server process for as long as it is open, at READ COMMITTED.

    The server is asked once for each connection of the pool. A pooler that shares its connections to the server, such
    as PgBouncer, reports an invented process id to the client. Through such a pooler, only the statements of one
    transaction are sure to reach the same server process. asyncpg needs this, because only that process knows its
    prepared statement.
    """
    known: bool | None = connection.info.get(_IS_DIRECT)
    if known is not None:
        return known
    pid, isolation = connection.exec_driver_sql(_ASK).one()
    server_pid = _DRIVERS[connection.dialect.driver].server_pid(connection.connection.driver_connection)
    connection.info[_IS_DIRECT] = pid == server_pid and isolation == "read committed"
    return False  # The question has begun a transaction.


def _begin_as_usual(connection: Connection, adapter: Any) -> None:  # noqa: ANN401 (SQLAlchemy does not export the class)
    """Make the driver begin a transaction with the next statement, as usual, or invalidate the connection."""
    begins_as_usual = False
    try:
        with suppress(Exception):  # The error that has interrupted the block is raised, not this one.
            adapter.autocommit = False
            begins_as_usual = True
    finally:
        if not begins_as_usual:
            connection.invalidate()  # No statement of the application may run in autocommit.
