"""Rotating: replacing the text of a live token, on its own or together with a re-authentication of the user."""

from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime
from typing import Any

from fastapi_users.models import ID, UP

from fastapi_users_knox import tokens
from fastapi_users_knox.errors import CredentialsChanged
from fastapi_users_knox.events import TokenReauthenticated, TokenRotated
from fastapi_users_knox.records import Credentials, Found, IssuedToken, Proof, TokenRecord
from fastapi_users_knox.records.fields import checked_data
from fastapi_users_knox.transports.challenges import invalid_token
from fastapi_users_knox.transports.renewal import note_invalidated
from fastapi_users_knox.verbs.context import Context
from fastapi_users_knox.verbs.reading import find_own
from fastapi_users_knox.verbs.revoking import revoke

__all__ = ["reauthenticate", "rotate"]


async def rotate(context: Context[UP, ID], text: str, user: UP) -> IssuedToken:
    """Replace the text of a live token of this user with a new text."""
    now = context.now()
    found = await find_own(context, text, user, now)
    if found.is_active is False or not user.is_active:
        raise invalid_token(context.connection)
    new_text = await _replace_text(context, text, found, now, proof=None)
    await context.publisher.publish(TokenRotated, user.id, record=found.record)
    return IssuedToken(new_text, record=found.record, user=user, issued_at=now)


async def reauthenticate(
    context: Context[UP, ID], text: str, user: UP, *, data: Mapping[str, Any] | None
) -> IssuedToken:
    """Replace the text of a live session's token, because its user has just proved again who they are."""
    if not user.is_active:
        raise CredentialsChanged
    now = context.now()
    found = await find_own(context, text, user, now)
    if found.record.scopes is not None:
        raise invalid_token(context.connection)
    credentials = Credentials(hashed_password=user.hashed_password, is_active=user.is_active)
    new_data = None if data is None else checked_data(data)
    proof = Proof(authenticated_at=now, credentials=credentials, data=new_data)
    new_text = await _replace_text(context, text, found, now, proof=proof)
    record = replace(found.record, authenticated_at=now, data=found.record.data if new_data is None else new_data)
    await _confirm(context, record, credentials)
    await context.publisher.publish(TokenReauthenticated, user.id, record=record)
    return IssuedToken(new_text, record=record, user=user, issued_at=now)


async def _replace_text(
    context: Context[UP, ID], text: str, found: Found[UP, ID], now: datetime, *, proof: Proof | None
) -> str:
    """Store the digest of a new text with the prefix of the old one, and return the text, or raise `InvalidToken`."""
    new_text = tokens.generate(tokens.routing_tag(found.record.user_id), prefix=tokens.prefix_of(text))
    digest, created_since = context.settings.digest(new_text), context.settings.created_since(now)
    if not await context.store.rotate(found, digest, now=now, created_since=created_since, proof=proof):
        raise invalid_token(context.connection)
    note_invalidated(context.connection, found.record)
    return new_text


async def _confirm(context: Context[UP, ID], record: TokenRecord[ID], credentials: Credentials) -> None:
    """Revoke the session and raise an error if the user has changed since the proof was checked."""
    is_unchanged = False
    try:
        is_unchanged = await context.is_unchanged(record.user_id, credentials)
    finally:
        if not is_unchanged:
            await revoke(context, record.user_id, record.id, reason="password_changed")
    if not is_unchanged:
        raise CredentialsChanged
