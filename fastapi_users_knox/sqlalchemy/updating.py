"""Updating the row of a token that was found: its last use, its expiry and its digest."""

from datetime import datetime
from typing import Any

from sqlalchemy import Column, ColumnElement, Connection, and_, update

from fastapi_users_knox.records import ID, UP, Found, Proof
from fastapi_users_knox.sqlalchemy.database import Database
from fastapi_users_knox.sqlalchemy.dialects import locks_in_subquery
from fastapi_users_knox.sqlalchemy.expiry_hours import hour_of
from fastapi_users_knox.sqlalchemy.hidden import refuse_hidden
from fastapi_users_knox.sqlalchemy.locks import lock_unchanged_user

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
    renewal = database.sql.renewal(
        is_capped=created_since is not None, moves_expiry=expires_at is not None, changes_digest=digest is not None
    )
    parameters = {
        "knox_id": found.record.id,
        "knox_digest": found.digest,
        "knox_now": now,
        "knox_unused_since": unused_since,
        "knox_created_since": created_since,
        "knox_expires_at": expires_at,
        "knox_expiry_hour": hour_of(expires_at),
        "knox_new_digest": digest,
    }
    given = {name: value for name, value in parameters.items() if value is not None}
    if locks_in_subquery(connection):
        return connection.execute(renewal.both, given).rowcount == 1
    return bool(connection.execute(renewal.locking, given).all()) and bool(
        connection.execute(renewal.updating, given).rowcount
    )


def rotate_token(
    database: Database,
    connection: Connection,
    found: Found[UP, ID],
    digest: bytes,
    *,
    now: datetime,
    created_since: datetime | None,
    proof: Proof | None,
) -> bool:
    """Update the digest, and the fields that the proof changes.

    This is one UPDATE. With a DELETE and an INSERT, a simultaneous logout-all would not see the new row.
    """
    sql, columns = database.sql, database.sql.columns
    values: dict[Column[Any], object] = {columns["digest"]: digest}
    if proof is not None:
        lock_unchanged_user(database, connection, found.record.user_id, proof.credentials)
        values[columns["authenticated_at"]] = proof.authenticated_at
        if proof.data is not None:
            values[columns["data"]] = proof.data
    where = (_is_unchanged(database, found), sql.is_live(now, created_since))
    result = connection.execute(update(sql.table).where(*where).values(values))
    if not result.rowcount:
        refuse_hidden(database, connection, found.record.user_id)
    return result.rowcount == 1


def _is_unchanged(database: Database, found: Found[UP, ID]) -> ColumnElement[bool]:
    """Match the row only if its digest is still the one under which it was found."""
    columns = database.sql.columns
    return and_(columns["id"] == found.record.id, columns["digest"] == found.digest)
