"""Revoking: one session, all sessions of a user, or the session of a cookie that is about to be overwritten."""

from collections.abc import Iterable, Sequence
from datetime import datetime
from types import EllipsisType
from uuid import UUID

from fastapi_users.models import ID, UP

from fastapi_users_knox.events import RevokeReason, TokenRevoked
from fastapi_users_knox.records import TokenRecord
from fastapi_users_knox.transports.challenges import invalid_token
from fastapi_users_knox.transports.presented import CookieToken, cookie_token
from fastapi_users_knox.transports.renewal import note_invalidated
from fastapi_users_knox.verbs.context import Context
from fastapi_users_knox.verbs.reading import find, find_own

__all__ = ["log_out", "purge", "revoke", "revoke_all", "revoke_cookie_session", "revoke_others"]


async def log_out(context: Context[UP, ID], text: str, user: UP) -> None:
    """Revoke the session that this token of the user belongs to.

    If a cookie was sent several times, revoke the session of each value.
    """
    now = context.now()
    found = await find_own(context, text, user, now)
    if not await _revoke(context, user.id, found.record.id, now, "logout"):
        raise invalid_token(context.connection)
    values = CookieToken.values(text)
    for value in values if len(values) > 1 else ():  # Otherwise another value would keep the browser logged in.
        await _revoke_presented(context, value, now, "logout")


async def revoke(
    context: Context[UP, ID], user_id: ID, id: UUID, *, reason: RevokeReason, audience: str | EllipsisType = ...
) -> bool:
    """Revoke one session of a user by its record's id, and return whether it was live."""
    return await _revoke(context, user_id, id, context.now(), reason, audience=audience)


async def revoke_others(context: Context[UP, ID], user: UP, *, keep: str | None, reason: RevokeReason | None) -> int:
    """Revoke a user's sessions in this audience, except the session of `keep`, and return how many were live."""
    now = context.now()
    kept = None if keep is None else (await find_own(context, keep, user, now)).record.id
    reason = reason or ("logout_all" if kept is None else "logout_others")
    removed = await _remove_all(context, user.id, now, audience=context.settings.audience, keep=kept)
    note_invalidated(context.connection, *removed)
    for record in removed:
        await _publish_revoked(context, record, reason)
    return len(removed)


async def revoke_all(
    context: Context[UP, ID],
    user_id: ID,
    *,
    reason: RevokeReason,
    audience: str | None,
    keep: UUID | None,
    keep_scoped: bool,
    seen: Iterable[TokenRecord[ID]],
    peers: Sequence[Context[UP, ID]],
) -> list[TokenRecord[ID]]:
    """Revoke all sessions of a user in one transaction, and return the records that were live.

    The user is passed as an id, because the user may just have been deleted.

    Args:
        context: The strategy's context.
        user_id: The user's id.
        reason: The reason in the events.
        audience: The audience; `None` means every audience in the store.
        keep: The id of one record to keep.
        keep_scoped: Whether to keep the records with scopes too. If so, `audience` must be `None`.
        seen: Records that the database may have deleted together with the user. These records get an event too.
        peers: The contexts of other strategies. The event of a record is published by the first context that has the
            record's audience.
    """
    now = context.now()
    removed = await _remove_all(context, user_id, now, audience=audience, keep=keep, keep_scoped=keep_scoped)
    revoked = list({record.id: record for record in (*seen, *removed)}.values())
    note_invalidated(context.connection, *revoked)
    publishing = {peer.settings.audience: peer for peer in reversed(peers)}
    for record in revoked:
        await _publish_revoked(publishing.get(record.audience, context), record, reason)
    return revoked


async def _publish_revoked(context: Context[UP, ID], record: TokenRecord[ID], reason: RevokeReason) -> None:
    """Publish that the token of a record was revoked."""
    await context.publisher.publish(TokenRevoked, record.user_id, record=record, reason=reason)


async def revoke_cookie_session(context: Context[UP, ID], now: datetime, cookie_name: str) -> None:
    """Revoke each session whose live token is in a cookie of this name, even if the session belongs to another user."""
    for value in CookieToken.values(cookie_token(context.connection, cookie_name) or ""):
        await _revoke_presented(context, value, now, "replaced")


async def purge(context: Context[UP, ID], *, batch_size: int) -> int:
    """Delete expired records, and return how many were deleted."""
    now, settings = context.now(), context.settings
    return await context.store.purge(
        audience=settings.audience, now=now, created_since=settings.capped_since(now), batch_size=batch_size
    )


async def _revoke_presented(context: Context[UP, ID], text: str, now: datetime, reason: RevokeReason) -> None:
    """Revoke the session of a live token, even if the token belongs to another user."""
    found = await find(context, str(text), now)
    if found is not None and context.is_live(found, now):
        await _revoke(context, found.record.user_id, found.record.id, now, reason)


async def _revoke(
    context: Context[UP, ID],
    user_id: ID,
    id: UUID,
    now: datetime,
    reason: RevokeReason,
    *,
    audience: str | EllipsisType = ...,
) -> bool:
    settings = context.settings
    chosen = settings.audience if isinstance(audience, EllipsisType) else audience
    record = await context.store.remove(
        user_id, id, audience=chosen, now=now, created_since=settings.created_since(now)
    )
    if record is not None:
        note_invalidated(context.connection, record)
        await _publish_revoked(context, record, reason)
    return record is not None


async def _remove_all(
    context: Context[UP, ID],
    user_id: ID,
    now: datetime,
    *,
    audience: str | None,
    keep: UUID | None,
    keep_scoped: bool = False,
) -> Sequence[TokenRecord[ID]]:
    return await context.store.remove_all(
        user_id,
        audience=audience,
        now=now,
        created_since=context.settings.created_since(now),
        keep=keep,
        keep_scoped=keep_scoped,
    )
