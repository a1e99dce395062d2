"""The check whether rows that were not found are hidden by row-level security."""

from collections import deque
from collections.abc import Sequence
from contextlib import suppress
from typing import cast

from sqlalchemy import ColumnElement, Connection, Table, event, exists, false, inspect, select
from sqlalchemy.orm import Mapper, Session

from fastapi_users_knox.errors import KnoxError
from fastapi_users_knox.sqlalchemy.database import Database
from fastapi_users_knox.sqlalchemy.postgresql import has_row_security
from fastapi_users_knox.sqlalchemy.statements import Statements

__all__ = ["refuse_hidden", "tables_of"]

# The users that this process has deleted last. If their tokens are revoked, that happens right after the deletion.
_deleted: deque[tuple[Mapper[object], object]] = deque(maxlen=1000)


@event.listens_for(Session, "persistent_to_deleted")
def _remember_deletion(_session: Session, instance: object) -> None:
    """Remember a deletion, because the object may be a user."""
    _deleted.append(_identity(instance))


@event.listens_for(Session, "deleted_to_persistent")
def _forget_deletion(_session: Session, instance: object) -> None:
    """Forget a deletion that was rolled back."""
    with suppress(ValueError):
        _deleted.remove(_identity(instance))


def _identity(instance: object) -> tuple[Mapper[object], object]:
    """Return what identifies an object: the mapper of its class hierarchy, and its id."""
    state = inspect(instance, raiseerr=True)
    return state.mapper.base_mapper, state.dict.get("id")


def tables_of(statements: Statements) -> Sequence[Table]:
    """Return the token table, and also the user tables if the store sees the users."""
    return [statements.table, *_user_tables(statements)]


def refuse_hidden(database: Database, connection: Connection, user_id: object) -> None:
    """Raise an error if row-level security is the reason why no row of a user was found.

    Rows become hidden when the settings that the application made for its transaction have ended. If the store sees the
    users, a missing row of the user shows that rows are hidden. If row-level security is in force for the tokens alone,
    an empty token table also shows that rows are hidden, provided that the store has found a token before.

    Args:
        database: The database.
        connection: The connection. Its transaction is still the one in which no row was found.
        user_id: The id of the user.

    Raises:
        KnoxError: Row-level security hides the rows of the user.
    """
    sql = database.sql
    if connection.dialect.name != "postgresql" or _is_deleted(sql, user_id):
        return
    users_secured = has_row_security(connection, _user_tables(sql))
    tokens_secured = has_row_security(connection, [sql.table])
    sees_token = exists().select_from(sql.table)
    statement = select(users_secured, tokens_secured, _sees_user(sql, user_id), sees_token)
    secures_users, secures_tokens, has_user, has_tokens = connection.execute(statement).one()
    loses_user = sql.users is not None and not has_user and (secures_users or secures_tokens)
    loses_tokens = secures_tokens and not secures_users and database.has_found_token and not has_tokens
    if loses_user or loses_tokens:
        raise KnoxError(
            "row-level security hides the rows of this user: a setting of the session's transaction, such as SET "
            "LOCAL, has ended with a commit, or the user was deleted meanwhile. Make the setting in an after_begin "
            "event of the session"
        )


def _user_tables(statements: Statements) -> Sequence[Table]:
    """Return the user tables; an empty list if the store cannot see the users."""
    return [] if statements.users is None else [cast("Table", table) for table in statements.users.mapper.tables]


def _sees_user(statements: Statements, user_id: object) -> ColumnElement[bool]:
    """Return an expression for whether the row of the user is visible."""
    if statements.users is None:
        return false()
    of_id = statements.users.columns["id"]
    return select(of_id).select_from(statements.users.mapper.class_).where(of_id == user_id).exists()


def _is_deleted(statements: Statements, user_id: object) -> bool:
    """Return whether this process has recently deleted the user."""
    users = statements.users
    return users is not None and (users.mapper.base_mapper, user_id) in _deleted
