"""The row locks of the verbs: the lock on a user, and locks on tokens that do not wait for other transactions."""

from collections.abc import Sequence
from typing import Any
from uuid import UUID

from sqlalchemy import ColumnElement, Connection, Row, select

from fastapi_users_knox.sqlalchemy.database import Database

__all__ = ["lock_unlocked_tokens", "lock_user"]


def lock_user(database: Database, connection: Connection, user_id: object) -> Row[Any] | None:
    """Lock the user's row, and return the credentials stored in it.

    The lock makes the verbs of one user run one after another. Returns `None` if there is no such row, or if the store
    cannot see the users.
    """
    users = database.sql.users
    return None if users is None else connection.execute(users.lock, {"user_id": user_id}).first()


def lock_unlocked_tokens(
    database: Database, connection: Connection, *where: ColumnElement[bool], limit: int
) -> Sequence[UUID]:
    """Lock at most `limit` matching rows that no other transaction has locked, and return their ids."""
    statement = select(database.sql.columns["id"]).where(*where).limit(limit).with_for_update(skip_locked=True)
    return connection.execute(statement).scalars().all()
