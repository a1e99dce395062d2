"""The only module that imports FastAPI-Users' adapter for SQLAlchemy."""

from functools import lru_cache
from typing import Any

from fastapi_users.db import BaseUserDatabase
from fastapi_users.manager import BaseUserManager
from fastapi_users.models import ID, UP
from fastapi_users_db_sqlalchemy import SQLAlchemyUserDatabase
from sqlalchemy.orm import Mapper, class_mapper

from fastapi_users_knox.records import UserSource
from fastapi_users_knox.sqlalchemy.attributes import in_sql
from fastapi_users_knox.sqlalchemy.sessions import open_session
from fastapi_users_knox.sqlalchemy.user_rows import UserRows

__all__ = ["plain_source", "rows_of"]


def rows_of(user_db: BaseUserDatabase[UP, ID]) -> UserRows[UP, ID] | None:
    """Return the rows of the users if this is FastAPI-Users' adapter for SQLAlchemy; `None` otherwise."""
    if not isinstance(user_db, SQLAlchemyUserDatabase):
        return None
    return UserRows(user_db.session, user_db.user_table, load=user_db.get)


def plain_source(user_manager: BaseUserManager[UP, ID]) -> UserSource:
    """Return the session and the class of the users if this user manager loads them by a plain SELECT.

    Otherwise the returned source is empty.
    """
    user_db = user_manager.user_db
    if not isinstance(user_db, SQLAlchemyUserDatabase):
        return UserSource()
    is_plain = (
        _is_function(user_manager.get, BaseUserManager.get)
        and _is_function(user_db.get, SQLAlchemyUserDatabase.get)
        and _is_function(user_db._get_user, SQLAlchemyUserDatabase._get_user)  # noqa: SLF001 (only compared)
        and _has_stored_activity(class_mapper(user_db.user_table))
    )
    if not is_plain:
        return UserSource()
    return UserSource(session=open_session(user_db.session), user_class=user_db.user_table)


def _is_function(method: object, function: object) -> bool:
    """Return whether a bound method is this function, which means that the method is not overridden."""
    return getattr(method, "__func__", None) is function


@lru_cache(maxsize=64)
def _has_stored_activity(users: Mapper[Any]) -> bool:
    """Return whether a SELECT can read `is_active`. An application may compute `is_active` in Python instead."""
    return in_sql(users, "is_active") is not None
