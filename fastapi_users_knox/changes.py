"""Changes of a user that are carried out together with the revocation of the user's tokens."""

import logging
from collections.abc import Awaitable, Callable, Collection, Coroutine, Mapping
from contextlib import suppress
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any, Generic, TypeVar
from uuid import UUID

from fastapi_users.db import BaseUserDatabase
from fastapi_users.manager import BaseUserManager
from fastapi_users.models import ID, UP

from fastapi_users_knox.errors import StoreUnavailable, describe
from fastapi_users_knox.events import RevokeReason
from fastapi_users_knox.revocation import Revocation, Seen
from fastapi_users_knox.shielding import run_to_the_end
from fastapi_users_knox.users import (
    StoredUser,
    commit,
    committed_user,
    derives_activity,
    flush,
    id_of,
    is_pending,
    noting_commits,
    refuse_transaction_block,
    roll_back,
    sharing_session,
    stored_user,
)

__all__ = ["Changes", "revoke_for_deletion"]

T = TypeVar("T")

_logger = logging.getLogger("fastapi_users_knox")

_FIELDS = frozenset({"is_active", "hashed_password", "email"})
_KEEPING: frozenset[RevokeReason] = frozenset({"password_changed", "email_changed"})

Reason = Callable[[Collection[str]], RevokeReason | None]


@dataclass(frozen=True)
class Changes(Generic[UP, ID]):
    """Change users, and revoke the tokens that what was stored makes invalid.

    A change and its revocation run to the end in one task, so that no cancellation comes in between, nor leaves it open
    whether the change is stored. Where the change returns, it is committed, and the tokens are revoked. Where it
    raises, what is committed decides, and nothing more is committed; where that cannot be read, tokens are revoked.

    Attributes:
        user_db: Where the users are stored.
        revocation: Of the stores in which their tokens are.
        manager: Who makes the changes.
    """

    user_db: BaseUserDatabase[UP, ID]
    revocation: Revocation[UP, ID]
    manager: object

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
            KnoxError: A session of the user database or of a store is inside of `begin()`; nothing was changed.
        """
        return await self._in_one_task(self._update(user, update, update_dict, reason))

    async def delete(self, user: UP, delete: Callable[[], Awaitable[None]]) -> None:
        """Delete a user, by whatever the application calls a deletion.

        Raises:
            StoreUnavailable: As for an update.
            KnoxError: The same.
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
        if reason(_FIELDS) is None:
            return await update()
        user_id = id_of(self.user_db, user)
        before = await stored_user(self.user_db, user_id)
        keep = self.revocation.presented(user)
        change = _Update(user=user, user_id=user_id, before=before, update_dict=update_dict, reason=reason, keep=keep)
        if reason(change.fields) or (derives_activity(self.user_db) and reason({"is_active"})):
            await self._check(user)
        return await self._update_and_revoke(change, update)

    async def _check(self, user: UP) -> Seen[UP, ID]:
        """Find out before the change what would keep its tokens from being revoked; return the user's live records."""
        refuse_transaction_block(self.user_db)
        self.revocation.refuse_transaction_block()
        return await self.revocation.live_records(user)

    async def _update_and_revoke(self, change: "_Update[UP, ID]", update: Callable[[], Awaitable[UP]]) -> UP:
        with noting_commits(self.user_db) as commits:
            try:
                updated = await update()
                await flush(self.user_db)
                reason = change.reason(await _known(self._changed(change), change.user_id, change.fields))
                if reason is not None:
                    await commit(self.user_db)
            except BaseException:
                fields = await _known(self._committed(change, commits), change.user_id, change.fields)
                reason = change.reason(fields)
                await self._abandon(change.user, change.user_id, change.before, is_stored=reason is not None)
                if reason is not None:
                    with suppress(StoreUnavailable):  # It is logged, and the caller gets the first error.
                        await self._revoke(change, reason)
                raise
        if reason is not None:
            await self._revoke(change, reason)
        return updated

    async def _revoke(self, change: "_Update[UP, ID]", reason: RevokeReason) -> None:
        keep = change.keep if reason in _KEEPING else None
        await self.revocation.revoke(change.user_id, reason, keep=keep)

    async def _delete(self, user: UP, delete: Callable[[], Awaitable[None]]) -> None:
        user_id = id_of(self.user_db, user)
        deletion = _Deletion(user_id=user_id, changes=self, seen=await self._check(user))
        before = await stored_user(self.user_db, user_id)
        _deletions.set((*_deletions.get(), deletion))  # In a task of its own, so it need not be reset.
        with noting_commits(self.user_db) as commits:
            try:
                await delete()
                await deletion.settle()
            except BaseException:
                if not deletion.is_settled:
                    is_deleted = self._is_deleted(user, user_id, before, commits)
                    is_stored = await _known(is_deleted, user_id, otherwise=True)
                    await self._abandon(user, user_id, before, is_stored=is_stored)
                    if is_stored:
                        await deletion.revoke()
                raise
        if deletion.failure is not None:
            raise deletion.failure

    async def _changed(self, change: "_Update[UP, ID]") -> frozenset[str]:
        """Return what an update that has returned has changed, of what may revoke tokens."""
        return change.done(await stored_user(self.user_db, change.user_id))

    async def _committed(self, change: "_Update[UP, ID]", commits: Collection[object]) -> frozenset[str]:
        """Return which of its fields an update that has raised has stored for good."""
        after = await committed_user(self.user_db, change.user, change.user_id)
        if after is None:  # Hidden by row-level security.
            return change.fields if commits else frozenset()
        return change.stored(after)

    async def _is_deleted(self, user: UP, user_id: ID, before: StoredUser, commits: Collection[object]) -> bool:
        """Return whether a deletion that has raised is stored: the user is gone, or can no longer log in as before."""
        after = await committed_user(self.user_db, user, user_id)
        if after is None:  # Hidden by row-level security, which proves no deletion.
            return bool(commits)
        return any(before.get(name) != after.get(name) for name in ("is_active", "hashed_password"))

    async def _abandon(self, user: UP, user_id: ID, before: StoredUser, *, is_stored: bool) -> None:
        """Roll back what a change that has raised has left in the session, and leave alone what it has not touched.

        The next commit would store it: the revocation's, or one of the caller's, after which nothing would be revoked.
        """
        with suppress(Exception):  # A transaction that has failed, or whose connection is lost, commits nothing either.
            if is_stored or is_pending(self.user_db, user) or await stored_user(self.user_db, user_id) != before:
                await roll_back(self.user_db, user)


@dataclass(frozen=True, kw_only=True)
class _Update(Generic[UP, ID]):
    """An update that may revoke tokens.

    Attributes:
        user: The user.
        user_id: The user's.
        before: What was stored.
        update_dict: What to change, as FastAPI-Users has it.
        reason: As for `Changes.update`.
        keep: The id of the record that authenticated the request.
    """

    user: UP
    user_id: ID
    before: StoredUser
    update_dict: Mapping[str, Any]
    reason: Reason
    keep: UUID | None

    @property
    def fields(self) -> frozenset[str]:
        """What the update is to store differently, of what may revoke tokens; each deactivation counts."""
        of = self.update_dict
        changing = {
            "is_active": "is_active" in of and not of["is_active"],
            "hashed_password": of.get("password") is not None or "hashed_password" in of,
            "email": "email" in of and of["email"] != self.before.get("email"),
        }
        return frozenset(field for field, changes in changing.items() if changes)

    def done(self, after: StoredUser) -> frozenset[str]:
        """Return what the update has changed, given what is stored now: the activity is judged by that alone."""
        was_active = bool(self.before.get("is_active")) or "is_active" in self.update_dict
        is_deactivation = was_active and not after.get("is_active")
        return self.fields - {"is_active"} | ({"is_active"} if is_deactivation else set())

    def stored(self, after: StoredUser) -> frozenset[str]:
        """Return which fields are stored differently; columns that the update does not change are another's."""
        if self.before.get("is_active") and not after.get("is_active", True):
            return self.fields | {"is_active"}
        return frozenset(name for name in self.fields if self.before.get(name) != after.get(name))


@dataclass(kw_only=True)
class _Deletion(Generic[UP, ID]):
    """A deletion under way; its user's id may be another user's soon after it is stored.

    Attributes:
        changes: By whom the user is deleted.
        seen: Live records, which the database may delete along with the user.
        is_settled: Whether the tokens were revoked, with or without a failure.
    """

    user_id: ID
    changes: Changes[UP, ID]
    seen: Seen[UP, ID]
    is_settled: bool = False
    failure: StoreUnavailable | None = None

    async def settle(self) -> None:
        """Commit the deletion and revoke the tokens, once."""
        if not self.is_settled:
            await commit(self.changes.user_db)
            await self.revoke()

    async def revoke(self) -> None:
        """Revoke the tokens; the failure is kept, so that what follows a deletion is not left undone."""
        for deletion in _deletions.get():  # An override's, and those of the classes above that it calls.
            deletion.is_settled |= deletion.is_of(self.changes.manager, self.user_id)
        try:
            await self.changes.revocation.revoke(self.user_id, "deleted", seen=self.seen)
        except StoreUnavailable as error:
            self.failure = error

    def is_of(self, manager: object, user_id: object) -> bool:
        """Return whether this manager deletes this user; others have stores and switches of their own."""
        return self.changes.manager is manager and self.user_id == user_id


_deletions: ContextVar[tuple[_Deletion[Any, Any], ...]] = ContextVar("_deletions", default=())


async def revoke_for_deletion(manager: BaseUserManager[UP, ID], user: UP) -> None:
    """Revoke the tokens of a user whose deletion by this manager is under way, now that it is stored."""
    user_id = id_of(manager.user_db, user)
    for deletion in _deletions.get():
        if deletion.is_of(manager, user_id):
            await deletion.settle()


async def _known(finding: Coroutine[Any, Any, T], user_id: object, otherwise: T) -> T:
    """Return what is found of what is stored; otherwise, take what is to be stored for stored."""
    try:
        return await finding
    except Exception as error:  # noqa: BLE001 (whatever it is, nobody may profit from it)
        _logger.error(  # noqa: TRY400 (a traceback shows parameters)
            "Could not read what is stored of user %s: revoking their tokens: %s", user_id, describe(error)
        )
        return otherwise
