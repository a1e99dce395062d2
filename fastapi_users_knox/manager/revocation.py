"""The revocation of a user's tokens in every store of an application."""

import logging
from asyncio import CancelledError
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Generic
from uuid import UUID

from fastapi_users.models import ID, UP

from fastapi_users_knox.errors import StoreUnavailable, describe
from fastapi_users_knox.events import RevokeReason
from fastapi_users_knox.records import TokenRecord
from fastapi_users_knox.store import TokenStore
from fastapi_users_knox.strategy import KnoxStrategy

__all__ = ["Revocation", "strategies_of"]

_logger = logging.getLogger("fastapi_users_knox")

Seen = Mapping[KnoxStrategy[UP, ID], Sequence[TokenRecord[ID]]]


@dataclass(frozen=True)
class Revocation(Generic[UP, ID]):
    """Revoke tokens of every audience through one or several strategies, in one transaction for each store."""

    strategies: tuple[KnoxStrategy[UP, ID], ...]

    def refuse_transaction_block(self) -> None:
        """Call `refuse_transaction_block` of each store that has this method, before anything is changed.

        Raises:
            KnoxError: The session of an SQLAlchemy store is inside `begin()`.
        """
        for strategy in self.strategies:
            refuse: Callable[[], None] = getattr(strategy.store, "refuse_transaction_block", _refuse_nothing)
            refuse()

    async def live_records(self, user: UP) -> Seen[UP, ID]:
        """Return each strategy with the user's live records in the strategy's audience.

        Raises:
            StoreUnavailable: One of the stores cannot be read.
        """
        return {strategy: await strategy.list_records(user) for strategy in self.strategies}

    def presented(self, user: UP) -> UUID | None:
        """Return the id of the record that authenticated the request, if the record belongs to this user."""
        records = (strategy.presented_record(user) for strategy in self.strategies)
        return next((record.id for record in records if record is not None), None)

    async def revoke(
        self,
        user_id: ID,
        reason: RevokeReason,
        *,
        keep: UUID | None = None,
        keep_scoped: bool = False,
        seen: Seen[UP, ID] | None = None,
    ) -> int:
        """Revoke the tokens in every store, even if another store fails, and return how many were live.

        Args:
            user_id: The user's id.
            reason: The reason in the events.
            keep: The id of one record to keep.
            keep_scoped: Whether to keep API tokens, which are the records with scopes.
            seen: Records that the database may have deleted together with the user. These records get an event too.

        Raises:
            StoreUnavailable: A store failed. The user and the error are logged.
        """
        revoked: set[UUID] = set()
        done: list[TokenStore[UP, ID]] = []
        failure: BaseException | None = None
        for strategy in self.strategies:
            if any(strategy.store is store for store in done):
                continue
            peers = self._peers(strategy)
            unpublished = [record for record in _seen_in(strategy.store, seen or {}) if record.id not in revoked]
            try:
                ended = await strategy.revoke_all(
                    user_id, reason=reason, keep=keep, keep_scoped=keep_scoped, seen=unpublished, peers=peers
                )
            except (Exception, CancelledError) as error:  # noqa: BLE001 (after any error, the next store must be tried)
                failure = error
                _log_failure(user_id, reason, error)
            else:
                done.append(strategy.store)
                revoked.update(record.id for record in ended)
        if failure is not None:
            raise StoreUnavailable from failure
        return len(revoked)

    def _peers(self, strategy: KnoxStrategy[UP, ID]) -> Sequence[KnoxStrategy[UP, ID]]:
        """Return all strategies, beginning with those that share the store of this strategy."""
        return sorted(self.strategies, key=lambda peer: peer.store is not strategy.store)


def strategies_of(knox: object) -> tuple[KnoxStrategy[Any, Any], ...]:
    """Return the strategies that an application passes as `knox=`.

    Raises:
        TypeError: `knox` contains something other than strategies, such as a `Depends` object.
    """
    found = tuple(knox) if isinstance(knox, Iterable) else (knox,)
    if not found or not all(isinstance(strategy, KnoxStrategy) for strategy in found):
        raise TypeError("knox= must be one or several KnoxStrategy objects: super().__init__(user_db, knox=strategy)")
    return found


def _refuse_nothing() -> None:
    """Do nothing, because the store has no `refuse_transaction_block`."""


def _seen_in(store: TokenStore[UP, ID], seen: Seen[UP, ID]) -> Iterable[TokenRecord[ID]]:
    return (record for strategy, records in seen.items() if strategy.store is store for record in records)


def _log_failure(user_id: object, reason: RevokeReason, error: BaseException) -> None:
    _logger.error("Could not revoke the tokens of user %s (%s): %s", user_id, reason, describe(error))
