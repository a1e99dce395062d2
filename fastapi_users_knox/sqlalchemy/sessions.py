"""What an application has set for its session, and what a commit on it may do: both hold for our transactions too."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager, nullcontext, suppress
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
    "abandon_transaction",
    "close_transaction",
    "commit_keeping_loaded",
    "executing_options",
    "has_begin_hooks",
    "has_execute_hooks",
    "has_own_execute",
    "lasting_options",
    "load_identity",
    "open_session",
    "refuse_transaction_block",
    "roll_back_keeping_loaded",
    "run_begin_hooks",
    "with_options",
]

_BEGINS_WITH = {"isolation_level", "postgresql_readonly", "postgresql_deferrable"}


def open_session(session: AsyncSession | async_scoped_session[AsyncSession]) -> AsyncSession:
    """Return the session, or the current one of a scope.

    Raises:
        TypeError: It is something else, such as a synchronous session.
    """
    current = session() if isinstance(session, async_scoped_session) else session
    if isinstance(current, AsyncSession):
        return current
    raise TypeError(
        "session must be an AsyncSession, as an async_sessionmaker opens it, and comes before the table: "
        f"got {session!r}"
    )


def has_begin_hooks(session: Session) -> bool:
    """Return whether `after_begin` listeners prepare each transaction: those of the session, or of its class."""
    return bool(session.dispatch.after_begin)


def has_execute_hooks(session: AsyncSession) -> bool:
    """Return whether the application changes how the session executes statements, by listeners or by a method."""
    return bool(session.sync_session.dispatch.do_orm_execute) or any(
        _is_own(type(each).execute) for each in (session, session.sync_session)
    )


def has_own_execute(session: AsyncSession) -> bool:
    """Return whether `execute` of the asynchronous session is the application's own."""
    return _is_own(type(session).execute)


def _is_own(execute: Callable[..., object]) -> bool:
    return execute.__module__.partition(".")[0] not in {"sqlalchemy", "sqlmodel"}  # SQLModel's only adds types.


async def executing_options(session: AsyncSession, probe: Select[Any], *, mapper: Mapper[Any]) -> Mapping[str, object]:
    """Return the execution options that the application's hooks add to a statement, such as `schema_translate_map`.

    The hooks run as for any statement, and may send some of their own in the session's transaction. The statement they
    run for is not sent.

    Args:
        session: The application's.
        probe: The statement.
        mapper: By which a session that routes finds its engine.
    """
    if not has_execute_hooks(session):
        return {}
    seen: dict[str, object] = {}

    def instead(state: ORMExecuteState) -> Result[Any]:
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
    """Give a connection options for a while."""
    usual = connection.get_execution_options()
    connection.execution_options(**options)
    try:
        yield
    finally:
        connection.execution_options(**{name: usual.get(name) for name in options})


def run_begin_hooks(session: Session, connection: Connection) -> None:
    """Prepare the transaction of a connection that is not the session's as the application prepares the session's.

    An `after_begin` listener has to send its statements over the connection that it is given, never over the session.
    """
    if not has_begin_hooks(session):
        return
    transaction = session.get_transaction()
    # A transaction that is begun for the listeners' argument takes no connection, and so sends nothing.
    with closing(session.begin()) if transaction is None else nullcontext(transaction) as begun:
        session.dispatch.after_begin(session, begun, connection)


def lasting_options(connection: Connection) -> Mapping[str, object]:
    """Return a connection's execution options, such as `schema_translate_map`, but not how its transactions begin."""
    return {name: value for name, value in connection.get_execution_options().items() if name not in _BEGINS_WITH}


def refuse_transaction_block(session: Session) -> None:
    """Refuse to commit where the application has said by a block or by `begin()` that it commits itself.

    Raises:
        KnoxError: The session is in such a transaction, or in a SAVEPOINT.
    """
    transaction = session.get_transaction()
    is_block = transaction is not None and transaction.origin is SessionTransactionOrigin.BEGIN
    if is_block or session.in_nested_transaction():
        raise KnoxError(
            "the session is inside begin() or begin_nested(), and writing tokens has to commit it: "
            "open it by `async with async_sessionmaker(...)() as session`, without begin()"
        )


async def commit_keeping_loaded(session: AsyncSession) -> None:
    """Commit without expiring what the application has loaded: its next attribute access could not be awaited."""
    synchronous = session.sync_session
    expire_on_commit, synchronous.expire_on_commit = synchronous.expire_on_commit, False
    try:
        await session.commit()
    finally:
        synchronous.expire_on_commit = expire_on_commit


async def roll_back_keeping_loaded(session: AsyncSession, deleted: object) -> None:
    """Roll back without expiring what the application has loaded: its next attribute access could not be awaited.

    Args:
        session: The session.
        deleted: An object that may not be found in it, as its deletion was flushed.
    """
    loaded = [(each, _loaded_names(each)) for each in {*session.identity_map.values(), deleted}]
    await session.rollback()
    for each, names in loaded:
        if names and each in session:
            with suppress(InvalidRequestError):  # It is gone.
                await session.refresh(each, names)


def load_identity(user: object) -> None:
    """Let the `id` of an expired user be read without a SELECT, which could not be awaited."""
    state = inspect(user, raiseerr=False)
    if not isinstance(state, InstanceState) or state.identity is None or "id" not in state.unloaded:
        return
    keys = [state.mapper.get_property_by_column(column).key for column in state.mapper.primary_key]
    set_committed_value(user, "id", dict(zip(keys, state.identity, strict=True))["id"])


def close_transaction(session: Session) -> None:
    """End a transaction that is open, without storing anything and without expiring what the application has loaded."""
    transaction = session.get_transaction()
    if transaction is not None:
        transaction.close()


def _loaded_names(mapped: object) -> set[str]:
    return vars(mapped).keys() & set(class_mapper(type(mapped)).attrs.keys())


def abandon_transaction(session: Session, callers: SessionTransaction | None) -> None:
    """End the transaction that is open, without storing anything.

    Args:
        session: The application's.
        callers: The transaction that the application has begun. What was flushed in it is lost along with it, so its
            objects must not pass for stored: they are restored as by any other rollback. In a transaction of ours
            nothing was flushed, and nothing that the application has loaded needs to expire.
    """
    if callers is not None and session.get_transaction() is callers:
        session.rollback()
    else:
        close_transaction(session)
