"""Ways to open a session in which something of the application may belong to the transaction."""

from collections.abc import Callable, Mapping
from typing import Any

from sqlalchemy import (
    Delete,
    Engine,
    Update,
    event,
)
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession
from sqlalchemy.orm import Session, sessionmaker


def do_nothing(*_: object) -> None:
    """Listen, and do nothing."""


def heard_by_session(name: str) -> Callable[[AsyncEngine], AsyncSession]:
    """Return a function that opens a session whose class has a listener."""

    def open_session(engine: AsyncEngine) -> AsyncSession:
        maker = sessionmaker()
        event.listen(maker, name, do_nothing)
        return AsyncSession(engine, sync_session_class=type(maker()))

    return open_session


def heard_by_engine(name: str) -> Callable[[AsyncEngine], AsyncSession]:
    """Return a function that opens a session on an engine with a listener."""

    def open_session(engine: AsyncEngine) -> AsyncSession:
        event.listen(engine.sync_engine, name, do_nothing)
        return AsyncSession(engine)

    return open_session


def with_options(**options: Any) -> Callable[[AsyncEngine], AsyncSession]:
    """Return a function that opens a session on an engine with execution options."""
    return lambda engine: AsyncSession(engine.execution_options(**options))


class RoutingSession(Session):
    """A session that chooses its engine for each statement, as SQLAlchemy's documentation shows it."""

    follower: Engine

    def get_bind(self, *args: Any, clause: Any = None, **options: Any) -> Any:
        """Send everything but an UPDATE or a DELETE to the follower."""
        leader = super().get_bind(*args, clause=clause, **options)
        return leader if isinstance(clause, Update | Delete) else self.follower


def routed(engine: AsyncEngine) -> AsyncSession:
    """Open a session that reads from a follower, here the same server in read-only transactions."""
    follower = engine.sync_engine.execution_options(postgresql_readonly=True)
    return AsyncSession(engine, sync_session_class=type("Routing", (RoutingSession,), {"follower": follower}))


OPENINGS: Mapping[str, Callable[[AsyncEngine], AsyncSession]] = {
    **{name: heard_by_session(name) for name in ("after_begin", "after_transaction_create", "do_orm_execute")},
    **{
        name: heard_by_engine(name)
        for name in (
            *("engine_connect", "begin", "checkout", "before_execute", "after_execute", "before_cursor_execute"),
            *("after_cursor_execute", "handle_error", "do_execute"),
        )
    },
    "repeatable read": with_options(isolation_level="REPEATABLE READ"),
    "serializable": with_options(isolation_level="SERIALIZABLE"),
    "read-only": with_options(postgresql_readonly=True),
    "streaming": with_options(stream_results=True),
    "get_bind": routed,
}
