"""The users as FastAPI-Users' own SQL adapter loads them, but by a prebuilt SELECT."""

from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from functools import cache
from typing import Any, Generic, Self

from fastapi_users.db import BaseUserDatabase
from fastapi_users.manager import BaseUserManager
from fastapi_users.models import ID, UP
from fastapi_users_db_sqlalchemy import SQLAlchemyUserDatabase
from sqlalchemy import Select, bindparam, exc, select
from sqlalchemy.ext.asyncio import AsyncSession, async_scoped_session
from sqlalchemy.orm import class_mapper

from fastapi_users_knox.sqlalchemy.reading import fetch

__all__ = ["UserRows", "plain_user_db", "select_user"]


def plain_user_db(user_manager: BaseUserManager[UP, ID]) -> SQLAlchemyUserDatabase[UP, ID] | None:
    """Return the user database if this user manager loads a user by a plain SELECT on it, else `None`."""
    user_db = user_manager.user_db
    if not isinstance(user_db, SQLAlchemyUserDatabase):
        return None
    is_plain = (
        _is(user_manager.get, BaseUserManager.get)
        and _is(user_db.get, SQLAlchemyUserDatabase.get)
        and _is(user_db._get_user, SQLAlchemyUserDatabase._get_user)  # noqa: SLF001 (only compared)
        # An application may work out who is active in Python, which no SELECT can.
        and "is_active" in class_mapper(user_db.user_table).columns
    )
    return user_db if is_plain else None


async def select_user(user_db: SQLAlchemyUserDatabase[UP, ID], id: ID) -> tuple[UP, bool] | None:
    """Return a user and the `is_active` of the row just read; nothing is flushed."""
    mapper = class_mapper(user_db.user_table)
    rows = await fetch(_session(user_db), _find(user_db.user_table), {"id": id}, mapper=mapper)
    return (rows[0][0], bool(rows[0][1])) if rows else None


@dataclass(frozen=True)
class UserRows(Generic[UP, ID]):
    """The rows behind a user database: what is stored, whatever a session's objects say."""

    user_db: SQLAlchemyUserDatabase[UP, ID]

    @classmethod
    def of(cls, user_db: BaseUserDatabase[UP, ID]) -> Self | None:
        """Return the rows if this is FastAPI-Users' adapter for SQLAlchemy, else `None`."""
        return cls(user_db) if isinstance(user_db, SQLAlchemyUserDatabase) else None

    async def stored(self, id: ID) -> Mapping[str, object]:
        """Return the columns of a user's row by attribute name; it is empty if there is no row.

        The session's transaction is rolled back if it has failed, as nothing else can be done with it.
        """
        try:
            return await self._select(id)
        except (exc.DBAPIError, exc.InvalidRequestError):
            await _session(self.user_db).rollback()
            return await self._select(id)

    def sharing_session(self) -> AbstractContextManager[None]:
        """Return a context in which another task uses the session of this task, where sessions are scoped by it."""
        scoped = self.user_db.session
        return _sharing(scoped, scoped()) if isinstance(scoped, async_scoped_session) else nullcontext()

    async def _select(self, id: ID) -> Mapping[str, object]:
        session, table = _session(self.user_db), self.user_db.user_table
        mapper = class_mapper(table)
        statement = select(*[attribute.class_attribute for attribute in mapper.column_attrs]).where(table.id == id)
        with session.no_autoflush:
            found = await session.execute(statement, bind_arguments={"mapper": mapper, "clause": statement})
        row = found.one_or_none()
        return {} if row is None else dict(zip(mapper.column_attrs.keys(), row, strict=True))


@contextmanager
def _sharing(scoped: async_scoped_session[AsyncSession], session: AsyncSession) -> Iterator[None]:
    if scoped.registry.has():  # Scoped by something else, such as the request.
        yield
        return
    scoped.registry.set(session)
    try:
        yield
    finally:
        scoped.registry.clear()  # The session stays open.


def _session(user_db: SQLAlchemyUserDatabase[UP, ID]) -> AsyncSession:
    session = user_db.session
    return session() if isinstance(session, async_scoped_session) else session


@cache
def _find(user_table: type[Any]) -> Select[Any]:
    """Build the SELECT of one user by the parameter `id`, once for each class: building it is most of its cost.

    `is_active` is asked for beside the user, as an object that the session already has is not refreshed.
    """
    return select(user_table, user_table.is_active).where(user_table.id == bindparam("id"))


def _is(method: object, function: object) -> bool:
    return getattr(method, "__func__", None) is function
