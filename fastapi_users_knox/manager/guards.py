"""Wrappers for the methods of user managers by which somebody who is not logged in proves or asks something."""

from collections.abc import Callable, Coroutine
from functools import partial, wraps
from typing import Any, Protocol

from fastapi.security import OAuth2PasswordRequestForm

from fastapi_users_knox.events import LoginAction
from fastapi_users_knox.manager.logins import Logins

__all__ = ["LOGIN_GUARDS"]

_Method = Callable[..., Coroutine[Any, Any, Any]]


class _Manager(Protocol):
    """The part of `KnoxUserManagerMixin` that the wrappers use."""

    @property
    def _logins(self) -> Logins[Any, Any]: ...


def _guarded_authenticate(authenticate: _Method) -> _Method:
    """Throttle an implementation of `authenticate`, and publish its failures."""

    @wraps(authenticate)
    async def guarded(self: _Manager, credentials: OAuth2PasswordRequestForm, *args: object, **kwargs: object) -> Any:  # noqa: ANN401 (a user)
        check = partial(authenticate, self, credentials, *args, **kwargs)
        return await self._logins.attempt(credentials.username, check, "login")

    return guarded


def _guarded_get_by_email(get_by_email: _Method) -> _Method:
    """Throttle the routes that send mails, also for addresses of nobody."""

    @wraps(get_by_email)
    async def guarded(self: _Manager, user_email: str, *args: object, **kwargs: object) -> Any:  # noqa: ANN401 (a user)
        return await self._logins.find(user_email, partial(get_by_email, self, user_email, *args, **kwargs))

    return guarded


def _guarded_mail(action: LoginAction, send: _Method) -> _Method:
    """Throttle an implementation of `forgot_password` or `request_verify`."""

    @wraps(send)
    async def guarded(self: _Manager, user: Any, *args: object, **kwargs: object) -> None:  # noqa: ANN401 (a user)
        await self._logins.request_mail(user, partial(send, self, user, *args, **kwargs), action)

    return guarded


LOGIN_GUARDS: dict[str, Callable[[_Method], _Method]] = {
    "authenticate": _guarded_authenticate,
    "get_by_email": _guarded_get_by_email,
    "forgot_password": partial(_guarded_mail, "forgot_password"),
    "request_verify": partial(_guarded_mail, "request_verify"),
}
"""The wrapper of each method by its name."""
