"""Whether no row was found because there is none, or because row-level security hides the rows."""

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

# Users that this process has deleted lately. Their tokens are revoked right after the deletion, if at all.
_deleted: deque[tuple[Mapper[object], object]] = deque(maxlen=1000)


@event.listens_for(Session, "persistent_to_deleted")
def _remember(_session: Session, instance: object) -> None:
    """Remember a deletion, because the object may be a user."""
    _deleted.append(_key(instance))


@event.listens_for(Session, "deleted_to_persistent")
def _forget(_session: Session, instance: object) -> None:
    """Forget a deletion that was rolled back."""
    with suppress(ValueError):
        _deleted.remove(_key(instance))


def _key(instance: object) -> tuple[Mapper[object], object]:
    state = inspect(instance, raiseerr=True)
    return state.mapper.base_mapper, state.dict.get("id")


def tables_of(statements: Statements) -> Sequence[Table]:
    """Return the table of the tokens, and those of the users if the store sees the users."""
    return [statements.table, *_user_tables(statements)]


def refuse_hidden(database: Database, connection: Connection, user_id: object) -> None:
    """Raise an error if nothing was found of a user because row-level security hides the rows.

    That happens if the settings that the application made for its transaction have ended. If row-level security is in
    force for the users, the user's own row shows it. Otherwise there are only the tokens: they are hidden if the store
    has found a token before, and the whole table is empty now.

    Args:
        database: The database.
        connection: The connection, in the transaction in which nothing was found.
        user_id: The id of the user.

    Raises:
        KnoxError: Row-level security is in force, and hides the user.
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
            "row-level security hides the rows of this user: what was set for the session's transaction, such as by "
            "SET LOCAL, has ended with a commit, or the user was deleted meanwhile. Set it in an after_begin event of "
            "the session"
        )


def _user_tables(statements: Statements) -> Sequence[Table]:
    return [] if statements.users is None else [cast("Table", table) for table in statements.users.mapper.tables]


def _sees_user(statements: Statements, user_id: object) -> ColumnElement[bool]:
    if statements.users is None:
        return false()
    of_id = statements.users.columns["id"]
    return select(of_id).select_from(statements.users.mapper.class_).where(of_id == user_id).exists()


def _is_deleted(statements: Statements, user_id: object) -> bool:
    users = statements.users
    return users is not None and (users.mapper.base_mapper, user_id) in _deleted
