"""One SELECT on the application's session, at the lowest possible cost."""

from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any, cast

from sqlalchemy import Row, Select, bindparam, select
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import Mapper, Session, class_mapper

from fastapi_users_knox.records import UserSource
from fastapi_users_knox.sqlalchemy.attributes import active_by_row_and_object
from fastapi_users_knox.sqlalchemy.dialects import may_autocommit
from fastapi_users_knox.sqlalchemy.sessions import (
    close_transaction,
    has_begin_hooks,
    has_execute_hooks,
    has_own_execute,
)

__all__ = ["fetch", "select_user"]


async def fetch(
    session: AsyncSession, statement: Select[Any], parameters: Mapping[str, object], *, mapper: Mapper[Any]
) -> Sequence[Row[Any]]:
    """Return all rows of a SELECT, each once.

    Args:
        session: The application's session. If it is idle and its engine has the option `knox_autocommit`, no
            transaction is begun.
        statement: The SELECT.
        parameters: Its parameters.
        mapper: The mapper that a session with several engines needs to choose the engine.
    """
    if has_own_execute(session):
        with session.no_autoflush:
            found = await session.execute(statement, parameters, bind_arguments={"mapper": mapper, "clause": statement})
        return found.unique().all()
    # `AsyncSession.execute` would put all rows into a second buffer.
    return await session.run_sync(_fetch, statement, parameters, mapper, may_commit=not has_execute_hooks(session))


async def select_user(source: UserSource, id: object) -> tuple[Any, bool] | None:
    """Return a user, and whether the user is active by the row just read; `None` if there is no row."""
    session, mapper = cast("AsyncSession", source.session), class_mapper(cast("type[Any]", source.user_class))
    rows = await fetch(session, _find_user(mapper), {"id": id}, mapper=mapper)
    return (rows[0][0], active_by_row_and_object(rows[0][1], rows[0][0])) if rows else None


@cache
def _find_user(users: Mapper[Any]) -> Select[Any]:
    """Build the SELECT of a user only once for each class, because building it is expensive.

    `is_active` is selected in addition to the user, because an object that the session already has is not refreshed.
    """
    user_class = users.class_
    return select(user_class, user_class.is_active).where(user_class.id == bindparam("id"))


def _fetch(
    session: Session,
    statement: Select[Any],
    parameters: Mapping[str, object],
    mapper: Mapper[Any],
    *,
    may_commit: bool,
) -> Sequence[Row[Any]]:
    """Run the SELECT in the greenlet of the session, in autocommit if that is possible."""
    # Every call below gets the same routing, so that a session with several engines uses one engine for all.
    routing = {"mapper": mapper, "clause": statement}
    with session.no_autoflush:  # This also holds for the SELECTs of eager loading.
        if not (may_commit and _may_autocommit(session, mapper, statement)):
            return session.execute(statement, parameters, bind_arguments=routing).unique().all()
        try:
            session.connection(routing, execution_options={"isolation_level": "AUTOCOMMIT"})
            return session.execute(statement, parameters, bind_arguments=routing).unique().all()
        finally:
            # Whatever happens, no statement of the application may run on a connection in autocommit. No BEGIN was sent
            # for this transaction, and closing it does not expire loaded objects.
            close_transaction(session)


def _may_autocommit(session: Session, mapper: Mapper[Any], statement: Select[Any]) -> bool:
    """Return whether the SELECT may run without a transaction on this session."""
    # In autocommit, a setting that a hook makes for the transaction would be lost before the SELECT.
    if session.in_transaction() or session.twophase or has_begin_hooks(session):
        return False
    return may_autocommit(session.get_bind(mapper, clause=statement))
