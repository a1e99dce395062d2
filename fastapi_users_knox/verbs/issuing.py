"""Issuing: a token for a login, a token on the authority of another token, or the successor of an API token."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial
from types import EllipsisType
from typing import Any, Generic
from uuid import uuid4

from fastapi_users.models import ID, UP

from fastapi_users_knox import tokens
from fastapi_users_knox.errors import CredentialsChanged, InvalidToken, TokenLimitReached
from fastapi_users_knox.events import ClientInfo, TokenExpired, TokenIssued, TokenLimitHit, TokenRevoked
from fastapi_users_knox.records import Added, Credentials, IssuedToken, Roll, TokenRecord
from fastapi_users_knox.records.fields import checked_data, checked_scopes
from fastapi_users_knox.settings import LoginOptions
from fastapi_users_knox.transports.challenges import invalid_token
from fastapi_users_knox.transports.presented import is_authenticated_by_scopes, presented_texts
from fastapi_users_knox.transports.renewal import note_invalidated
from fastapi_users_knox.verbs.context import Context
from fastapi_users_knox.verbs.revoking import revoke_cookie_session

__all__ = ["Wanted", "issue", "roll"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Wanted(Generic[ID]):
    """What a caller of `KnoxStrategy.issue` or `roll` wants; the attributes are their arguments."""

    by: TokenRecord[ID] | EllipsisType | None = ...
    token_ttl: timedelta | EllipsisType | None = ...
    max_ttl: timedelta | None = None
    name: str | None = None
    scopes: Iterable[str] | None = None
    data: Mapping[str, Any] | None = None
    replace: bool = True
    roll: Roll[ID] | None = None


async def issue(context: Context[UP, ID], user: UP, wanted: Wanted[ID]) -> IssuedToken:
    """Issue a token within the limit, and publish which records were replaced, were evicted or had expired."""
    if not user.is_active:
        raise CredentialsChanged
    options, now = await context.options_for(user), context.now()
    if not _may_issue(context, wanted.by, user, now):
        raise invalid_token(context.connection)
    record = _new_record(context, user.id, now, wanted, options)
    text = tokens.generate(tokens.routing_tag(user.id), prefix=options.applied_to(context.settings).token_prefix)
    credentials = Credentials(hashed_password=user.hashed_password, is_active=user.is_active)
    await _publish_removed(context, await _add(context, record, text, wanted, options, credentials=credentials))
    await _confirm(context, record, credentials)
    await context.publisher.publish(TokenIssued, user.id, record=record)
    revoke_overwritten = partial(revoke_cookie_session, context, now)
    return IssuedToken(text, record=record, user=user, issued_at=now, revoke_cookie_session=revoke_overwritten)


async def roll(
    context: Context[UP, ID],
    old: TokenRecord[ID],
    user: UP,
    *,
    by: TokenRecord[ID],
    overlap: timedelta,
    token_ttl: timedelta | EllipsisType | None,
) -> IssuedToken:
    """Issue the successor of an API token, and let the old token expire when the overlap is over."""
    if old.scopes is None:
        raise invalid_token(context.connection)  # Otherwise one session could take over another, with its data.
    if token_ttl is ...:
        token_ttl = None if old.expires_at is None else old.token_ttl or ...
    wanted = Wanted(
        by=by,
        token_ttl=token_ttl,
        name=old.name or "",  # An empty name is none, whatever the options and the client say.
        scopes=old.scopes,
        data=old.data,
        replace=False,
        roll=Roll(record=old, until=context.now() + overlap),
    )
    credentials = Credentials(hashed_password=user.hashed_password, is_active=user.is_active)
    if not await context.is_unchanged(user.id, credentials):  # A store that checks only later would end the old token.
        raise CredentialsChanged
    return await issue(context, user, wanted)


def _may_issue(context: Context[UP, ID], by: TokenRecord[ID] | EllipsisType | None, user: UP, now: datetime) -> bool:
    """Return whether a token may be issued: at a login, or on the authority of a live session of this user.

    A token with scopes cannot issue another token. So if such a token has authenticated the user in this request, that
    is no login, whatever else the route does. The settings of the strategy apply only to records of its own audience.
    """
    if by is None or by is ...:
        return by is ... and not is_authenticated_by_scopes(context.connection, user.id)
    is_ours = by.audience == context.settings.audience
    is_live = context.settings.is_live(by, now) if is_ours else by.is_live(now)
    return by.user_id == user.id and by.scopes is None and is_live


def _new_record(
    context: Context[UP, ID], user_id: ID, now: datetime, wanted: Wanted[ID], options: LoginOptions
) -> TokenRecord[ID]:
    settings, client = options.applied_to(context.settings), context.publisher.client()
    name = options.name if wanted.name is None else wanted.name
    ttl = _shorter(settings.token_ttl if wanted.token_ttl is ... else wanted.token_ttl, wanted.max_ttl)
    return TokenRecord(
        id=uuid4(),
        user_id=user_id,
        audience=settings.audience,
        created_at=now,
        authenticated_at=wanted.by.authenticated_at if isinstance(wanted.by, TokenRecord) else now,
        expires_at=settings.expires_at(now, ttl),
        name=client.name if name is None else ClientInfo(name=name).name,
        device_id=client.device_id if wanted.replace else None,
        user_agent=client.user_agent,
        ip_address=client.ip_address,
        scopes=checked_scopes(wanted.scopes),
        data=checked_data(options.data if wanted.data is None else wanted.data),
        token_ttl=None if ttl == context.settings.token_ttl and not _has_own_ttl(wanted, options) else ttl,
        browser_session=options.browser_session,
    )


def _shorter(one: timedelta | None, other: timedelta | None) -> timedelta | None:
    return min((ttl for ttl in (one, other) if ttl is not None), default=None)


def _has_own_ttl(wanted: Wanted[ID], options: LoginOptions) -> bool:
    """Return whether the application chose the lifetime of this token, which then stays if the settings change."""
    return wanted.token_ttl is not ... or "token_ttl" in options.model_fields_set


def _presented_digests(context: Context[UP, ID], now: datetime) -> Sequence[bytes]:
    """Return the digests of all tokens that came with the request, in any header or cookie."""
    texts = presented_texts(context.connection)
    return [digest for text in texts for _, token in context.recognize(text, now) for digest in token.digests]


async def _add(
    context: Context[UP, ID],
    record: TokenRecord[ID],
    text: str,
    wanted: Wanted[ID],
    options: LoginOptions,
    *,
    credentials: Credentials,
) -> Added[ID]:
    settings, now = options.applied_to(context.settings), record.created_at
    try:
        return await context.store.add(
            record,
            settings.digest(text),
            now=now,
            created_since=settings.created_since(now),
            by=wanted.by.id if isinstance(wanted.by, TokenRecord) else None,
            limit=settings.token_limit_per_user,
            limit_policy=settings.limit_policy,
            replaces=_presented_digests(context, now) if wanted.replace and settings.end_presented else (),
            credentials=credentials,
            roll=wanted.roll,
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


async def _confirm(context: Context[UP, ID], record: TokenRecord[ID], credentials: Credentials) -> None:
    """Remove the new record and raise an error if the user has changed since the login was checked."""
    is_unchanged = False
    try:
        is_unchanged = await context.is_unchanged(record.user_id, credentials)
    finally:
        if not is_unchanged:
            await context.store.remove(record.user_id, record.id, audience=record.audience, now=record.created_at)
    if not is_unchanged:
        raise CredentialsChanged
