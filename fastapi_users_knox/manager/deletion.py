"""The deletion of a user, followed by the revocation of the user's tokens."""

from collections.abc import Awaitable, Callable, Collection
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any, Generic

from fastapi_users.manager import BaseUserManager
from fastapi_users.models import ID, UP

from fastapi_users_knox.errors import StoreUnavailable
from fastapi_users_knox.manager.account import Account, found_or
from fastapi_users_knox.manager.revocation import Seen
from fastapi_users_knox.users import StoredUser, users_of

__all__ = ["delete_user", "revoke_before_hook"]


async def delete_user(account: Account[UP, ID], user: UP, delete: Callable[[], Awaitable[None]]) -> None:
    """Delete a user by the application's own `delete`, and revoke the user's tokens.

    Raises:
        StoreUnavailable: A token store cannot be read, so nothing was deleted; or the user was deleted, but the tokens
            could not be revoked.
        KnoxError: The session of the user database or of a store is inside `begin()`, so nothing was deleted.
    """
    await account.in_one_task(_delete(account, user, delete))


async def revoke_before_hook(manager: BaseUserManager[UP, ID], user: UP) -> None:
    """Commit the deletion of a user whom this manager is deleting, and revoke the user's tokens."""
    user_id = users_of(manager.user_db).id_of(user)
    for deletion in _deletions.get():
        if deletion.is_of(manager, user_id):
            await deletion.settle()


@dataclass(kw_only=True)
class _Deletion(Generic[UP, ID]):
    """A deletion in progress. Once the deletion is stored, the database may give the user's id to a new user.

    Attributes:
        user_id: The user's id.
        account: The users and their tokens.
        seen: The user's live records, which the database may delete together with the user.
        is_settled: Whether the revocation has been attempted.
        failure: The error that the revocation raised, if any.
    """

    user_id: ID
    account: Account[UP, ID]
    seen: Seen[UP, ID]
    is_settled: bool = False
    failure: StoreUnavailable | None = None

    async def settle(self) -> None:
        """Commit the deletion and revoke the tokens, unless the revocation has already been attempted."""
        if not self.is_settled:
            await self.account.users.commit()
            await self.revoke()

    async def revoke(self) -> None:
        """Revoke the tokens. Keep any error for later, so that the hooks after the deletion still run."""
        for deletion in _deletions.get():  # An override and the `delete` methods that it calls have separate deletions.
            deletion.is_settled |= deletion.is_of(self.account.manager, self.user_id)
        try:
            await self.account.revocation.revoke(self.user_id, "deleted", seen=self.seen)
        except StoreUnavailable as error:
            self.failure = error

    def is_of(self, manager: object, user_id: object) -> bool:
        """Return whether this manager is deleting this user. Another manager may have other stores."""
        return self.account.manager is manager and self.user_id == user_id


_deletions: ContextVar[tuple[_Deletion[Any, Any], ...]] = ContextVar("_deletions", default=())


async def _delete(account: Account[UP, ID], user: UP, delete: Callable[[], Awaitable[None]]) -> None:
    users, user_id = account.users, account.users.id_of(user)
    deletion = _Deletion(user_id=user_id, account=account, seen=await account.check(user))
    before = await users.stored(user_id)
    _deletions.set((*_deletions.get(), deletion))  # This task has its own context, so nothing need be reset.
    with users.noting_commits() as commits:
        try:
            await delete()
            await deletion.settle()
        except BaseException:
            if not deletion.is_settled:
                is_deleted = _is_deleted(account, user, user_id, before, commits)
                is_stored = await found_or(True, is_deleted, user_id)  # noqa: FBT003 (the value to return)
                await account.abandon(user, user_id, before, is_stored=is_stored)
                if is_stored:
                    await deletion.revoke()
            raise
    if deletion.failure is not None:
        raise deletion.failure


async def _is_deleted(
    account: Account[UP, ID], user: UP, user_id: ID, before: StoredUser, commits: Collection[object]
) -> bool:
    """Return whether a failed deletion is stored: the user does not exist any more, or cannot log in as before."""
    after = await account.users.committed(user, user_id)
    if after is None:  # Row-level security may hide the user, so only a commit proves the deletion.
        return bool(commits)
    return any(before.get(name) != after.get(name) for name in ("is_active", "hashed_password"))
