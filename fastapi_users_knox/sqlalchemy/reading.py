"""One SELECT on the application's session, at the lowest possible cost."""

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from functools import cache
from typing import Any, NamedTuple, cast

from sqlalchemy import Row, Select, bindparam, select
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import Mapper, Session, class_mapper

from fastapi_users_knox.records import UserSource
from fastapi_users_knox.sqlalchemy.attributes import active_by_row_and_object
from fastapi_users_knox.sqlalchemy.lazy_begin import before_begin, has_direct_engine, has_driver_begun
from fastapi_users_knox.sqlalchemy.sessions import has_execute_hooks, has_own_execute

__all__ = ["Fetched", "fetch", "select_user"]

# The ways to load a relationship that add nothing to the SELECT of the class that has it.
_JOINS_NOTHING = {"select", True, "selectin", "subquery", "immediate", "raise", "raise_on_sql", "noload", None}


class Fetched(NamedTuple):
    """The rows of a SELECT.

    Attributes:
        rows: All rows, each once.
        is_first: Whether the SELECT came before any statement of the application in the same transaction of the
            database.
    """

    rows: Sequence[Row[Any]]
    is_first: bool


async def fetch(
    session: AsyncSession,
    statement: Select[Any],
    parameters: Mapping[str, object],
    *,
    mapper: Mapper[Any],
    entity: Mapper[Any] | None = None,
) -> Fetched:
    """Run a SELECT on the application's session, which is not flushed, committed or rolled back.

    Args:
        session: The application's session.
        statement: The SELECT.
        parameters: Its parameters.
        mapper: The mapper that a session with several engines needs to choose the engine.
        entity: The mapper of the class whose objects the SELECT loads; `None` if it selects columns only.
    """
    # Every call gets the same routing, so that a session with several engines uses the same engine for all calls.
    routing = {"mapper": mapper, "clause": statement}
    if has_own_execute(session):
        is_first = not session.in_transaction()
        with session.no_autoflush:
            found = await session.execute(statement, parameters, bind_arguments=routing)
        return Fetched(found.unique().all(), is_first)
    # `AsyncSession.execute` would put all rows into a second buffer.
    return await session.run_sync(_fetch, statement, parameters, routing, entity, has_hooks=has_execute_hooks(session))


async def select_user(source: UserSource, id: object) -> tuple[Any, bool] | None:
    """Return a user, and whether the user is active according to the row just read; `None` if there is no row."""
    session, mapper = cast("AsyncSession", source.session), class_mapper(cast("type[Any]", source.user_class))
    rows, _ = await fetch(session, _find_user(mapper), {"id": id}, mapper=mapper, entity=mapper)
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
    routing: dict[str, Any],
    entity: Mapper[Any] | None,
    *,
    has_hooks: bool,
) -> Fetched:
    """Run the SELECT in the greenlet of the session. If possible, run it before the driver begins a transaction."""
    is_first = not session.in_transaction()
    if has_hooks:
        with session.no_autoflush:
            found = session.execute(statement, parameters, bind_arguments=routing)
            return Fetched(found.unique().all(), is_first)
    held_back: AbstractContextManager[None] = nullcontext()
    if has_direct_engine(session, session.get_bind(**routing)):
        connection = session.connection(routing)
        is_first = is_first or not has_driver_begun(connection)
        held_back = before_begin(session, connection)
    if entity is None:
        with held_back:  # No object is loaded, so the ORM has nothing to do.
            return Fetched(session.connection(routing).execute(statement, parameters).all(), is_first)
    with session.no_autoflush:  # This also holds for the SELECTs of eager loading.
        with held_back:
            result = session.execute(statement, parameters, bind_arguments=routing)
        # The objects are created only here, so the load listeners of the application run in a transaction.
        return Fetched((result.unique() if _joins_eagerly(entity) else result).all(), is_first)


@cache
def _joins_eagerly(entity: Mapper[Any]) -> bool:
    """Return whether loading this class may join a relationship, which may repeat its rows."""
    return not all(
        relationship.lazy in _JOINS_NOTHING
        for each in entity.self_and_descendants
        for relationship in each.relationships
    )
