"""Removing tokens: one token, all tokens of a user, or expired tokens."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import ColumnElement, Connection, and_, delete, or_

from fastapi_users_knox.records import TokenRecord
from fastapi_users_knox.sqlalchemy.database import Database
from fastapi_users_knox.sqlalchemy.dialects import locks_rows
from fastapi_users_knox.sqlalchemy.hidden import refuse_hidden
from fastapi_users_knox.sqlalchemy.locks import lock_unlocked_tokens, lock_user
from fastapi_users_knox.sqlalchemy.rows import record_of
from fastapi_users_knox.sqlalchemy.statements import Removal, Statements

__all__ = ["has_expired", "purge_batch", "remove_all_tokens", "remove_rows", "remove_token"]


def remove_rows(
    database: Database, connection: Connection, removal: Removal, parameters: Mapping[str, object] | None = None
) -> Sequence[TokenRecord[Any]]:
    """Delete rows and return their records, by one statement if the database has DELETE ... RETURNING."""
    sql = database.sql
    if connection.dialect.delete_returning:
        records = [record_of(row) for row in connection.execute(removal.returning, parameters)]
        database.has_found_token = database.has_found_token and not records
        return records
    records = [record_of(row) for row in connection.execute(removal.finding, parameters)]
    connection.execute(delete(sql.table).where(sql.columns["id"].in_([record.id for record in records])))
    return records


def remove_token(
    database: Database, connection: Connection, *, user_id: object, id: UUID, audience: str
) -> Sequence[TokenRecord[Any]]:
    """Delete one row, and return its record if the row existed."""
    parameters = {"id": id, "user_id": user_id, "audience": audience}
    removed = remove_rows(database, connection, database.sql.removal, parameters)
    if not removed:
        refuse_hidden(database, connection, user_id)
    return removed


def remove_all_tokens(
    database: Database,
    connection: Connection,
    *,
    user_id: object,
    audience: str | None,
    keep: UUID | None,
    keep_scoped: bool,
) -> Sequence[TokenRecord[Any]]:
    """Delete the rows of a user by one statement, which sees every row that an earlier `add` has stored."""
    columns = database.sql.columns
    where = [columns["user_id"] == user_id]
    if audience is not None:
        where.append(columns["audience"] == audience)
    if keep is not None:
        where.append(columns["id"] != keep)
    if keep_scoped:
        where.append(columns["scopes"].is_(None))
    # Without the lock, a DELETE that waits for an `add` to commit would not see the row that the `add` has inserted.
    is_locked = locks_rows(connection) and lock_user(database, connection, user_id) is not None
    if not is_locked:
        refuse_hidden(database, connection, user_id)
    return remove_rows(database, connection, database.sql.removal_of(*where))


def has_expired(
    sql: Statements, *, audience: str, now: datetime, created_since: datetime | None
) -> ColumnElement[bool]:
    """Match expired tokens of every audience, and tokens of this audience that were created before `created_since`."""
    is_past_expiry = sql.is_past_expiry(now)
    if created_since is None:
        return is_past_expiry
    return or_(is_past_expiry, and_(sql.columns["audience"] == audience, sql.columns["created_at"] < created_since))


def purge_batch(database: Database, connection: Connection, *, where: ColumnElement[bool], batch_size: int) -> int:
    """Delete rows that no other transaction has locked.

    If possible, one statement does it. Then this process neither receives ids nor sends them, which would delay the
    requests that it is handling.
    """
    is_locked = lock_unlocked_tokens(database, connection, where, limit=batch_size)
    # The condition is repeated, because the expiry of a row may have moved before the row was locked.
    return connection.execute(delete(database.sql.table).where(is_locked, where)).rowcount
