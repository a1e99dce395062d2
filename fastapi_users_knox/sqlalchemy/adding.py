"""Adding a token: under a lock on its user's row, within the limit, and only if the token in `by` is live."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Generic
from uuid import UUID

from sqlalchemy import Connection, select, update

from fastapi_users_knox.errors import InvalidToken, KnoxError, LimitUnsupported, TokenLimitReached
from fastapi_users_knox.records import ID, Added, Credentials, LimitPolicy, Roll, TokenRecord
from fastapi_users_knox.sqlalchemy.database import Database
from fastapi_users_knox.sqlalchemy.expiry_hours import hour_of
from fastapi_users_knox.sqlalchemy.locks import lock_unchanged_user
from fastapi_users_knox.sqlalchemy.removing import remove_rows

__all__ = ["NewToken", "add_token", "refuse_unsupported_limit"]


@dataclass(frozen=True, kw_only=True, slots=True)
class NewToken(Generic[ID]):
    """One call of `TokenStore.add`; the attributes are its arguments, and the values of the application's own columns.

    The values are computed before the transaction, because the transaction may be repeated.
    """

    record: TokenRecord[ID]
    digest: bytes
    now: datetime
    created_since: datetime | None
    by: UUID | None
    limit: int | None
    limit_policy: LimitPolicy
    replaces: Sequence[bytes]
    credentials: Credentials | None
    roll: Roll[ID] | None
    own_values: Mapping[str, object]


def refuse_unsupported_limit(database: Database, limit: int | None) -> None:
    """Refuse a limit if there is no user row to lock.

    Raises:
        LimitUnsupported: The store cannot see the users.
    """
    if limit is not None and database.sql.users is None:
        raise LimitUnsupported(
            "token_limit_per_user needs user_id to be a foreign key to users that the store sees: with users=None "
            "there is no user row to lock, so simultaneous logins could exceed the limit"
        )


def add_token(database: Database, connection: Connection, new: NewToken[ID]) -> Added[ID]:
    """Insert the row of a new token, and remove the rows that have expired, are replaced or exceed the limit."""
    record = new.record
    # The lock comes first: with a DELETE before it, many simultaneous logins of one user deadlock on MariaDB.
    lock_unchanged_user(database, connection, new.record.user_id, new.credentials)
    _lock_authorizing_token(database, connection, new)
    rolled = _move_expiry(database, connection, new)
    removed = _remove_replaced(database, connection, new)
    evicted = _make_room(database, connection, new)
    connection.execute(database.sql.insert, {**new.own_values, **database.sql.values(record, new.digest)})
    live = [old for old in removed if old.is_live(new.now, created_since=new.created_since)] + [*rolled]
    expired = [old for old in removed if old not in live]
    return Added(expired=tuple(expired), replaced=tuple(live), evicted=tuple(evicted))


def _lock_authorizing_token(database: Database, connection: Connection, new: NewToken[ID]) -> None:
    """Check that the token given as `by` is live, and lock its row, so that nobody deletes it before the commit."""
    if new.by is None:
        return
    if database.sql.users is None:
        raise KnoxError(
            "issue(by=) needs a store that sees the users: with users=None there is no user row to lock, so a "
            "logout-all at the same time could miss the new token"
        )
    columns = database.sql.columns
    where = (columns["id"] == new.by, columns["user_id"] == new.record.user_id, database.sql.is_live(new.now, None))
    if connection.execute(select(columns["id"]).where(*where).with_for_update()).first() is None:
        raise InvalidToken


def _move_expiry(database: Database, connection: Connection, new: NewToken[ID]) -> Sequence[TokenRecord[ID]]:
    """Let the token that the new one replaces expire at the given time. If that has passed, return what was removed."""
    if new.roll is None:
        return ()
    sql, rolled, until = database.sql, new.roll.record, new.roll.expires_at
    columns = sql.columns
    where = (
        columns["id"] == rolled.id,
        columns["user_id"] == new.record.user_id,
        columns["audience"] == new.record.audience,
        columns["expires_at"].is_not_distinct_from(rolled.expires_at),
        sql.is_live(new.now, new.created_since),
    )
    if until <= new.now:
        removed = remove_rows(database, connection, sql.removal_of(*where))
        count = len(removed)
    else:
        values = {
            columns["expires_at"]: until,
            columns["expiry_hour"]: hour_of(until),
            columns["token_ttl"]: timedelta(0),
        }
        removed, count = (), connection.execute(update(sql.table).where(*where).values(values)).rowcount
    if count != 1:
        raise InvalidToken
    return removed


def _remove_replaced(database: Database, connection: Connection, new: NewToken[ID]) -> Sequence[TokenRecord[ID]]:
    """Remove the user's tokens that have expired, that the request presented, or that belong to the same device."""
    removal = database.sql.removal_at_login(
        is_capped=new.created_since is not None,
        is_replacing=bool(new.replaces),
        has_device=new.record.device_id is not None,
    )
    parameters = {
        "user_id": new.record.user_id,
        "audience": new.record.audience,
        "now": new.now,
        "created_since": new.created_since,
        "replaces": new.replaces,
        "device_id": new.record.device_id,
    }
    return remove_rows(database, connection, removal, parameters)


def _make_room(database: Database, connection: Connection, new: NewToken[ID]) -> Sequence[TokenRecord[ID]]:
    """Evict tokens if one more would exceed the limit.

    Expired tokens have been removed before, except those whose expiry the application has moved by its own UPDATE.

    Raises:
        TokenLimitReached: The limit is reached, and the policy is "reject".
    """
    if new.limit is None:
        return ()
    columns, record = database.sql.columns, new.record
    parameters = {"user_id": record.user_id, "audience": record.audience, "now": new.now}
    excess = connection.execute(database.sql.count, parameters).scalar_one() + 1 - new.limit
    if excess <= 0:
        return ()
    if new.limit_policy == "reject":
        raise TokenLimitReached(new.limit)
    age = columns["created_at"] if new.limit_policy == "evict_oldest" else database.sql.active_at()
    where = (
        columns["user_id"] == record.user_id,
        columns["audience"] == record.audience,
        database.sql.is_live(new.now, None),
    )
    oldest = select(columns["id"]).where(*where).order_by(age, columns["id"]).limit(excess)
    ids = connection.execute(oldest).scalars().all()
    return remove_rows(database, connection, database.sql.removal_of(columns["id"].in_(ids)))
