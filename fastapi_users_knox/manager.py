"""A user manager that ends tokens when what they were issued for changes: the password, the activity, the user."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, ClassVar, Generic
from uuid import UUID

from fastapi import Request
from fastapi_users.db import BaseUserDatabase
from fastapi_users.manager import BaseUserManager
from fastapi_users.models import ID, UP
from fastapi_users.password import PasswordHelperProtocol

from fastapi_users_knox.errors import StoreUnavailable
from fastapi_users_knox.events import RevokeReason
from fastapi_users_knox.store import TokenRecord
from fastapi_users_knox.strategy import KnoxStrategy

__all__ = ["KnoxUserManagerMixin"]

_REVOKING = {"password", "is_active", "email"}

_is_reset: ContextVar[bool] = ContextVar("_is_reset", default=False)


class KnoxUserManagerMixin(BaseUserManager[UP, ID], Generic[UP, ID]):
    """End a user's tokens when the password or the e-mail address changes, at deactivation and at deletion.

    It stands before FastAPI-Users' own classes: `class UserManager(KnoxUserManagerMixin[User, UUID], UUIDIDMixin,
    BaseUserManager[User, UUID])`. It needs none of the `on_*` hooks, so an application overrides them as it likes.
    Tokens end once the change is stored, those of every audience (ASVS 7.4.2, 7.4.3). A store that is away is found
    out before, and the answer is 503; if it goes away just then, the change stays, and the answer is 503 too.

    Attributes:
        revoke_on_password_reset: Whether a reset of a forgotten password ends all tokens.
        revoke_on_password_change: Whether a change of the password ends all tokens but the presented one.
        revoke_on_email_change: Whether a change of the e-mail address does the same.
        revoke_on_deactivation: Whether `is_active=False` ends all tokens.
        revoke_on_deletion: Whether the deletion of the user ends all tokens.

    Args:
        user_db: As FastAPI-Users has it.
        password_helper: As FastAPI-Users has it.
        knox: The strategy whose tokens are to end, or several: of different stores, or with different listeners.

    Raises:
        TypeError: `knox` is something else, such as a `Depends` object.
    """

    revoke_on_password_reset: ClassVar[bool] = True
    revoke_on_password_change: ClassVar[bool] = True
    revoke_on_email_change: ClassVar[bool] = False
    revoke_on_deactivation: ClassVar[bool] = True
    revoke_on_deletion: ClassVar[bool] = True

    def __init__(
        self,
        user_db: BaseUserDatabase[UP, ID],
        password_helper: PasswordHelperProtocol | None = None,
        *,
        knox: KnoxStrategy[UP, ID] | Iterable[KnoxStrategy[UP, ID]],
    ) -> None:
        """Take the strategies."""
        super().__init__(user_db, password_helper)
        self._strategies = _strategies(knox)

    async def reset_password(self, token: str, password: str, request: Request | None = None) -> UP:
        """Reset a forgotten password, which ends all of the user's tokens.

        Raises:
            StoreUnavailable: The tokens could not be ended, and the password is not reset, unless the store went away
                just then.
        """
        with _resetting():
            return await super().reset_password(token, password, request)

    async def delete(self, user: UP, request: Request | None = None) -> None:
        """Delete a user, which ends all of the user's tokens.

        Raises:
            StoreUnavailable: The tokens could not be ended, and the user is not deleted, unless the store went away
                just then.
        """
        if not self.revoke_on_deletion:
            return await super().delete(user, request)
        # The database may delete the records along with the user: what there was is to be told all the same.
        user_id, seen = user.id, await self._seen(user)
        try:
            await super().delete(user, request)
        finally:
            if await self._is_gone(user_id):
                await self._revoke(user_id, "deleted", seen=seen)

    async def revoke_other_tokens(self, user: UP) -> int:
        """End all of a user's tokens but the presented one, and return how many live ones that were.

        For changes that FastAPI-Users knows nothing of, such as a new second factor (ASVS 7.4.3).

        Raises:
            StoreUnavailable: The tokens could not be ended.
        """
        return await self._revoke(user.id, "logout_others", keep=self._presented(user))

    async def _update(self, user: UP, update_dict: dict[str, Any]) -> UP:
        """Update a user, for `update` and `reset_password` alike, and before any hook runs."""
        is_reset = _is_reset.get()
        _is_reset.set(False)  # What a hook goes on to do is no reset.
        keep = None
        if update_dict.keys() & _REVOKING:
            await self._seen(user)  # A store that is away is found out before anything is changed.
            keep = self._presented(user)
        password, email = user.hashed_password, user.email
        updated = await super()._update(user, update_dict)
        if update_dict.get("is_active") is False and self.revoke_on_deactivation:
            await self._revoke(updated.id, "deactivated")
        elif updated.hashed_password != password and is_reset:
            if self.revoke_on_password_reset:
                await self._revoke(updated.id, "password_reset")
        elif updated.hashed_password != password and self.revoke_on_password_change:
            await self._revoke(updated.id, "password_changed", keep=keep)
        elif updated.email != email and self.revoke_on_email_change:
            await self._revoke(updated.id, "email_changed", keep=keep)
        return updated

    async def _seen(self, user: UP) -> dict[KnoxStrategy[UP, ID], Sequence[TokenRecord[ID]]]:
        return {strategy: await strategy.list_records(user) for strategy in self._strategies}

    async def _is_gone(self, user_id: ID) -> bool:
        """Tell whether the deletion was stored: a hook may have refused it before, or failed after."""
        return await self.user_db.get(user_id) is None

    def _presented(self, user: UP) -> UUID | None:
        """Return the id of the record that authenticated the request, if it is this user's."""
        records = (strategy.presented_record(user) for strategy in self._strategies)
        return next((record.id for record in records if record is not None), None)

    async def _revoke(
        self,
        user_id: ID,
        reason: RevokeReason,
        *,
        keep: UUID | None = None,
        seen: Mapping[KnoxStrategy[UP, ID], Sequence[TokenRecord[ID]]] | None = None,
    ) -> int:
        """End the tokens in every store, each told of by its own audience's strategy, and one store's loss no other's.

        What is of an audience that no strategy here has is ended in the second round.
        """
        told: set[UUID] = set()
        failure: StoreUnavailable | None = None
        own = [(strategy, strategy.settings.audience) for strategy in self._strategies]
        rest = [(strategy, None) for strategy in self._strategies]
        for strategy, audience in (*own, *rest):
            unseen = [] if seen is None else [record for record in seen[strategy] if record.id not in told]
            try:
                ended = await strategy.revoke_all(user_id, reason=reason, audience=audience, keep=keep, seen=unseen)
            except StoreUnavailable as error:
                failure = error
            else:
                told |= {record.id for record in ended}
        if failure is not None:
            raise failure
        return len(told)


def _strategies(knox: object) -> tuple[KnoxStrategy[Any, Any], ...]:
    found = tuple(knox) if isinstance(knox, Iterable) else (knox,)
    if not found or not all(isinstance(strategy, KnoxStrategy) for strategy in found):
        raise TypeError("knox must be a KnoxStrategy, or several")
    return found


@contextmanager
def _resetting() -> Iterator[None]:
    token = _is_reset.set(True)
    try:
        yield
    finally:
        _is_reset.reset(token)
