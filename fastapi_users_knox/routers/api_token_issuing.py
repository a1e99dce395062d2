"""Issuing API tokens and their successors on the authority of a session."""

from collections.abc import Callable, Collection, Coroutine
from dataclasses import dataclass
from datetime import timedelta
from typing import Annotated, Any, Generic
from uuid import UUID

from fastapi import Depends, HTTPException, status
from fastapi_users.authentication import AuthenticationBackend, Strategy
from fastapi_users.models import ID, UP

from fastapi_users_knox.errors import InvalidToken, KnoxError, StoreUnavailable
from fastapi_users_knox.records import IssuedToken, TokenRecord
from fastapi_users_knox.routers.api_token_schemas import ApiTokenCreate
from fastapi_users_knox.routers.backends import checked_strategy
from fastapi_users_knox.strategy import KnoxStrategy

__all__ = ["ALREADY_ROLLED", "NOT_FOUND", "SCOPE_WITHDRAWN", "ApiTokens", "GetApiTokens", "api_tokens_of"]

NOT_FOUND = "API_TOKEN_NOT_FOUND"
ALREADY_ROLLED = "API_TOKEN_ALREADY_ROLLED"
SCOPE_WITHDRAWN = "API_TOKEN_SCOPE_WITHDRAWN"

_ATTEMPTS = 3


@dataclass(frozen=True, kw_only=True)
class ApiTokens(Generic[UP, ID]):
    """The API tokens of the users, as one request sees them.

    Attributes:
        sessions: The strategy of the sessions on whose authority API tokens are issued.
        strategy: The strategy of the API tokens.
        scopes: The scopes that users may choose.
        max_ttl: The longest lifetime of an API token; `None` if there is none.
    """

    sessions: KnoxStrategy[UP, ID]
    strategy: KnoxStrategy[UP, ID]
    scopes: Collection[str]
    max_ttl: timedelta | None

    async def list(self, user: UP) -> list[TokenRecord[ID]]:
        """Return the records of a user's live API tokens, newest first."""
        return [record for record in await self.strategy.list_records(user) if record.scopes is not None]

    async def find(self, user: UP, id: UUID) -> TokenRecord[ID]:
        """Return the record of one live API token of a user, or raise 404."""
        for record in await self.list(user):
            if record.id == id:
                return record
        raise HTTPException(status.HTTP_404_NOT_FOUND, NOT_FOUND)

    async def end(self, user: UP, id: UUID) -> None:
        """End one live API token of a user, or raise 404."""
        await self.find(user, id)  # The audience may have records without scopes, which are no API tokens.
        if not await self.strategy.revoke(user, id):
            raise HTTPException(status.HTTP_404_NOT_FOUND, NOT_FOUND)

    async def issue(self, user: UP, session: TokenRecord[ID], wanted: ApiTokenCreate) -> IssuedToken:
        """Issue an API token that is not valid for longer than allowed."""
        return await self.strategy.issue(
            user,
            by=session,
            token_ttl=... if wanted.lifetime is None else wanted.lifetime,
            max_ttl=self.max_ttl,
            name=wanted.name,
            scopes=wanted.scopes,
            replace=False,
        )

    async def roll(self, user: UP, session: TokenRecord[ID], id: UUID, *, overlap: timedelta) -> IssuedToken:
        """Issue the successor of an API token, or raise 404 or 409.

        If another request has rolled or ended the token in the meantime, the error is the one that this request would
        have got a moment later. If only the expiry of the token was refreshed in the meantime, the roll is repeated, up
        to three times; after that the answer is 503, as after too much contention in a store.
        """
        for _ in range(_ATTEMPTS):
            record = await self._find_to_roll(user, id)
            try:
                return await self.strategy.roll_token(
                    record, user, by=session, overlap=overlap, token_ttl=self._lifetime_of(record)
                )
            except InvalidToken:
                if session.id not in {live.id for live in await self.sessions.list_records(user)}:
                    raise
        raise StoreUnavailable

    async def _find_to_roll(self, user: UP, id: UUID) -> TokenRecord[ID]:
        record = await self.find(user, id)
        if record.token_ttl == timedelta(0):  # Its expiry stands, because it has a successor.
            raise HTTPException(status.HTTP_409_CONFLICT, ALREADY_ROLLED)
        if not (record.scopes or frozenset()).issubset(self.scopes):
            raise HTTPException(status.HTTP_409_CONFLICT, SCOPE_WITHDRAWN)
        return record

    def _lifetime_of(self, record: TokenRecord[ID]) -> timedelta | None:
        """Return the lifetime that the token was issued with, or the longest that is allowed.

        A refresh moves the expiry, so the lifetime of a token that is refreshed is the one that each refresh gives it.
        """
        settings = self.strategy.settings
        if record.token_ttl is not None:
            ttl: timedelta | None = record.token_ttl
        elif settings.auto_refresh:
            ttl = settings.token_ttl
        else:
            ttl = None if record.expires_at is None else record.expires_at - record.created_at
        lifetimes = [each for each in (ttl, self.max_ttl) if each is not None]
        return min(lifetimes, default=None)


GetApiTokens = Callable[..., Coroutine[Any, Any, ApiTokens[UP, ID]]]


def api_tokens_of(
    backend: AuthenticationBackend[UP, ID],
    api_backend: AuthenticationBackend[UP, ID],
    *,
    scopes: Collection[str],
    max_ttl: timedelta | None,
) -> GetApiTokens[UP, ID]:
    """Make the dependency that returns the API tokens, and checks the set-up of the two backends."""

    async def get_api_tokens(
        sessions: Annotated[Strategy[UP, ID], Depends(backend.get_strategy)],
        strategy: Annotated[Strategy[UP, ID], Depends(api_backend.get_strategy)],
    ) -> ApiTokens[UP, ID]:
        tokens = ApiTokens(
            sessions=checked_strategy(sessions, backend),
            strategy=checked_strategy(strategy, api_backend),
            scopes=scopes,
            max_ttl=max_ttl,
        )
        _check_setup(tokens.sessions, tokens.strategy)
        return tokens

    return get_api_tokens


def _check_setup(sessions: KnoxStrategy[Any, Any], strategy: KnoxStrategy[Any, Any]) -> None:
    """Refuse strategies of which one could revoke the other's tokens, or could not check the other's sessions.

    Raises:
        KnoxError: Both have the same audience, or their stores are of different kinds.
    """
    audience, store, other = strategy.settings.audience, strategy.store, sessions.store
    if audience == sessions.settings.audience:
        raise KnoxError(
            f"the sessions and the API tokens have the same audience {audience!r}: give the strategy of the API tokens "
            "an audience of its own, such as that of ApiTokenSettings()"
        )
    if not isinstance(store, type(other)) and not isinstance(other, type(store)):
        raise KnoxError(
            f"the sessions are in a {type(other).__name__} and the API tokens in a {type(store).__name__}: use the "
            "same store for both, so that an API token is issued only while the session is live"
        )
