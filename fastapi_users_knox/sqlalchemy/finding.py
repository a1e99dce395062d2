"""Finding tokens: the record of a presented token together with its user, and all live records of a user."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime
from functools import partial
from typing import Any

from sqlalchemy import select

from fastapi_users_knox.records import ID, UP, Found, TokenRecord, UserSource
from fastapi_users_knox.sqlalchemy.attributes import active_by_row_and_object
from fastapi_users_knox.sqlalchemy.database import Database
from fastapi_users_knox.sqlalchemy.hidden import refuse_hidden
from fastapi_users_knox.sqlalchemy.rows import FOUND, found_record, record_of
from fastapi_users_knox.sqlalchemy.snapshots import read, read_latest
from fastapi_users_knox.tokens import PresentedToken

__all__ = ["find_token", "list_live"]


async def find_token(
    database: Database, token: PresentedToken, *, audience: str, users: UserSource | None
) -> Found[UP, ID] | None:
    """Find the record of a token by one indexed SELECT, and load its user in the same SELECT if possible."""
    returns_user, digests, known = _can_load_user(database, users), token.digests, database.sql.users
    loads_user = returns_user or (known is not None and known.computes_activity)
    parameters = {f"digest_{number}": digest for number, digest in enumerate(digests)} | {"audience": audience}
    statement = database.sql.find(len(digests), with_user=loads_user)
    entity = known.mapper if loads_user and known else None
    rows = await read(database, statement, parameters, entity=entity, is_whole=loads_user or users is None)
    if not rows:
        return None
    user, columns = rows[0] if loads_user else (None, rows[0])
    found: Found[UP, ID] = _found(database, token, audience, columns, user=user)
    if loads_user and not returns_user:
        found = replace(found, user=None)  # The user manager decides which object the request gets.
    database.has_found_token = True
    if database.saw_latest or found.is_active is False:
        return found
    # If a transaction was already open, the row may come from an older snapshot, and the token may be revoked now.
    explain = partial(refuse_hidden, database, user_id=found.record.user_id)
    statement = database.sql.find(len(digests), with_user=False)
    latest = await read_latest(database, statement, parameters, explain=explain)
    if latest is None:
        return found
    return _found(database, token, audience, latest[0], user=found.user) if latest else None


async def list_live(
    database: Database, user_id: ID, *, audience: str, now: datetime, created_since: datetime | None
) -> Sequence[TokenRecord[ID]]:
    """Select the live records of a user on the caller's session, newest first."""
    columns = database.sql.columns
    statement = (
        select(*database.sql.record)
        .where(columns["user_id"] == user_id, columns["audience"] == audience, database.sql.is_live(now, created_since))
        .order_by(columns["created_at"].desc(), columns["id"])
    )
    return [record_of(row) for row in await read(database, statement, {}, is_whole=False)]


def _can_load_user(database: Database, users: UserSource | None) -> bool:
    """Return whether the users come from the store's own session and user class, so that a join can load them."""
    return users is not None and users.user_class is database.sql.user and users.session is database.session


def _found(
    database: Database, token: PresentedToken, audience: str, columns: Sequence[Any], *, user: UP | None
) -> Found[UP, ID]:
    """Build the result from the columns that `Statements.find` selects."""
    is_active = None if database.sql.user is None else active_by_row_and_object(columns[0], user)
    record = found_record(columns[1 : len(FOUND) + 1], audience=audience)
    digest = token.digests[0] if len(token.digests) == 1 else columns[-1]
    return Found(record=record, digest=digest, is_active=is_active, user=user)
