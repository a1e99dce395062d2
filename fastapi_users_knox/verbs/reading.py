"""Reading: finding out who a token belongs to, and the writes that a read causes."""

from collections.abc import Collection, Sequence
from dataclasses import replace
from datetime import datetime
from functools import partial

from fastapi_users.manager import BaseUserManager
from fastapi_users.models import ID, UP

from fastapi_users_knox.events import TokenExpired, TokenRefreshed
from fastapi_users_knox.records import Found, TokenRecord, UserSource
from fastapi_users_knox.tokens import PresentedToken
from fastapi_users_knox.transports.challenges import insufficient_scope, invalid_token
from fastapi_users_knox.transports.presented import authenticated_record, note_authenticated, note_scopes
from fastapi_users_knox.transports.renewal import note_refreshed
from fastapi_users_knox.users import load_user, source_of, users_of
from fastapi_users_knox.verbs.context import Context, Recognized

__all__ = ["authenticate", "authenticate_record", "find", "find_own", "list_records", "read_record"]

Presented = tuple[Recognized, Found[UP, ID]]


async def authenticate(
    context: Context[UP, ID],
    text: str | None,
    user_manager: BaseUserManager[UP, ID],
    *,
    touch: bool,
    scopes: Collection[str],
) -> tuple[UP, TokenRecord[ID]] | None:
    """Return the active user and the record of a live token, and note that the record authenticated the request."""
    now = context.now()
    recognized = context.recognize(text, now)
    if not recognized:
        return None  # Text without the shape of a token costs nothing more.
    source = source_of(user_manager)
    presented = await _find_live(context, recognized, now, users=source, touch=touch, scopes=scopes)
    user = presented and await _active_user(presented[1], user_manager, source)
    if not presented or user is None:
        return None
    _check_scopes(context, presented[1].record, scopes)
    return user, await _accept(context, presented, now, touch=touch)


async def authenticate_record(
    context: Context[UP, ID], text: str | None, *, touch: bool, scopes: Collection[str]
) -> TokenRecord[ID] | None:
    """Return the record of a live token without loading the user, and note that the record authenticated the request.

    An inactive user is refused only if the store sees the users.
    """
    now = context.now()
    presented = await _find_live(context, context.recognize(text, now), now, touch=touch, scopes=scopes)
    if not presented or presented[1].is_active is False:
        return None
    _check_scopes(context, presented[1].record, scopes)
    return await _accept(context, presented, now, touch=touch)


async def read_record(context: Context[UP, ID], text: str | None, *, scopes: Collection[str]) -> TokenRecord[ID] | None:
    """Return the record of a live token; `None` if the store or the user database finds no active user."""
    now = context.now()
    presented = await _find_live(context, context.recognize(text, now), now, touch=False, scopes=scopes)
    if presented is None or not await _is_active(context, presented[1]):
        return None
    _check_scopes(context, presented[1].record, scopes)
    return presented[1].record


async def list_records(context: Context[UP, ID], user_id: ID) -> list[TokenRecord[ID]]:
    """Return the records of a user's live tokens, newest first."""
    now, settings = context.now(), context.settings
    records = await context.store.list(
        user_id, audience=settings.audience, now=now, created_since=settings.created_since(now)
    )
    return [record for record in records if settings.is_live(record, now)]


async def find(context: Context[UP, ID], text: str | None, now: datetime) -> Found[UP, ID] | None:
    """Find the record of a presented token, live or not.

    If a cookie has several values, the live token that has authenticated the request is preferred, or else the newest.
    """
    presented = await _find(context, context.recognize(text, now), now)
    return None if presented is None else presented[1]


async def find_own(context: Context[UP, ID], text: str, user: UP, now: datetime) -> Found[UP, ID]:
    """Find the record of a live token of this user, or raise `InvalidToken`."""
    found = await find(context, text, now)
    if found is None or found.record.user_id != user.id or not context.is_live(found, now):
        raise invalid_token(context.connection)
    return found


async def _find_live(
    context: Context[UP, ID],
    recognized: Sequence[Recognized],
    now: datetime,
    *,
    users: UserSource | None = None,
    touch: bool,
    scopes: Collection[str],
) -> Presented[UP, ID] | None:
    """Return the record of a live token. Delete the record of an expired token, unless nothing may be written.

    A token with scopes is not found if the request does not need any. So no code accepts such a token by accident.
    """
    presented = await _find(context, recognized, now, users=users, accepts_scopes=bool(scopes))
    if presented is None or context.is_live(presented[1], now):
        return presented
    if touch:
        await _delete_expired(context, presented[1], now)
    return None


async def _accept(
    context: Context[UP, ID], presented: Presented[UP, ID], now: datetime, *, touch: bool
) -> TokenRecord[ID]:
    """Note that a record authenticated the request, and return the record as it is after this use."""
    (text, token), found = presented
    note_authenticated(context.connection, found.record)
    if found.record.scopes is not None:
        note_scopes(context.connection, found.record)
    return await _write_use(context, text, token, found, now) if touch else found.record


def _check_scopes(context: Context[UP, ID], record: TokenRecord[ID], scopes: Collection[str]) -> None:
    """Refuse a token that has scopes, but not all that the request needs."""
    if record.scopes is not None and not record.scopes.issuperset(scopes):
        raise insufficient_scope(context.connection, scopes)


async def _find(
    context: Context[UP, ID],
    recognized: Sequence[Recognized],
    now: datetime,
    *,
    users: UserSource | None = None,
    accepts_scopes: bool = True,
) -> Presented[UP, ID] | None:
    audience = context.settings.audience
    presented = [
        ((text, token), found)
        for text, token in recognized
        if (found := await context.store.get(token, audience=audience, users=users))
        and (accepts_scopes or found.record.scopes is None)
    ]
    if len(presented) > 1:
        return max(presented, key=partial(_preference, context, now=now))
    return presented[0] if presented else None


def _preference(
    context: Context[UP, ID], presented: Presented[UP, ID], *, now: datetime
) -> tuple[bool, bool, bool, datetime]:
    """Prefer a live token, among these the one that has authenticated the request, then sessions, then the newest.

    So a route acts on the session that has authenticated the request, whatever other cookies were sent.
    """
    record, authenticated = presented[1].record, authenticated_record(context.connection)
    is_live = presented[1].is_active is not False and context.is_live(presented[1], now)
    is_authenticated = authenticated is not None and record.id == authenticated.id
    return is_live, is_authenticated, record.scopes is None, record.created_at


async def _active_user(found: Found[UP, ID], user_manager: BaseUserManager[UP, ID], source: UserSource) -> UP | None:
    """Return the user if the row just read is active. The object in the session may be older than that row."""
    if found.is_active is False:
        return None
    if found.user is not None:
        return found.user if found.is_active else None
    loaded = await load_user(user_manager, found.record.user_id, source=source)
    return loaded[0] if loaded is not None and loaded[1] else None


async def _is_active(context: Context[UP, ID], found: Found[UP, ID]) -> bool:
    """Return whether the user is active. If the store cannot see the users, the user database decides."""
    if found.is_active is not None or context.user_db is None:
        return found.is_active is not False
    credentials = await users_of(context.user_db).credentials(found.record.user_id)
    return credentials is not None and credentials.is_active


async def _delete_expired(context: Context[UP, ID], found: Found[UP, ID], now: datetime) -> None:
    """Delete an expired record that was presented, and publish that it expired."""
    record, settings = found.record, context.settings
    capped_since = settings.capped_since(now)
    if record.is_live(now, created_since=capped_since):
        return  # Only `not_before` refuses the record, and this setting may be moved back.
    if await context.store.purge(
        audience=settings.audience,
        now=now,
        created_since=capped_since,
        seen=found,
        tried_since=now - settings.min_refresh_interval,
    ):
        await context.publisher.publish(TokenExpired, record.user_id, record=record)


async def _write_use(
    context: Context[UP, ID], text: str, token: PresentedToken, found: Found[UP, ID], now: datetime
) -> TokenRecord[ID]:
    """Store that the token was used, if a write is due. One write stores the expiry, `last_used_at` and the digest."""
    record, settings = found.record, context.settings
    if not settings.is_write_due(record, now):
        return record
    expires_at = settings.refreshed_expiry(record, now)
    digest = token.digests[0]
    if not await context.store.renew(
        found,
        now=now,
        unused_since=now - settings.min_refresh_interval,
        created_since=settings.created_since(now),
        expires_at=expires_at,
        digest=None if found.digest == digest else digest,
    ):
        return record
    used = replace(record, last_used_at=now, expires_at=expires_at or record.expires_at)
    if expires_at is not None:
        note_refreshed(context.connection, text, record=used)
        await context.publisher.publish(TokenRefreshed, record.user_id, record=used)
    return used
