"""Revoking: one session, all sessions of a user, or the session of a cookie that is about to be overwritten."""

from collections.abc import Iterable, Mapping
from datetime import datetime
from types import MappingProxyType
from uuid import UUID

from fastapi_users.models import ID, UP

from fastapi_users_knox.events import Publisher, RevokeReason, TokenRevoked
from fastapi_users_knox.records import TokenRecord
from fastapi_users_knox.transports.challenges import invalid_token
from fastapi_users_knox.transports.presented import CookieToken, cookie_token
from fastapi_users_knox.transports.renewal import note_invalidated
from fastapi_users_knox.verbs.context import Context
from fastapi_users_knox.verbs.reading import find, find_own

__all__ = ["log_out", "purge", "revoke", "revoke_all", "revoke_cookie_session", "revoke_others"]


async def log_out(context: Context[UP, ID], text: str, user: UP) -> None:
    """Revoke the session of a token of this user; if one cookie came several times, those of all its values."""
    now = context.now()
    found = await find_own(context, text, user, now)
    if not await _revoke(context, user.id, found.record.id, now, "logout"):
        raise invalid_token(context.connection)
    values = CookieToken.values(text)
    for value in values if len(values) > 1 else ():  # Otherwise the browser would continue with one of these.
        await _revoke_presented(context, value, now, "logout")


async def revoke(context: Context[UP, ID], user_id: ID, id: UUID, *, reason: RevokeReason) -> bool:
    """Revoke one session of a user by its record's id, and return whether it was live."""
    return await _revoke(context, user_id, id, context.now(), reason)


async def revoke_others(context: Context[UP, ID], user: UP, *, keep: str | None, reason: RevokeReason | None) -> int:
    """Revoke the sessions of a user in this audience, except that of one token, and return how many were live."""
    kept = None if keep is None else (await find_own(context, keep, user, context.now())).record.id
    reason = reason or ("logout_all" if kept is None else "logout_others")
    return len(await revoke_all(context, user.id, reason=reason, audience=context.settings.audience, keep=kept))


async def revoke_all(
    context: Context[UP, ID],
    user_id: ID,
    *,
    reason: RevokeReason,
    audience: str | None = None,
    keep: UUID | None = None,
    seen: Iterable[TokenRecord[ID]] = (),
    publishers: Mapping[str, Publisher] = MappingProxyType({}),
) -> list[TokenRecord[ID]]:
    """Revoke all sessions of a user in one transaction, and return the records that were live.

    It takes an id, because it may be called for a user who has just been deleted.

    Args:
        context: The strategy's context.
        user_id: The user's id.
        reason: The reason that the events contain.
        audience: The audience; `None` means every audience in the store.
        keep: The id of one record to keep.
        seen: Records that the database may have deleted together with the user. They are published too.
        publishers: For some audiences, who publishes the events instead of the context.
    """
    now = context.now()
    removed = await context.store.remove_all(
        user_id, audience=audience, now=now, created_since=context.settings.created_since(now), keep=keep
    )
    revoked = list({record.id: record for record in (*seen, *removed)}.values())
    note_invalidated(context.connection, *revoked)
    for record in revoked:
        publisher = publishers.get(record.audience, context.publisher)
        await publisher.publish(TokenRevoked, record.user_id, record=record, reason=reason)
    return revoked


async def revoke_cookie_session(context: Context[UP, ID], now: datetime, cookie_name: str) -> None:
    """Revoke each session whose live token is in a cookie of this name, even if it belongs to another user."""
    for value in CookieToken.values(cookie_token(context.connection, cookie_name) or ""):
        await _revoke_presented(context, value, now, "replaced")


async def purge(context: Context[UP, ID], *, batch_size: int) -> int:
    """Delete expired records, and return how many were deleted."""
    now, settings = context.now(), context.settings
    return await context.store.purge(
        audience=settings.audience, now=now, created_since=settings.capped_since(now), batch_size=batch_size
    )


async def _revoke_presented(context: Context[UP, ID], text: str, now: datetime, reason: RevokeReason) -> None:
    """Revoke the session of a token, if it is live, even if it belongs to another user."""
    presented = await find(context, str(text), now)
    if presented is not None and context.is_live(presented[1], now):
        record = presented[1].record
        await _revoke(context, record.user_id, record.id, now, reason)


async def _revoke(context: Context[UP, ID], user_id: ID, id: UUID, now: datetime, reason: RevokeReason) -> bool:
    settings = context.settings
    record = await context.store.remove(
        user_id, id, audience=settings.audience, now=now, created_since=settings.created_since(now)
    )
    if record is not None:
        note_invalidated(context.connection, record)
        await context.publisher.publish(TokenRevoked, user_id, record=record, reason=reason)
    return record is not None
