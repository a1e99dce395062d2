"""Updating a user, and revoking the tokens that the update makes invalid."""

from collections.abc import Awaitable, Callable, Collection, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Generic
from uuid import UUID

from fastapi_users.models import ID, UP

from fastapi_users_knox.errors import StoreUnavailable
from fastapi_users_knox.events import RevokeReason
from fastapi_users_knox.manager.account import Account, found_or
from fastapi_users_knox.users import StoredUser

__all__ = ["Reason", "update_user"]

_FIELDS = frozenset({"is_active", "hashed_password", "email"})
_KEEPING: frozenset[RevokeReason] = frozenset({"password_changed", "email_changed"})

Reason = Callable[[Collection[str]], RevokeReason | None]
"""A function that returns why a change of these fields revokes tokens; `None` if the change revokes no token."""


async def update_user(
    account: Account[UP, ID],
    user: UP,
    update: Callable[[], Awaitable[UP]],
    *,
    update_dict: Mapping[str, Any],
    reason: Reason,
    keep_scoped: bool,
) -> UP:
    """Update a user, and revoke the tokens that the stored change makes invalid.

    Args:
        account: The users and their tokens.
        user: The user.
        update: A function that stores the update.
        update_dict: The fields to change, in the form in which FastAPI-Users passes them.
        reason: A function that returns why a change of these fields revokes tokens.
        keep_scoped: Whether API tokens stay valid if the password alone is the reason.

    Raises:
        StoreUnavailable: A token store cannot be read, so nothing was changed; or the user was changed, but the tokens
            could not be revoked.
        KnoxError: The session of the user database or of a store is inside `begin()`, so nothing was changed.
    """
    return await account.in_one_task(_update(account, user, update, update_dict, reason, keep_scoped=keep_scoped))


@dataclass(frozen=True, kw_only=True)
class _Update(Generic[UP, ID]):
    """An update that may revoke tokens.

    Attributes:
        user: The user.
        user_id: The user's id.
        before: The stored state before the update.
        update_dict: The fields to change.
        reason: A function that returns why a change of these fields revokes tokens.
        keep: The id of the record that authenticated the request.
        keep_scoped: Whether API tokens stay valid if the password alone is the reason.
    """

    user: UP
    user_id: ID
    before: StoredUser
    update_dict: Mapping[str, Any]
    reason: Reason
    keep: UUID | None
    keep_scoped: bool

    @property
    def fields(self) -> frozenset[str]:
        """The fields of the update whose change may revoke tokens.

        Setting `is_active` to false is always included, even if the user is already inactive.
        """
        of = self.update_dict
        changing = {
            "is_active": "is_active" in of and not of["is_active"],
            "hashed_password": of.get("password") is not None or "hashed_password" in of,
            "email": "email" in of and of["email"] != self.before.get("email"),
        }
        return frozenset(field for field, changes in changing.items() if changes)

    def keeps_scoped(self, fields: Collection[str]) -> bool:
        """Return whether API tokens stay valid after a change of these fields: only if it is the password alone."""
        return self.keep_scoped and self.reason(set(fields) - {"hashed_password"}) is None

    def done(self, after: StoredUser) -> frozenset[str]:
        """Return the fields that a successful update has changed.

        `is_active` is one of these fields only if the stored user is inactive now.
        """
        was_active = bool(self.before.get("is_active")) or "is_active" in self.update_dict
        is_deactivation = was_active and not after.get("is_active")
        return self.fields - {"is_active"} | ({"is_active"} if is_deactivation else set())

    def stored(self, after: StoredUser) -> frozenset[str]:
        """Return the fields of a failed update whose stored values have changed.

        Fields outside the update are left out, because another request may have changed them. Only a deactivation is
        always included.
        """
        if self.before.get("is_active") and not after.get("is_active", True):
            return self.fields | {"is_active"}
        return frozenset(name for name in self.fields if self.before.get(name) != after.get(name))


async def _update(
    account: Account[UP, ID],
    user: UP,
    update: Callable[[], Awaitable[UP]],
    update_dict: Mapping[str, Any],
    reason: Reason,
    *,
    keep_scoped: bool,
) -> UP:
    if reason(_FIELDS) is None:
        return await update()
    users, user_id = account.users, account.users.id_of(user)
    before = await users.stored(user_id)
    keep = account.revocation.presented(user)
    change = _Update(
        user=user,
        user_id=user_id,
        before=before,
        update_dict=update_dict,
        reason=reason,
        keep=keep,
        keep_scoped=keep_scoped,
    )
    if reason(change.fields) or (users.derives_activity and reason({"is_active"})):
        await account.check(user)
    return await _update_and_revoke(account, change, update)


async def _update_and_revoke(
    account: Account[UP, ID], change: _Update[UP, ID], update: Callable[[], Awaitable[UP]]
) -> UP:
    with account.users.noting_commits() as commits:
        try:
            updated = await update()
            await account.users.flush()
            changed = await found_or(change.fields, _changed(account, change), change.user_id)
            if change.reason(changed) is not None:
                await account.users.commit()
        except BaseException:
            committed = _committed(account, change, commits)
            changed = await found_or(change.fields, committed, change.user_id)
            is_stored = change.reason(changed) is not None
            await account.abandon(change.user, change.user_id, change.before, is_stored=is_stored)
            with suppress(StoreUnavailable):  # This error is logged, and the caller gets the error of the update.
                await _revoke(account, change, changed)
            raise
    await _revoke(account, change, changed)
    return updated


async def _revoke(account: Account[UP, ID], change: _Update[UP, ID], changed: Collection[str]) -> None:
    """Revoke the tokens that the change of these fields makes invalid, if there are any."""
    reason = change.reason(changed)
    if reason is not None:
        keep, keep_scoped = change.keep if reason in _KEEPING else None, change.keeps_scoped(changed)
        await account.revocation.revoke(change.user_id, reason, keep=keep, keep_scoped=keep_scoped)


async def _changed(account: Account[UP, ID], change: _Update[UP, ID]) -> frozenset[str]:
    """Return the fields that a successful update has changed, if their change may revoke tokens."""
    return change.done(await account.users.stored(change.user_id))


async def _committed(account: Account[UP, ID], change: _Update[UP, ID], commits: Collection[object]) -> frozenset[str]:
    """Return the fields that a failed update has committed."""
    after = await account.users.committed(change.user, change.user_id)
    if after is None:  # Row-level security may hide the user.
        return change.fields if commits else frozenset()
    return change.stored(after)
