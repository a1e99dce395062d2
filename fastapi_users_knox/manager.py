"""A user manager that revokes tokens when what they were issued for changes: the password, the activity, the user."""

from collections.abc import Callable, Collection, Coroutine, Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from functools import partial, wraps
from typing import Any, ClassVar, Generic, overload

from fastapi import Request
from fastapi_users.db import BaseUserDatabase
from fastapi_users.manager import BaseUserManager
from fastapi_users.models import ID, UP
from fastapi_users.password import PasswordHelperProtocol

from fastapi_users_knox.changes import Changes, revoke_for_deletion
from fastapi_users_knox.events import RevokeReason
from fastapi_users_knox.revocation import Revocation, strategies_of
from fastapi_users_knox.shielding import run_to_the_end
from fastapi_users_knox.strategy import KnoxStrategy

__all__ = ["KnoxUserManagerMixin"]

_is_reset: ContextVar[bool] = ContextVar("_is_reset", default=False)

_Method = Callable[..., Coroutine[Any, Any, None]]


class KnoxUserManagerMixin(BaseUserManager[UP, ID], Generic[UP, ID]):
    """Revoke a user's tokens when the password or the e-mail address changes, at deactivation and at deletion.

    List it before FastAPI-Users' own classes: `class UserManager(KnoxUserManagerMixin[User, UUID], UUIDIDMixin,
    BaseUserManager[User, UUID])`. It needs none of the `on_*` hooks, so an application overrides them as it likes, and
    `delete` too, with a soft deletion for example.

    Tokens of every audience are revoked once the change is stored (ASVS 7.4.2, 7.4.3), before any hook that follows it.
    Neither an error nor a cancellation in between stops that; what the database refused revokes nothing. If a store is
    unavailable before the change, nothing is changed and the answer is 503. If it fails after the change, the log has
    an error with the user's id and the reason, and the answer is 503 too.

    Attributes:
        revoke_on_password_reset: Whether a reset of a forgotten password revokes all tokens.
        revoke_on_password_change: Whether a change of the password revokes all tokens but the presented one.
        revoke_on_email_change: Whether a change of the e-mail address does the same.
        revoke_on_deactivation: Whether an update by which `is_active` becomes false revokes all tokens.
        revoke_on_deletion: Whether the deletion of the user revokes all tokens.

    Args:
        args: `user_db` and `password_helper` as in FastAPI-Users, and what the application's own base class takes.
        knox: The strategy whose tokens are to be revoked, or several: of different stores, or with different listeners.
        kwargs: The same as `args`, by name.

    Raises:
        TypeError: `knox` is missing, or something else, such as a `Depends` object.
    """

    revoke_on_password_reset: ClassVar[bool] = True
    revoke_on_password_change: ClassVar[bool] = True
    revoke_on_email_change: ClassVar[bool] = False
    revoke_on_deactivation: ClassVar[bool] = True
    revoke_on_deletion: ClassVar[bool] = True

    @overload
    def __init__(
        self,
        user_db: BaseUserDatabase[UP, ID],
        password_helper: PasswordHelperProtocol | None = None,
        *,
        knox: KnoxStrategy[UP, ID] | Iterable[KnoxStrategy[UP, ID]],
    ) -> None: ...

    @overload
    def __init__(
        self,
        user_db: BaseUserDatabase[UP, ID],
        *args: Any,  # noqa: ANN401 (the application's own base class has their types)
        knox: KnoxStrategy[UP, ID] | Iterable[KnoxStrategy[UP, ID]],
        **kwargs: Any,  # noqa: ANN401
    ) -> None: ...

    def __init__(self, *args: Any, knox: object = None, **kwargs: Any) -> None:
        """Take the strategies, and pass on the rest as it came."""
        self._knox = strategies_of(knox)
        super().__init__(*args, **kwargs)

    def __init_subclass__(cls, **kwargs: Any) -> None:  # noqa: ANN401 (the next class has their types)
        """Guard `delete` in whichever class it is defined, as an override may delete in a way of its own."""
        super().__init_subclass__(**kwargs)
        for name, guarded in {"delete": _guarded_delete, "on_after_delete": _guarded_hook}.items():
            owner = next(base for base in cls.__mro__ if name in vars(base))
            if owner is cls or not issubclass(owner, KnoxUserManagerMixin):  # Others are guarded already.
                setattr(cls, name, guarded(vars(owner)[name]))

    async def reset_password(self, token: str, password: str, request: Request | None = None) -> UP:
        """Reset a forgotten password, which revokes all of the user's tokens.

        Raises:
            StoreUnavailable: The tokens could not be revoked. The password is not reset, unless the store failed just
                after that.
        """
        with _resetting():
            return await super().reset_password(token, password, request)

    async def revoke_other_tokens(self, user: UP) -> int:
        """Revoke all of a user's tokens but the presented one, and return how many were live.

        For changes that FastAPI-Users knows nothing of, such as a new second factor (ASVS 7.4.3).

        Raises:
            StoreUnavailable: The tokens could not be revoked.
        """
        revocation = self._revocation
        keep = revocation.presented(user)
        return await run_to_the_end(revocation.revoke(user.id, "logout_others", keep=keep))

    async def _update(self, user: UP, update_dict: dict[str, Any]) -> UP:
        """Update a user, for `update` and `reset_password` alike, and before any hook runs."""
        is_reset = _is_reset.get()
        _is_reset.set(False)  # What a hook goes on to do is no reset.
        update = partial(super()._update, user, update_dict)
        reason = partial(self._reason, is_reset=is_reset)
        return await self._changes.update(user, update, update_dict=update_dict, reason=reason)

    async def _delete(self, user: UP, delete: Callable[[], Coroutine[Any, Any, None]]) -> None:
        """Call an implementation of `delete`."""
        await (self._changes.delete(user, delete) if self.revoke_on_deletion else delete())

    @property
    def _revocation(self) -> Revocation[UP, ID]:
        # An `__init__` of the application's own may have called none of ours.
        return Revocation(self._knox if hasattr(self, "_knox") else strategies_of(None))

    @property
    def _changes(self) -> Changes[UP, ID]:
        return Changes(self.user_db, self._revocation, self)

    def _reason(self, fields: Collection[str], *, is_reset: bool) -> RevokeReason | None:
        """Return why a change of these fields revokes tokens."""
        if "is_active" in fields and self.revoke_on_deactivation:
            return "deactivated"
        if "hashed_password" in fields and is_reset:
            return "password_reset" if self.revoke_on_password_reset else None
        if "hashed_password" in fields and self.revoke_on_password_change:
            return "password_changed"
        return "email_changed" if "email" in fields and self.revoke_on_email_change else None


def _guarded_delete(delete: _Method) -> _Method:
    """Revoke the tokens once an implementation of `delete` has returned, or has stored something before it raised."""

    @wraps(delete)
    async def guarded(self: KnoxUserManagerMixin[UP, ID], user: UP, *args: object, **kwargs: object) -> None:
        await self._delete(user, partial(delete, self, user, *args, **kwargs))

    return guarded


def _guarded_hook(on_after_delete: _Method) -> _Method:
    """Revoke the tokens before the hook runs: it may fail, and the user's id may be given to somebody else."""

    @wraps(on_after_delete)
    async def guarded(self: KnoxUserManagerMixin[UP, ID], user: UP, *args: object, **kwargs: object) -> None:
        await revoke_for_deletion(self, user)
        await on_after_delete(self, user, *args, **kwargs)

    return guarded


@contextmanager
def _resetting() -> Iterator[None]:
    token = _is_reset.set(True)
    try:
        yield
    finally:
        _is_reset.reset(token)
