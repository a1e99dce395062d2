"""The users as FastAPI-Users' own SQL adapter loads them, but by a prebuilt SELECT."""

from functools import cache
from typing import Any, TypeGuard

from fastapi_users.db import BaseUserDatabase
from fastapi_users.manager import BaseUserManager
from fastapi_users.models import ID, UP
from fastapi_users_db_sqlalchemy import SQLAlchemyUserDatabase
from sqlalchemy import Select, bindparam, select
from sqlalchemy.ext.asyncio import AsyncSession, async_scoped_session
from sqlalchemy.orm import class_mapper

from fastapi_users_knox.sqlalchemy.attributes import active_by_row_and_object, in_sql
from fastapi_users_knox.sqlalchemy.reading import fetch

__all__ = ["is_sqlalchemy", "open_session", "plain_user_db", "select_user"]


def is_sqlalchemy(user_db: BaseUserDatabase[UP, ID]) -> TypeGuard[SQLAlchemyUserDatabase[UP, ID]]:
    """Return whether this is FastAPI-Users' adapter for SQLAlchemy."""
    return isinstance(user_db, SQLAlchemyUserDatabase)


def plain_user_db(user_manager: BaseUserManager[UP, ID]) -> SQLAlchemyUserDatabase[UP, ID] | None:
    """Return the user database if this user manager loads a user by a plain SELECT on it, else `None`."""
    user_db = user_manager.user_db
    if not is_sqlalchemy(user_db):
        return None
    is_plain = (
        _is(user_manager.get, BaseUserManager.get)
        and _is(user_db.get, SQLAlchemyUserDatabase.get)
        and _is(user_db._get_user, SQLAlchemyUserDatabase._get_user)  # noqa: SLF001 (only compared)
        # An application may work out who is active in Python, which no SELECT can.
        and in_sql(class_mapper(user_db.user_table), "is_active") is not None
    )
    return user_db if is_plain else None


async def select_user(user_db: SQLAlchemyUserDatabase[UP, ID], id: ID) -> tuple[UP, bool] | None:
    """Return a user and whether it is active, by the row just read; nothing is flushed."""
    mapper, session = class_mapper(user_db.user_table), open_session(user_db.session)
    rows = await fetch(session, _find(user_db.user_table), {"id": id}, mapper=mapper)
    return (rows[0][0], active_by_row_and_object(rows[0][1], rows[0][0])) if rows else None


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


@cache
def _find(user_table: type[Any]) -> Select[Any]:
    """Build the SELECT of one user by the parameter `id`, once for each class: building it is most of its cost.

    `is_active` is asked for beside the user, as an object that the session already has is not refreshed.
    """
    return select(user_table, user_table.is_active).where(user_table.id == bindparam("id"))


def _is(method: object, function: object) -> bool:
    return getattr(method, "__func__", None) is function
