"""The row locks of the verbs: the lock on a user, and locks on tokens that do not wait for other transactions."""

from typing import Any

from sqlalchemy import ColumnElement, Connection, Row, any_, func, literal_column, select

from fastapi_users_knox.errors import CredentialsChanged
from fastapi_users_knox.records import Credentials
from fastapi_users_knox.sqlalchemy.database import Database
from fastapi_users_knox.sqlalchemy.hidden import refuse_hidden

__all__ = ["lock_unchanged_user", "lock_unlocked_tokens", "lock_user"]


def lock_user(database: Database, connection: Connection, user_id: object) -> Row[Any] | None:
    """Lock the user's row, and return the credentials stored in it.

    The lock makes the verbs of one user run one after another. Returns `None` if there is no such row, or if the store
    cannot see the users.
    """
    users = database.sql.users
    return None if users is None else connection.execute(users.lock, {"user_id": user_id}).first()


def lock_unchanged_user(
    database: Database, connection: Connection, user_id: object, credentials: Credentials | None
) -> None:
    """Lock the user's row, and check that the user has not changed since the password was checked.

    Raises:
        CredentialsChanged: The user no longer exists or no longer matches `credentials`.
    """
    if database.sql.users is None:
        return
    row = lock_user(database, connection, user_id)
    if row is None:
        refuse_hidden(database, connection, user_id)
        raise CredentialsChanged
    if credentials is None:
        return
    hashed_password, is_active = row
    # SQL may return 1 for true, and null for false.
    if (hashed_password, bool(is_active)) != (credentials.hashed_password, bool(credentials.is_active)):
        raise CredentialsChanged


def lock_unlocked_tokens(
    database: Database, connection: Connection, *where: ColumnElement[bool], limit: int
) -> ColumnElement[bool]:
    """Return a condition for a DELETE that matches at most `limit` rows, which no other transaction has locked.

    On PostgreSQL and SQLite, the DELETE itself finds and locks the rows. On PostgreSQL, it deletes them by their
    place in the table, which takes a third of the time that it takes by primary key.
    """
    key = database.sql.columns["id"]
    address: ColumnElement[Any] = literal_column("ctid") if connection.dialect.name == "postgresql" else key
    unlocked = select(address).select_from(database.sql.table).where(*where).limit(limit)
    unlocked = unlocked.with_for_update(skip_locked=True)
    match connection.dialect.name:
        case "postgresql":  # An array is computed once, but IN might run the subquery several times.
            return address == any_(func.array(unlocked.scalar_subquery()))
        case "sqlite":
            return key.in_(unlocked)
        case _:
            return key.in_(connection.execute(unlocked).scalars().all())
