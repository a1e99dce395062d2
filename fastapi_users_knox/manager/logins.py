"""Attempts to log in: they are throttled before a password is checked, and failures are published."""

from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from dataclasses import dataclass
from functools import partial
from hashlib import sha256
from typing import Generic, Protocol, runtime_checkable

from fastapi.requests import HTTPConnection
from fastapi_users.exceptions import InvalidID, UserNotExists
from fastapi_users.manager import BaseUserManager
from fastapi_users.models import ID, UP

from fastapi_users_knox.errors import KnownBy, TooManyAttempts
from fastapi_users_knox.events import KnoxEvent, LoginAction, LoginFailed, LoginThrottled
from fastapi_users_knox.manager.known_clients import known_by
from fastapi_users_knox.verbs.context import Context

__all__ = ["Logins", "Throttle", "checked_throttle"]

_SCOPE_KEY = "fastapi_users_knox.admitted"
_MAIL_ROUTES: dict[str | None, LoginAction] = {
    "reset:forgot_password": "forgot_password",
    "verify:request-token": "request_verify",
}
_DECOYS = ("0" * 32, "0" * 24)  # The first is the text of a UUID and of an integer, the second of MongoDB's ObjectId.

_inside: ContextVar[tuple[object, ...]] = ContextVar("_inside", default=())


@runtime_checkable
class Throttle(Protocol):
    """What a user manager needs of `LoginThrottle`, which is imported only by applications that use it."""

    async def admit(
        self, email: str, address: str | None, *, purpose: str, known_by: Callable[[], Awaitable[KnownBy]]
    ) -> None:
        """Count an attempt, or raise `TooManyAttempts`."""
        ...

    async def forget(self, email: str, address: str | None, *, purpose: str) -> None:
        """Reset the counters of an account from one address."""
        ...


def checked_throttle(throttle: object) -> Throttle | None:
    """Return the throttle that an application passes as `throttle=`.

    Raises:
        TypeError: It is something other than a throttle, such as a `Depends` object.
    """
    if throttle is not None and (isinstance(throttle, type) or not isinstance(throttle, Throttle)):
        raise TypeError(f"throttle= must be a LoginThrottle object or None, not {throttle!r}")
    return throttle


@dataclass(frozen=True, kw_only=True)
class _Target(Generic[ID]):
    """The account that an attempt is about. An unknown account has no `user_id`, and is treated like any other."""

    email: str
    user_id: ID | None


@dataclass(frozen=True, kw_only=True)
class Logins(Generic[UP, ID]):
    """The attempts that a request makes to log in.

    Attributes:
        manager: The user manager.
        contexts: The contexts of the manager's strategies. The first one publishes the events.
        throttle: Limits the attempts, if there is a throttle.
    """

    manager: BaseUserManager[UP, ID]
    contexts: Sequence[Context[UP, ID]]
    throttle: Throttle | None

    async def attempt(
        self,
        email: str,
        check: Callable[[], Awaitable[UP | None]],
        action: LoginAction,
        *,
        purpose: str | None = None,
    ) -> UP | None:
        """Check a password, unless there were too many attempts, and publish if it is wrong.

        An attempt inside of another, as when an override calls `super()`, is a part of it.
        """
        if self.manager in _inside.get():
            return await check()
        target, purpose = None, purpose or _purpose(action)
        if self.throttle is not None:
            target = await self._target(email)
            await self._admit(self.throttle, target, action, purpose)
        with self._being_inside():
            user = await check()
        if user is None or not user.is_active:
            await self._publish(LoginFailed, target or await self._target(email), action=action)
        elif self.throttle is not None and target is not None:
            await self.throttle.forget(target.email, self._address, purpose=purpose)
        return user

    async def request_mail(self, user: UP, send: Callable[[], Awaitable[None]], action: LoginAction) -> None:
        """Send a mail to a user, unless there were too many requests for mails."""
        if self.throttle is not None and self.manager not in _inside.get():
            await self._admit_once(self.throttle, _Target(email=user.email, user_id=user.id), action)
        with self._being_inside():
            await send()

    async def find(self, email: str, get_by_email: Callable[[], Awaitable[UP]]) -> UP:
        """Find a user. In the routes that send mails, count the request, whether or not the user exists.

        FastAPI-Users' routes ask for the user before they call the manager's method, and do not call it for an unknown
        address. So only here are all addresses treated alike.
        """
        action = _MAIL_ROUTES.get(getattr(self._connection and self._connection.scope.get("route"), "name", None))
        if self.throttle is None or action is None or self.manager in _inside.get():
            return await get_by_email()
        with self._being_inside():
            user = await _or_none(get_by_email())
        target = _Target[ID](email=email, user_id=None) if user is None else _Target(email=user.email, user_id=user.id)
        await self._admit_once(self.throttle, target, action)
        if user is None:
            raise UserNotExists
        return user

    @property
    def _connection(self) -> HTTPConnection | None:
        return next((context.connection for context in self.contexts if context.connection is not None), None)

    @property
    def _address(self) -> str | None:
        """The client's address, as records have it; if they have none, the address from which the request came."""
        for context in self.contexts:
            address = context.publisher.client().ip_address
            if address is not None:
                return address
        peer = self._connection and self._connection.client
        return peer.host if peer else None

    @contextmanager
    def _being_inside(self) -> Iterator[None]:
        token = _inside.set((*_inside.get(), self.manager))
        try:
            yield
        finally:
            _inside.reset(token)

    async def _target(self, email: str) -> _Target[ID]:
        """Return the account of the e-mail address that was typed."""
        user = await _or_none(self.manager.get_by_email(email))
        if user is None:
            return _Target(email=email, user_id=None)
        return _Target(email=user.email, user_id=user.id)

    async def _admit_once(self, throttle: Throttle, target: _Target[ID], action: LoginAction) -> None:
        """Count a request for a mail, which passes here once when the user is looked up and again when it is sent."""
        connection = self._connection
        is_request = connection is not None and connection.scope["type"] == "http"  # A WebSocket may ask many times.
        admitted: set[str] = connection.scope.setdefault(_SCOPE_KEY, set()) if connection and is_request else set()
        mark = sha256(target.email.encode(errors="surrogatepass")).hexdigest()  # The scope may be logged.
        if mark not in admitted:
            await self._admit(throttle, target, action, _purpose(action))
            admitted.add(mark)

    async def _admit(self, throttle: Throttle, target: _Target[ID], action: LoginAction, purpose: str) -> None:
        recognize = partial(self._known_by, target, action)
        try:
            await throttle.admit(target.email, self._address, purpose=purpose, known_by=recognize)
        except TooManyAttempts as refused:
            details = {"counter": refused.counter, "limit": refused.limit, "retry_after": refused.retry_after}
            await self._publish(LoginThrottled, target, action=action, **details)
            raise

    async def _publish(
        self, event: Callable[..., KnoxEvent[ID | None]], target: _Target[ID], **details: object
    ) -> None:
        await self.contexts[0].publisher.publish(event, target.user_id, **details)

    async def _known_by(self, target: _Target[ID], action: LoginAction) -> KnownBy:
        """Return how the client is known as a client of the user.

        For an unknown account, the same queries are sent with an id that no user has, so that they take the same time.
        """
        if action == "reauthentication":
            # Somebody who knows the password can log in again and again, from many addresses and with many tokens.
            # These addresses and tokens must not give new attempts at a second factor.
            return None
        user_id = self._nobody() if target.user_id is None else target.user_id
        if user_id is None:
            return None
        found = await known_by(self.contexts, user_id, self._address)
        return None if target.user_id is None else found

    def _nobody(self) -> ID | None:
        """Return an id that no user has, of the type that the users' ids have."""
        for text in _DECOYS:
            with suppress(InvalidID, NotImplementedError, ValueError):  # A manager without an id mix-in parses nothing.
                return self.manager.parse_id(text)
        return None


async def _or_none(finding: Awaitable[UP]) -> UP | None:
    try:
        return await finding
    except UserNotExists:
        return None


def _purpose(action: LoginAction) -> str:
    """Return the purpose of an action. Attempts of the same purpose are counted together.

    Failed logins must not prevent a user from resetting the password, and a right password must not reset the counters
    of a second factor.
    """
    return "mail" if action in _MAIL_ROUTES.values() else action
