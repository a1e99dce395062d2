"""Updating the row of a token that was found: its last use, its expiry and its digest."""

from datetime import datetime
from typing import Any

from sqlalchemy import ColumnElement, Connection, and_, update

from fastapi_users_knox.records import ID, UP, Found
from fastapi_users_knox.sqlalchemy.database import Database
from fastapi_users_knox.sqlalchemy.hidden import refuse_hidden
from fastapi_users_knox.sqlalchemy.locks import lock_unlocked_tokens

__all__ = ["renew_token", "rotate_token"]


def renew_token(
    database: Database,
    connection: Connection,
    found: Found[UP, ID],
    *,
    now: datetime,
    unused_since: datetime,
    created_since: datetime | None,
    expires_at: datetime | None,
    digest: bytes | None,
) -> bool:
    """Update the row unless another transaction has locked it, because that transaction does the same write."""
    sql, columns = database.sql, database.sql.columns
    where = [_is_unchanged(database, found), sql.is_live(now, created_since), sql.active_at() < unused_since]
    values: dict[Any, object] = {columns["last_used_at"]: now}
    if expires_at is not None:
        where.append(columns["expires_at"] < expires_at)
        values[columns["expires_at"]] = expires_at
    if digest is not None:
        values[columns["digest"]] = digest
    if not lock_unlocked_tokens(database, connection, *where, limit=1):
        return False
    connection.execute(update(sql.table).where(*where).values(values))
    return True


def rotate_token(
    database: Database,
    connection: Connection,
    found: Found[UP, ID],
    digest: bytes,
    *,
    now: datetime,
    created_since: datetime | None,
) -> bool:
    """Update the digest. With a DELETE and an INSERT, a logout-all at the same time would not see the new row."""
    sql = database.sql
    where = (_is_unchanged(database, found), sql.is_live(now, created_since))
    result = connection.execute(update(sql.table).where(*where).values({sql.columns["digest"]: digest}))
    if not result.rowcount:
        refuse_hidden(database, connection, found.record.user_id)
    return result.rowcount == 1


def _is_unchanged(database: Database, found: Found[UP, ID]) -> ColumnElement[bool]:
    """Match the row only if its digest is still the one under which it was found."""
    columns = database.sql.columns
    return and_(columns["id"] == found.record.id, columns["digest"] == found.digest)
