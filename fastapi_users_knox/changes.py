"""Changes of a user that are carried out together with the revocation of the user's tokens."""

import logging
from collections.abc import Awaitable, Callable, Collection, Coroutine, Mapping
from contextlib import suppress
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any, Generic, TypeVar
from uuid import UUID

from fastapi_users.db import BaseUserDatabase
from fastapi_users.models import ID, UP

from fastapi_users_knox.errors import StoreUnavailable
from fastapi_users_knox.events import RevokeReason
from fastapi_users_knox.revocation import Revocation, Seen
from fastapi_users_knox.shielding import run_to_the_end
from fastapi_users_knox.users import StoredUser, refuse_transaction_block, sharing_session, stored_user

__all__ = ["Changes", "revoke_for_deletion"]

T = TypeVar("T")

_logger = logging.getLogger("fastapi_users_knox")

_KEEPING: frozenset[RevokeReason] = frozenset({"password_changed", "email_changed"})

Reason = Callable[[Collection[str]], RevokeReason | None]


@dataclass(frozen=True)
class Changes(Generic[UP, ID]):
    """Change users, and revoke the tokens that what was stored makes invalid.

    A change and its revocation run to the end in one task, so that no cancellation comes in between, nor leaves it open
    whether the change is stored. Where the change raises, what is stored decides; where that cannot be read, tokens are
    revoked.

    Attributes:
        user_db: Where the users are stored.
        revocation: Of the stores in which their tokens are.
    """

    user_db: BaseUserDatabase[UP, ID]
    revocation: Revocation[UP, ID]

    async def update(
        self, user: UP, update: Callable[[], Awaitable[UP]], *, update_dict: Mapping[str, Any], reason: Reason
    ) -> UP:
        """Update a user.

        Args:
            user: The user.
            update: Stores the update.
            update_dict: What to change, as FastAPI-Users has it.
            reason: Returns why a change of these fields revokes tokens; `None`: it revokes none.

        Raises:
            StoreUnavailable: A store of tokens cannot be read, and nothing was changed; or the tokens could not be
                revoked after the change.
            KnoxError: The user database's session is inside of `begin()`; nothing was changed.
        """
        return await self._in_one_task(self._update(user, update, update_dict, reason))

    async def delete(self, user: UP, delete: Callable[[], Awaitable[None]]) -> None:
        """Delete a user, by whatever the application calls a deletion.

        Raises:
            StoreUnavailable: As for an update.
        """
        await self._in_one_task(self._delete(user, delete))

    async def _in_one_task(self, work: Coroutine[Any, Any, T]) -> T:
        sharing = sharing_session(self.user_db)

        async def run() -> T:
            with sharing:
                return await work

        return await run_to_the_end(run())

    async def _update(
        self, user: UP, update: Callable[[], Awaitable[UP]], update_dict: Mapping[str, Any], reason: Reason
    ) -> UP:
        user_id = user.id
        before = await stored_user(self.user_db, user_id)
        fields = _changing(update_dict, before)
        if reason(fields) is None:
            return await update()
        refuse_transaction_block(self.user_db)
        await self.revocation.live_records(user)  # A store that is unavailable is found out before the change.
        keep = self.revocation.presented(user)
        change = _Update(user_id=user_id, before=before, fields=fields, reason=reason, keep=keep)
        return await self._update_and_revoke(change, update)

    async def _update_and_revoke(self, change: "_Update[ID]", update: Callable[[], Awaitable[UP]]) -> UP:
        try:
            updated = await update()
        except BaseException:
            stored = await self._stored_since(change.user_id, change.before)
            with suppress(StoreUnavailable):  # It is logged, and the caller gets the first error.
                # One commit stores all fields of an update, whichever columns they are in.
                await self._revoke(change, frozenset() if stored == frozenset() else change.fields)
            raise
        await self._revoke(change, change.fields)
        return updated

    async def _revoke(self, change: "_Update[ID]", fields: Collection[str]) -> None:
        reason = change.reason(fields)
        if reason is not None:
            keep = change.keep if reason in _KEEPING else None
            await self.revocation.revoke(change.user_id, reason, keep=keep)

    async def _delete(self, user: UP, delete: Callable[[], Awaitable[None]]) -> None:
        refuse_transaction_block(self.user_db)
        user_id, seen = user.id, await self.revocation.live_records(user)
        before = await stored_user(self.user_db, user_id)
        deletion = _Deletion(user_id=user_id, before=before, seen=seen, revocation=self.revocation)
        _deletions.set((*_deletions.get(), deletion))  # In a task of its own, so it need not be reset.
        try:
            await delete()
        except BaseException:
            if not deletion.is_settled and await self._stored_since(deletion.user_id, deletion.before) != frozenset():
                await deletion.settle()
            raise
        await deletion.settle()
        if deletion.failure is not None:
            raise deletion.failure

    async def _stored_since(self, user_id: ID, before: StoredUser) -> frozenset[str] | None:
        """Return which fields are stored differently by now, all of them if the user is gone, `None` if unknown."""
        try:
            after = await stored_user(self.user_db, user_id)
            return frozenset(name for name in {**before, **after} if before.get(name) != after.get(name))
        except Exception:
            _logger.exception("Could not read what is stored of user %s: revoking their tokens", user_id)
            return None


@dataclass(frozen=True, kw_only=True)
class _Update(Generic[ID]):
    """An update that revokes tokens.

    Attributes:
        user_id: The user's.
        before: What was stored.
        fields: What is to be stored differently.
        reason: As for `Changes.update`.
        keep: The id of the record that authenticated the request.
    """

    user_id: ID
    before: StoredUser
    fields: frozenset[str]
    reason: Reason
    keep: UUID | None


@dataclass(kw_only=True)
class _Deletion(Generic[UP, ID]):
    """A deletion under way; its user's id may be another user's soon after it is stored.

    Attributes:
        seen: Live records, which the database may delete along with the user.
        is_settled: Whether the tokens were revoked, with or without a failure.
    """

    user_id: ID
    before: StoredUser
    seen: Seen[UP, ID]
    revocation: Revocation[UP, ID]
    is_settled: bool = False
    failure: StoreUnavailable | None = None

    async def settle(self) -> None:
        """Revoke the tokens, once; the failure is kept, so that what follows a deletion is not left undone."""
        if self.is_settled:
            return
        for deletion in _deletions.get():  # An override's, and those of the classes above that it calls.
            deletion.is_settled |= deletion.user_id == self.user_id
        try:
            await self.revocation.revoke(self.user_id, "deleted", seen=self.seen)
        except StoreUnavailable as error:
            self.failure = error


_deletions: ContextVar[tuple[_Deletion[Any, Any], ...]] = ContextVar("_deletions", default=())


async def revoke_for_deletion() -> None:
    """Revoke the tokens of the user whose deletion is under way, now that it is stored."""
    for deletion in _deletions.get()[-1:]:
        await deletion.settle()


def _changing(update_dict: Mapping[str, Any], before: StoredUser) -> frozenset[str]:
    """Return what an update is to store differently, of what may revoke tokens; each deactivation counts."""
    changing = {
        "is_active": update_dict.get("is_active") is False,
        "hashed_password": update_dict.get("password") is not None or "hashed_password" in update_dict,
        "email": "email" in update_dict and update_dict["email"] != before.get("email"),
    }
    return frozenset(field for field, changes in changing.items() if changes)
