"""One SELECT on the application's session, as cheaply as it can be had."""

from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import Row, Select
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import Mapper, Session

from fastapi_users_knox.sqlalchemy.dialects import may_autocommit
from fastapi_users_knox.sqlalchemy.sessions import (
    close_transaction,
    has_begin_hooks,
    has_execute_hooks,
    has_own_execute,
)

__all__ = ["fetch"]


async def fetch(
    session: AsyncSession, statement: Select[Any], parameters: Mapping[str, object], *, mapper: Mapper[Any]
) -> Sequence[Row[Any]]:
    """Return all rows of a SELECT, each once.

    Args:
        session: The application's; where it is idle and its engine has the option `knox_autocommit`, it stays so.
        statement: Sent as it is.
        parameters: Its parameters.
        mapper: By which a session that routes finds its engine.
    """
    if has_own_execute(session):
        with session.no_autoflush:
            found = await session.execute(statement, parameters, bind_arguments={"mapper": mapper, "clause": statement})
        return found.unique().all()
    # `AsyncSession.execute` would put all rows into a second buffer.
    return await session.run_sync(_fetch, statement, parameters, mapper, may_commit=not has_execute_hooks(session))


def _fetch(
    session: Session,
    statement: Select[Any],
    parameters: Mapping[str, object],
    mapper: Mapper[Any],
    *,
    may_commit: bool,
) -> Sequence[Row[Any]]:
    # Said each time, so that a session that routes takes one engine for all of it.
    routing = {"mapper": mapper, "clause": statement}
    with session.no_autoflush:  # Neither for the SELECT, nor for what eager loading sends after it.
        if not (may_commit and _may_autocommit(session, mapper, statement)):
            return session.execute(statement, parameters, bind_arguments=routing).unique().all()
        try:
            session.connection(routing, execution_options={"isolation_level": "AUTOCOMMIT"})
            return session.execute(statement, parameters, bind_arguments=routing).unique().all()
        finally:
            # Whatever happened, nothing of the application's may run on a connection that commits by itself. To close
            # the transaction, in which nothing has begun, expires nothing that the application has loaded.
            close_transaction(session)


def _may_autocommit(session: Session, mapper: Mapper[Any], statement: Select[Any]) -> bool:
    # What a hook sets for a transaction would be gone before the SELECT.
    if session.in_transaction() or session.twophase or has_begin_hooks(session):
        return False
    return may_autocommit(session.get_bind(mapper, clause=statement))
