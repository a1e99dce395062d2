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
from fastapi_users_knox.transports.presented import presented_texts
from fastapi_users_knox.transports.renewal import note_invalidated
from fastapi_users_knox.verbs.context import Context
from fastapi_users_knox.verbs.revoking import revoke_cookie_session

__all__ = ["Wanted", "issue"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Wanted(Generic[ID]):
    """What a caller of `KnoxStrategy.issue` or `roll` wants; the attributes are their arguments."""

    by: TokenRecord[ID] | None = None
    token_ttl: timedelta | EllipsisType | None = ...
    name: str | None = None
    scopes: Iterable[str] | None = None
    data: Mapping[str, Any] | None = None
    replace: bool = True
    roll: Roll[ID] | None = None


async def issue(context: Context[UP, ID], user: UP, wanted: Wanted[ID]) -> IssuedToken:
    """Issue a token within the limit, and publish which records were replaced, were evicted or had expired."""
    if not user.is_active:
        raise CredentialsChanged
    options, now, by = await context.options_for(user), context.now(), wanted.by
    if by is not None and not _may_issue(context, by, user, now):
        raise invalid_token(context.connection)
    record = _new_record(context, user.id, now, wanted, options)
    text = tokens.generate(tokens.routing_tag(user.id), prefix=options.applied_to(context.settings).token_prefix)
    credentials = Credentials(hashed_password=user.hashed_password, is_active=user.is_active)
    await _publish_removed(context, await _add(context, record, text, wanted, options, credentials=credentials))
    await _confirm(context, record, credentials)
    await context.publisher.publish(TokenIssued, user.id, record=record)
    revoke_overwritten = partial(revoke_cookie_session, context, now)
    return IssuedToken(text, record=record, user=user, issued_at=now, revoke_cookie_session=revoke_overwritten)


def _may_issue(context: Context[UP, ID], by: TokenRecord[ID], user: UP, now: datetime) -> bool:
    """Return whether a record is a live session of this user. A token with scopes cannot issue another token.

    The settings of the strategy apply only to records of the strategy's own audience.
    """
    is_ours = by.audience == context.settings.audience
    is_live = context.settings.is_live(by, now) if is_ours else by.is_live(now)
    return by.user_id == user.id and by.scopes is None and is_live


def _new_record(
    context: Context[UP, ID], user_id: ID, now: datetime, wanted: Wanted[ID], options: LoginOptions
) -> TokenRecord[ID]:
    settings, client, by = options.applied_to(context.settings), context.publisher.client(), wanted.by
    name = options.name if wanted.name is None else wanted.name
    ttl = settings.token_ttl if wanted.token_ttl is ... else wanted.token_ttl
    return TokenRecord(
        id=uuid4(),
        user_id=user_id,
        audience=settings.audience,
        created_at=now,
        authenticated_at=now if by is None else by.authenticated_at,
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
    settings, now, by = options.applied_to(context.settings), record.created_at, wanted.by
    try:
        return await context.store.add(
            record,
            settings.digest(text),
            now=now,
            created_since=settings.created_since(now),
            by=None if by is None else by.id,
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
