"""The application's session: its hooks and options, and how to commit it without side effects for the application."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager, nullcontext, suppress
from functools import lru_cache
from typing import Any

from sqlalchemy import Connection, Result, Select, event, inspect
from sqlalchemy.engine.result import IteratorResult, SimpleResultMetaData
from sqlalchemy.exc import InvalidRequestError
from sqlalchemy.ext.asyncio import AsyncSession, async_scoped_session
from sqlalchemy.orm import (
    InstanceState,
    Mapper,
    ORMExecuteState,
    Session,
    SessionTransaction,
    SessionTransactionOrigin,
    class_mapper,
)
from sqlalchemy.orm.attributes import set_committed_value

from fastapi_users_knox.errors import KnoxError

__all__ = [
    "BEGINS_WITH",
    "abandon_transaction",
    "close_transaction",
    "commit_keeping_loaded",
    "executing_options",
    "has_execute_hooks",
    "has_own_execute",
    "is_in_block",
    "is_overridden",
    "lasting_options",
    "load_identity",
    "open_session",
    "refuse_transaction_block",
    "roll_back_keeping_loaded",
    "run_begin_hooks",
    "with_options",
]

BEGINS_WITH = {"isolation_level", "postgresql_readonly", "postgresql_deferrable"}


def open_session(session: AsyncSession | async_scoped_session[AsyncSession]) -> AsyncSession:
    """Return the session itself, or the session behind an `async_scoped_session`.

    Raises:
        TypeError: The argument is not an asynchronous session.
    """
    current = session() if isinstance(session, async_scoped_session) else session
    if isinstance(current, AsyncSession):
        return current
    raise TypeError(
        "session must be an AsyncSession, such as an async_sessionmaker opens, and must be passed before the table: "
        f"got {session!r}"
    )


def has_execute_hooks(session: AsyncSession) -> bool:
    """Return whether the application changes how the session executes statements, by a listener or an override."""
    return (
        bool(session.sync_session.dispatch.do_orm_execute)
        or is_overridden(type(session).execute)
        or is_overridden(type(session.sync_session).execute)
    )


def has_own_execute(session: AsyncSession) -> bool:
    """Return whether the application has overridden `execute` of the asynchronous session."""
    return is_overridden(type(session).execute)


@lru_cache(maxsize=64)
def is_overridden(method: Callable[..., object]) -> bool:
    """Return whether this method of a session is an override by the application."""
    # SQLModel's overrides only add types.
    return method.__module__.partition(".")[0] not in {"sqlalchemy", "sqlmodel"}


async def executing_options(session: AsyncSession, probe: Select[Any], *, mapper: Mapper[Any]) -> Mapping[str, object]:
    """Return the execution options that the application's hooks add to a statement, such as `schema_translate_map`.

    The hooks run as they do for any statement, and may send their own statements in the session's transaction. The
    probe itself is not sent.

    Args:
        session: The application's session.
        probe: The statement for which the hooks run.
        mapper: The mapper that a session with several engines needs to choose the engine.
    """
    if not has_execute_hooks(session):
        return {}
    seen: dict[str, object] = {}

    def instead(state: ORMExecuteState) -> Result[Any]:
        """Note the options, and return an empty result instead of sending the statement."""
        seen.update({**state.statement.get_execution_options(), **state.local_execution_options})
        return IteratorResult(SimpleResultMetaData([]), iter(()))

    is_idle = not session.in_transaction()
    event.listen(session.sync_session, "do_orm_execute", instead)
    try:
        with session.no_autoflush:
            await session.execute(probe, bind_arguments={"mapper": mapper, "clause": probe})
    finally:
        event.remove(session.sync_session, "do_orm_execute", instead)
        if is_idle:
            await session.run_sync(close_transaction)
    return {name: value for name, value in seen.items() if not name.startswith("_") and name != "prebuffer_rows"}


@contextmanager
def with_options(connection: Connection, options: Mapping[str, object]) -> Iterator[None]:
    """Set execution options on a connection, and restore the former options afterwards."""
    if not options:
        yield
        return
    usual = connection.get_execution_options()
    connection.execution_options(**options)
    try:
        yield
    finally:
        connection.execution_options(**{name: usual.get(name) for name in options})


def run_begin_hooks(session: Session, connection: Connection) -> None:
    """Run the session's `after_begin` listeners for a transaction on a second connection.

    A listener must send its statements over the connection that it receives, never over the session.
    """
    if not session.dispatch.after_begin:
        return
    transaction = session.get_transaction()
    # The listeners need a transaction as an argument. To begin one here opens no connection and sends nothing.
    with closing(session.begin()) if transaction is None else nullcontext(transaction) as begun:
        session.dispatch.after_begin(session, begun, connection)


def lasting_options(connection: Connection) -> Mapping[str, object]:
    """Return a connection's execution options, such as `schema_translate_map`, without the options for BEGIN."""
    return {name: value for name, value in connection.get_execution_options().items() if name not in BEGINS_WITH}


def is_in_block(session: Session) -> bool:
    """Return whether the application will commit the session itself, at the end of `begin()` or of a SAVEPOINT."""
    transaction = session.get_transaction()
    is_block = transaction is not None and transaction.origin is SessionTransactionOrigin.BEGIN
    return is_block or session.in_nested_transaction()


def refuse_transaction_block(session: Session) -> None:
    """Refuse a session that the application itself commits at the end of a block.

    Raises:
        KnoxError: The session is inside `begin()` or a SAVEPOINT.
    """
    if is_in_block(session):
        raise KnoxError(
            "the session is inside begin() or begin_nested(), where tokens cannot be written, because writing a token "
            "commits the session: open the session with `async with async_sessionmaker(...)() as session`, without "
            "begin()"
        )


async def commit_keeping_loaded(session: AsyncSession) -> None:
    """Commit without expiring loaded objects, because access to an expired attribute cannot await a SELECT."""
    synchronous = session.sync_session
    expire_on_commit, synchronous.expire_on_commit = synchronous.expire_on_commit, False
    try:
        await session.commit()
    finally:
        synchronous.expire_on_commit = expire_on_commit


async def roll_back_keeping_loaded(session: AsyncSession, deleted: object) -> None:
    """Roll back and reload expired objects, because access to an expired attribute cannot await a SELECT.

    Args:
        session: The session.
        deleted: An object whose deletion may have been flushed, so that the session does not contain it any more.
    """
    loaded = [(each, _loaded_names(each)) for each in {*session.identity_map.values(), deleted}]
    await session.rollback()
    for each, names in loaded:
        if names and each in session:
            with suppress(InvalidRequestError):  # The row of the object does not exist any more.
                await session.refresh(each, names)


def load_identity(user: object) -> None:
    """Set the `id` of an expired user, because access to an expired attribute cannot await a SELECT."""
    state = inspect(user, raiseerr=False)
    if not isinstance(state, InstanceState) or state.identity is None or "id" not in state.unloaded:
        return
    keys = [state.mapper.get_property_by_column(column).key for column in state.mapper.primary_key]
    set_committed_value(user, "id", dict(zip(keys, state.identity, strict=True))["id"])


def close_transaction(session: Session) -> None:
    """Close the open transaction without storing anything and without expiring loaded objects."""
    transaction = session.get_transaction()
    if transaction is not None:
        transaction.close()


def _loaded_names(mapped: object) -> set[str]:
    """Return the names of the mapped attributes that are loaded."""
    return vars(mapped).keys() & set(class_mapper(type(mapped)).attrs.keys())


def abandon_transaction(session: Session, callers: SessionTransaction | None) -> None:
    """Close the open transaction without storing anything.

    Args:
        session: The application's session.
        callers: The transaction that the application has begun, if any. This transaction is rolled back, which expires
            loaded objects, so that the objects do not keep flushed changes that are lost. A transaction that the store
            has begun is only closed, because nothing was flushed in it, and loaded objects stay as they are.
    """
    if callers is not None and session.get_transaction() is callers:
        session.rollback()
    else:
        close_transaction(session)
