"""The user manager's mix-in: it overrides the methods that change or delete a user, and revokes the tokens."""

from collections.abc import Awaitable, Callable, Collection, Coroutine, Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from functools import partial, wraps
from typing import Any, ClassVar, Generic, overload

from fastapi import Request
from fastapi_users.db import BaseUserDatabase
from fastapi_users.manager import BaseUserManager
from fastapi_users.models import ID, UP
from fastapi_users.password import PasswordHelperProtocol

from fastapi_users_knox.events import LoginAction, RevokeReason
from fastapi_users_knox.manager.account import Account
from fastapi_users_knox.manager.deletion import delete_user, revoke_before_hook
from fastapi_users_knox.manager.guards import LOGIN_GUARDS
from fastapi_users_knox.manager.logins import Logins, Throttle, checked_throttle
from fastapi_users_knox.manager.revocation import Revocation, strategies_of
from fastapi_users_knox.manager.update import update_user
from fastapi_users_knox.shielding import run_to_the_end
from fastapi_users_knox.strategy import KnoxStrategy

__all__ = ["KnoxUserManagerMixin"]

_is_reset: ContextVar[bool] = ContextVar("_is_reset", default=False)

_Method = Callable[..., Coroutine[Any, Any, None]]


class KnoxUserManagerMixin(BaseUserManager[UP, ID], Generic[UP, ID]):
    """Revoke a user's tokens when the password or e-mail address changes and when the user is deactivated or deleted.

    List the mix-in before FastAPI-Users' own classes: `class UserManager(KnoxUserManagerMixin[User, UUID], UUIDIDMixin,
    BaseUserManager[User, UUID])`. An application may override all `on_*` hooks, and also `delete`, for example with a
    soft deletion.

    Once the change is stored, tokens of every audience are revoked (ASVS 7.4.2, 7.4.3), before FastAPI-Users calls its
    next hook. Neither an error nor a cancellation after the change prevents the revocation. If the database refuses the
    change, nothing is revoked. If a token store is unavailable before the change, nothing is changed, and the answer is
    503. If a token store fails after the change, the answer is also 503, and an error with the user's id and the reason
    is logged.

    Attributes:
        revoke_on_password_reset: Whether the reset of a forgotten password revokes all tokens.
        revoke_on_password_change: Whether a change of the password revokes all tokens except the presented token.
        revoke_api_tokens_on_password_change: Whether a change or reset of the password also revokes the API tokens,
            which are the tokens with scopes.
        revoke_on_email_change: Whether a change of the e-mail address revokes all tokens except the presented token.
        revoke_on_deactivation: Whether an update that sets `is_active` to false revokes all tokens.
        revoke_on_deletion: Whether the deletion of the user revokes all tokens.

    Args:
        args: `user_db` and `password_helper` as in FastAPI-Users, and the arguments of the application's own base
            class.
        knox: The strategy whose tokens are revoked. If the application has several strategies with different stores or
            listeners, pass all of them. The listeners of the first one receive `LoginFailed` and `LoginThrottled`.
        throttle: A `LoginThrottle`, which limits the attempts to log in. It stands before `authenticate`,
            `forgot_password` and `request_verify`, even if the application overrides them.
        kwargs: The same arguments as `args`, passed by name.

    Raises:
        TypeError: `knox` is missing, or contains something other than strategies, such as a `Depends` object; or
            `throttle` is not a throttle.
    """

    revoke_on_password_reset: ClassVar[bool] = True
    revoke_on_password_change: ClassVar[bool] = True
    revoke_api_tokens_on_password_change: ClassVar[bool] = True
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
        throttle: Throttle | None = None,
    ) -> None: ...

    @overload
    def __init__(
        self,
        user_db: BaseUserDatabase[UP, ID],
        *args: Any,  # noqa: ANN401 (the application's own base class has their types)
        knox: KnoxStrategy[UP, ID] | Iterable[KnoxStrategy[UP, ID]],
        throttle: Throttle | None = None,
        **kwargs: Any,  # noqa: ANN401
    ) -> None: ...

    def __init__(self, *args: Any, knox: object = None, throttle: object = None, **kwargs: Any) -> None:
        """Store the strategies and the throttle, and pass all other arguments to the next class."""
        self._knox, self._throttle = strategies_of(knox), checked_throttle(throttle)
        super().__init__(*args, **kwargs)

    def __init_subclass__(cls, **kwargs: Any) -> None:  # noqa: ANN401 (the next class has their types)
        """Wrap some methods in each class that defines them, because an override need not call `super()`."""
        super().__init_subclass__(**kwargs)
        deletion = {"delete": _guarded_delete, "on_after_delete": _guarded_hook}
        for name, guarded in {**deletion, **LOGIN_GUARDS}.items():
            owner = next(base for base in cls.__mro__ if name in vars(base))
            if owner is cls or not issubclass(owner, KnoxUserManagerMixin):  # All others are wrapped already.
                setattr(cls, name, guarded(vars(owner)[name]))

    async def reset_password(self, token: str, password: str, request: Request | None = None) -> UP:
        """Reset a forgotten password, which revokes all of the user's tokens.

        Raises:
            StoreUnavailable: The tokens could not be revoked. If the store failed before the reset, the password is
                unchanged.
        """
        with _resetting():
            return await super().reset_password(token, password, request)

    async def attempt_login(
        self,
        email: str,
        check: Callable[[], Awaitable[UP | None]],
        *,
        action: LoginAction = "login",
        purpose: str | None = None,
    ) -> UP | None:
        """Check a password or another proof of an account's user, unless there were too many attempts.

        `authenticate` already does this. Call it in a route that checks a proof in another way, such as the code of a
        second factor.

        Args:
            email: The e-mail address of the account.
            check: Returns the user if the proof is right, else `None`.
            action: What the events report.
            purpose: What is counted together, by default the action. If you check several proofs with the same action,
                give each its own purpose. Otherwise, whoever knows one of them resets the counters of the others.

        Raises:
            TooManyAttempts: There were too many attempts. `check` was not called.
            ThrottleUnavailable: The storage of the throttle is unavailable, and its `fail_open` is false.
        """
        return await self._logins.attempt(email, check, action, purpose=purpose)

    async def revoke_other_tokens(self, user: UP) -> int:
        """Revoke all of a user's tokens except the presented token, and return how many were live.

        Call this method after changes that FastAPI-Users does not know about, such as a new second factor (ASVS 7.4.3).

        Raises:
            StoreUnavailable: The tokens could not be revoked.
        """
        revocation = self._revocation
        keep = revocation.presented(user)
        return await run_to_the_end(revocation.revoke(user.id, "logout_others", keep=keep))

    async def _update(self, user: UP, update_dict: dict[str, Any]) -> UP:
        """Update a user. Both `update` and `reset_password` call this method, before they call any hook."""
        is_reset = _is_reset.get()
        _is_reset.set(False)  # If a hook updates the user later, that is not part of the reset.
        update = partial(super()._update, user, update_dict)
        reason = partial(self._reason, is_reset=is_reset)
        keep_scoped = not self.revoke_api_tokens_on_password_change
        return await update_user(
            self._knox_account, user, update, update_dict=update_dict, reason=reason, keep_scoped=keep_scoped
        )

    async def _delete(self, user: UP, delete: Callable[[], Coroutine[Any, Any, None]]) -> None:
        """Call an implementation of `delete`, and revoke the tokens if `revoke_on_deletion` is true."""
        await (delete_user(self._knox_account, user, delete) if self.revoke_on_deletion else delete())

    @property
    def _revocation(self) -> Revocation[UP, ID]:
        # The attribute is missing if the application's own `__init__` has not called the mix-in's `__init__`.
        return Revocation(self._knox if hasattr(self, "_knox") else strategies_of(None))

    @property
    def _logins(self) -> Logins[UP, ID]:
        contexts = [strategy._context for strategy in self._revocation.strategies]  # noqa: SLF001 (of this package)
        return Logins(manager=self, contexts=contexts, throttle=self._throttle)

    @property
    def _knox_account(self) -> Account[UP, ID]:
        return Account(user_db=self.user_db, revocation=self._revocation, manager=self)

    def _reason(self, fields: Collection[str], *, is_reset: bool) -> RevokeReason | None:
        """Return why a change of these fields revokes tokens; `None` if it revokes no token."""
        if "is_active" in fields and self.revoke_on_deactivation:
            return "deactivated"
        if "hashed_password" in fields and is_reset:
            return "password_reset" if self.revoke_on_password_reset else None
        if "hashed_password" in fields and self.revoke_on_password_change:
            return "password_changed"
        return "email_changed" if "email" in fields and self.revoke_on_email_change else None


def _guarded_delete(delete: _Method) -> _Method:
    """Make an implementation of `delete` revoke the tokens, even if it raises an error after the deletion is stored."""

    @wraps(delete)
    async def guarded(self: KnoxUserManagerMixin[UP, ID], user: UP, *args: object, **kwargs: object) -> None:
        await self._delete(user, partial(delete, self, user, *args, **kwargs))

    return guarded


def _guarded_hook(on_after_delete: _Method) -> _Method:
    """Revoke the tokens before the hook runs, because the hook may fail and the id may soon belong to a new user."""

    @wraps(on_after_delete)
    async def guarded(self: KnoxUserManagerMixin[UP, ID], user: UP, *args: object, **kwargs: object) -> None:
        await revoke_before_hook(self, user)
        await on_after_delete(self, user, *args, **kwargs)

    return guarded


@contextmanager
def _resetting() -> Iterator[None]:
    token = _is_reset.set(True)
    try:
        yield
    finally:
        _is_reset.reset(token)
