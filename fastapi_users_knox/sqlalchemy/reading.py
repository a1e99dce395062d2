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
        mapper: The mapper by which a session with several engines selects its engine.
    """
    if has_own_execute(session):
        with session.no_autoflush:
            found = await session.execute(statement, parameters, bind_arguments={"mapper": mapper, "clause": statement})
        return found.unique().all()
    # `AsyncSession.execute` would put all rows into a second buffer.
    return await session.run_sync(_fetch, statement, parameters, mapper, may_commit=not has_execute_hooks(session))


async def select_user(source: UserSource, id: object) -> tuple[Any, bool] | None:
    """Return a user, and whether the row just read is active; `None` if there is no row. Nothing is flushed."""
    session, mapper = cast("AsyncSession", source.session), class_mapper(cast("type[Any]", source.user_class))
    rows = await fetch(session, _find_user(mapper), {"id": id}, mapper=mapper)
    return (rows[0][0], active_by_row_and_object(rows[0][1], rows[0][0])) if rows else None


@cache
def _find_user(users: Mapper[Any]) -> Select[Any]:
    """Build the SELECT of one user once for each class, because building it is most of its cost.

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
    # It is passed each time, so that a session with several engines uses the same one for all of it.
    routing = {"mapper": mapper, "clause": statement}
    with session.no_autoflush:  # Neither before the SELECT, nor before those of eager loading.
        if not (may_commit and _may_autocommit(session, mapper, statement)):
            return session.execute(statement, parameters, bind_arguments=routing).unique().all()
        try:
            session.connection(routing, execution_options={"isolation_level": "AUTOCOMMIT"})
            return session.execute(statement, parameters, bind_arguments=routing).unique().all()
        finally:
            # Whatever happens, no statement of the application may run on a connection in autocommit. The transaction
            # has sent nothing, and closing it does not expire what the application has loaded.
            close_transaction(session)


def _may_autocommit(session: Session, mapper: Mapper[Any], statement: Select[Any]) -> bool:
    # In autocommit, what a hook sets for its transaction would be lost before the SELECT.
    if session.in_transaction() or session.twophase or has_begin_hooks(session):
        return False
    return may_autocommit(session.get_bind(mapper, clause=statement))
