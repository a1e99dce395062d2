"""Issuing: a token for a login, a token on the authority of another token, or a new text for an existing token."""

from collections.abc import Sequence
from datetime import datetime, timedelta
from functools import partial
from types import EllipsisType
from uuid import uuid4

from fastapi_users.models import ID, UP

from fastapi_users_knox.errors import CredentialsChanged, InvalidToken, TokenLimitReached
from fastapi_users_knox.events import ClientInfo, TokenExpired, TokenIssued, TokenLimitHit, TokenRevoked, TokenRotated
from fastapi_users_knox.records import Added, Credentials, IssuedToken, TokenRecord
from fastapi_users_knox.transports.challenges import invalid_token
from fastapi_users_knox.transports.presented import presented_texts
from fastapi_users_knox.transports.renewal import note_invalidated
from fastapi_users_knox.users import users_of
from fastapi_users_knox.verbs.context import Context
from fastapi_users_knox.verbs.reading import find_own
from fastapi_users_knox.verbs.revoking import revoke_cookie_session

__all__ = ["issue", "rotate"]


async def issue(
    context: Context[UP, ID],
    user: UP,
    *,
    by: TokenRecord[ID] | None,
    token_ttl: timedelta | EllipsisType | None,
    name: str | None,
    replace: bool,
) -> IssuedToken:
    """Issue a token within the limit, and publish which records were replaced, were evicted or had expired."""
    if not user.is_active:
        raise CredentialsChanged
    now = context.now()
    if by is not None and not _may_issue(context, by, user, now):
        raise invalid_token(context.connection)
    text = context.new_text(user.id)
    record = _new_record(context, user.id, now, ttl=token_ttl, by=by, name=name, on_device=replace)
    credentials = Credentials(hashed_password=user.hashed_password, is_active=user.is_active)
    replaces = _presented_digests(context, now) if replace and context.settings.end_presented else ()
    await _publish_removed(context, await _add(context, record, text, now, credentials, by=by, replaces=replaces))
    await _confirm(context, record, credentials, now)
    await context.publisher.publish(TokenIssued, user.id, record=record)
    revoke_overwritten = partial(revoke_cookie_session, context, now)
    return IssuedToken(text, record=record, user=user, issued_at=now, revoke_cookie_session=revoke_overwritten)


async def rotate(context: Context[UP, ID], text: str, user: UP) -> IssuedToken:
    """Replace the text of a live token of this user with a new text."""
    now = context.now()
    found = await find_own(context, text, user, now)
    if found.is_active is False or not user.is_active:
        raise invalid_token(context.connection)
    new_text = context.new_text(user.id)
    digest, created_since = context.settings.digest(new_text), context.settings.created_since(now)
    if not await context.store.rotate(found, digest, now=now, created_since=created_since):
        raise invalid_token(context.connection)
    note_invalidated(context.connection, found.record)
    await context.publisher.publish(TokenRotated, user.id, record=found.record)
    return IssuedToken(new_text, record=found.record, user=user, issued_at=now)


def _may_issue(context: Context[UP, ID], by: TokenRecord[ID], user: UP, now: datetime) -> bool:
    """Return whether a record is live and belongs to this user.

    The settings of the strategy apply only to records of the strategy's own audience.
    """
    is_ours = by.audience == context.settings.audience
    return by.user_id == user.id and (context.settings.is_live(by, now) if is_ours else by.is_live(now))


def _new_record(
    context: Context[UP, ID],
    user_id: ID,
    now: datetime,
    *,
    ttl: timedelta | EllipsisType | None,
    by: TokenRecord[ID] | None,
    name: str | None,
    on_device: bool,
) -> TokenRecord[ID]:
    settings, client = context.settings, context.publisher.client()
    named = ClientInfo(name=name) if name is not None else client
    return TokenRecord(
        id=uuid4(),
        user_id=user_id,
        audience=settings.audience,
        created_at=now,
        authenticated_at=now if by is None else by.authenticated_at,
        expires_at=settings.expires_at(now, settings.token_ttl if ttl is ... else ttl),
        name=named.name,
        device_id=client.device_id if on_device else None,
        user_agent=client.user_agent,
        ip_address=client.ip_address,
    )


def _presented_digests(context: Context[UP, ID], now: datetime) -> Sequence[bytes]:
    """Return the digests of all tokens that came with the request, in any header or cookie."""
    texts = presented_texts(context.connection)
    return [digest for text in texts for _, token in context.recognize(text, now) for digest in token.digests]


async def _add(
    context: Context[UP, ID],
    record: TokenRecord[ID],
    text: str,
    now: datetime,
    credentials: Credentials,
    *,
    by: TokenRecord[ID] | None,
    replaces: Sequence[bytes],
) -> Added[ID]:
    settings = context.settings
    try:
        return await context.store.add(
            record,
            settings.digest(text),
            now=now,
            created_since=settings.created_since(now),
            by=None if by is None else by.id,
            limit=settings.token_limit_per_user,
            limit_policy=settings.limit_policy,
            replaces=replaces,
            credentials=credentials,
        )
    except InvalidToken as refused:
        raise invalid_token(context.connection) from refused
    except TokenLimitReached as reached:
        await context.publisher.publish(TokenLimitHit, record.user_id, limit=reached.limit)
        raise


async def _publish_removed(context: Context[UP, ID], added: Added[ID]) -> None:
    note_invalidated(context.connection, *added.expired, *added.replaced, *added.evicted)
    for record in added.expired:
        await context.publisher.publish(TokenExpired, record.user_id, record=record)
    for record in added.replaced:
        await context.publisher.publish(TokenRevoked, record.user_id, record=record, reason="replaced")
    for record in added.evicted:
        await context.publisher.publish(TokenRevoked, record.user_id, record=record, reason="evicted")


async def _confirm(context: Context[UP, ID], record: TokenRecord[ID], credentials: Credentials, now: datetime) -> None:
    """Remove the new record and raise an error if the user has changed since the login was checked.

    A store that sees the users has already checked this.
    """
    if context.store.sees_users or context.user_db is None:
        return
    is_unchanged = False
    try:
        is_unchanged = credentials == await users_of(context.user_db).credentials(record.user_id, latest=True)
    finally:
        if not is_unchanged:
            await context.store.remove(record.user_id, record.id, audience=record.audience, now=now)
    if not is_unchanged:
        raise CredentialsChanged
