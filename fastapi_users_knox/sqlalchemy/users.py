"""The users as FastAPI-Users' own SQL adapter loads them, but by a prebuilt SELECT."""

from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from functools import cache
from typing import Any, Generic, TypeGuard

from fastapi_users.db import BaseUserDatabase
from fastapi_users.manager import BaseUserManager
from fastapi_users.models import ID, UP
from fastapi_users_db_sqlalchemy import SQLAlchemyUserDatabase
from sqlalchemy import ColumnElement, Select, bindparam, exc, select
from sqlalchemy.ext.asyncio import AsyncSession, async_scoped_session
from sqlalchemy.orm import class_mapper

from fastapi_users_knox.errors import UserClassError
from fastapi_users_knox.sqlalchemy.attributes import active_by_row_and_object, in_sql, why_not_in_sql
from fastapi_users_knox.sqlalchemy.reading import fetch
from fastapi_users_knox.sqlalchemy.sessions import commit_keeping_loaded, refuse_transaction_block
from fastapi_users_knox.store import Credentials

__all__ = ["UserRows", "is_sqlalchemy", "open_session", "plain_user_db", "select_user"]


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


@dataclass(frozen=True)
class UserRows(Generic[UP, ID]):
    """The rows behind a user database: what is stored, whatever a session's objects say."""

    user_db: SQLAlchemyUserDatabase[UP, ID]

    async def credentials(self, id: ID, *, latest: bool) -> Credentials | None:
        """Return a user's credentials by a SELECT of the two columns; `None` if there is no row.

        Args:
            id: The user's id.
            latest: Whether the SELECT has a transaction of its own, which sees all that was committed before. The
                session is committed for it, as at a login.

        Raises:
            KnoxError: The session is inside of `begin()`, where it cannot be committed.
            UserClassError: SQL cannot read the two.
        """
        session, table = open_session(self.user_db.session), self.user_db.user_table
        if latest:
            self.refuse_transaction_block()
            await commit_keeping_loaded(session)
        rows = await fetch(session, _find_credentials(table), {"id": id}, mapper=class_mapper(table))
        if latest:
            await commit_keeping_loaded(session)
        return Credentials(hashed_password=rows[0][0], is_active=bool(rows[0][1])) if rows else None

    def refuse_transaction_block(self) -> None:
        """Raise `KnoxError` if the session is inside of `begin()`."""
        refuse_transaction_block(open_session(self.user_db.session).sync_session)

    async def stored(self, id: ID) -> Mapping[str, object]:
        """Return the columns of a user's row by attribute name; it is empty if there is no row.

        The session's transaction is rolled back if it has failed, as nothing else can be done with it.
        """
        try:
            return await self._select(id)
        except (exc.DBAPIError, exc.InvalidRequestError):
            await open_session(self.user_db.session).rollback()
            return await self._select(id)

    def sharing_session(self) -> AbstractContextManager[None]:
        """Return a context in which another task uses the session of this task, where sessions are scoped by it."""
        scoped = self.user_db.session
        return _sharing(scoped, scoped()) if isinstance(scoped, async_scoped_session) else nullcontext()

    async def _select(self, id: ID) -> Mapping[str, object]:
        session, table = open_session(self.user_db.session), self.user_db.user_table
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
def _find_credentials(user_table: type[Any]) -> Select[Any]:
    columns = [_read_by_sql(user_table, name) for name in ("hashed_password", "is_active")]
    return select(*columns).where(user_table.id == bindparam("id"))


def _read_by_sql(user_table: type[Any], name: str) -> ColumnElement[Any]:
    expression = in_sql(class_mapper(user_table), name)
    if expression is None:
        reason = why_not_in_sql(class_mapper(user_table), name)
        raise UserClassError(f"user_db must have a class of users that SQL can read: {user_table.__name__}: {reason}")
    return expression


@cache
def _find(user_table: type[Any]) -> Select[Any]:
    """Build the SELECT of one user by the parameter `id`, once for each class: building it is most of its cost.

    `is_active` is asked for beside the user, as an object that the session already has is not refreshed.
    """
    return select(user_table, user_table.is_active).where(user_table.id == bindparam("id"))


def _is(method: object, function: object) -> bool:
    return getattr(method, "__func__", None) is function
