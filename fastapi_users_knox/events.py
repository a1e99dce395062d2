"""The events that a strategy publishes after a write. django-rest-knox sends signals instead."""

import inspect
import logging
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Generic, Literal

from fastapi.requests import HTTPConnection

from fastapi_users_knox.errors import Counter
from fastapi_users_knox.records import ID, TokenRecord
from fastapi_users_knox.tokens import find_all

__all__ = [
    "ClientInfo",
    "KnoxEvent",
    "Listener",
    "LoginAction",
    "LoginFailed",
    "LoginThrottled",
    "Publisher",
    "RevokeReason",
    "TokenExpired",
    "TokenIssued",
    "TokenLimitHit",
    "TokenReauthenticated",
    "TokenRefreshed",
    "TokenRevoked",
    "TokenRotated",
    "describe_client",
]

_logger = logging.getLogger("fastapi_users_knox")

RevokeReason = Literal[
    "logout",
    "logout_all",
    "logout_others",
    "session_revoked",
    "admin",
    "password_changed",
    "password_reset",
    "email_changed",
    "deactivated",
    "deleted",
    "evicted",
    "replaced",
]

LoginAction = Literal["login", "reauthentication", "forgot_password", "request_verify"]
"""What a client attempted, without being logged in or in order to prove again who the user is."""

_LENGTHS = {"name": 128, "device_id": 128, "user_agent": 256, "ip_address": 64}


@dataclass(frozen=True, kw_only=True, slots=True)
class ClientInfo:
    """What is known about the client that makes a request. The client can choose all values except its address.

    Attributes:
        name: The name that the client gives itself, cut to 128 characters.
        device_id: The stable identifier that the client uses for its device, cut to 128 characters. A login replaces
            the user's earlier record of the same device.
        user_agent: The `User-Agent`, cut to 256 characters.
        ip_address: The client's address, as the server sees it, cut to 64 characters.
    """

    name: str | None = None
    device_id: str | None = None
    user_agent: str | None = None
    ip_address: str | None = None

    def __post_init__(self) -> None:
        """Remove characters that cannot be printed, and cut each text to its maximum length.

        One of these characters is NUL, which SQL databases refuse. A text that contains a token is dropped, because a
        client may send a token in any header.
        """
        for attribute, length in _LENGTHS.items():
            text = (getattr(self, attribute) or "")[: 4 * length]
            kept = "" if any(find_all(text)) else "".join(filter(str.isprintable, text)).strip()
            object.__setattr__(self, attribute, kept[:length] or None)


@dataclass(frozen=True, kw_only=True)
class KnoxEvent(Generic[ID]):
    """The fields that every event has.

    Attributes:
        user_id: The id of the user whom the token belongs to.
        client: The client that made the request; empty outside of a request.
        request: The request, if there is one. The event's repr does not show it, because its headers may contain the
            token.
    """

    user_id: ID
    client: ClientInfo
    request: HTTPConnection | None = field(default=None, repr=False, compare=False)


@dataclass(frozen=True, kw_only=True)
class _RecordEvent(KnoxEvent[ID]):
    """An event about one record."""

    record: TokenRecord[ID]


@dataclass(frozen=True, kw_only=True)
class TokenIssued(_RecordEvent[ID]):
    """A token was issued. In django-rest-knox: `user_logged_in`."""


@dataclass(frozen=True, kw_only=True)
class TokenRefreshed(_RecordEvent[ID]):
    """A token was refreshed, and now expires at the record's `expires_at`."""


@dataclass(frozen=True, kw_only=True)
class TokenRotated(_RecordEvent[ID]):
    """The text of a token was replaced by a new text."""


@dataclass(frozen=True, kw_only=True)
class TokenReauthenticated(_RecordEvent[ID]):
    """The user of a session proved again who they are (ASVS 16.3.1), and the token got a new text."""


@dataclass(frozen=True, kw_only=True)
class TokenRevoked(_RecordEvent[ID]):
    """A live token was revoked. In django-rest-knox: `user_logged_out`.

    Attributes:
        reason: Why it was revoked.
    """

    reason: RevokeReason


@dataclass(frozen=True, kw_only=True)
class TokenExpired(_RecordEvent[ID]):
    """The record of an expired token was deleted during a login or a read. In django-rest-knox: `token_expired`."""


@dataclass(frozen=True, kw_only=True)
class TokenLimitHit(KnoxEvent[ID]):
    """A login was refused, because the user already has as many live tokens as the limit allows.

    Attributes:
        limit: The number of live tokens that the limit allows.
    """

    limit: int


@dataclass(frozen=True, kw_only=True)
class _AttemptEvent(KnoxEvent[ID | None], Generic[ID]):
    """What was attempted, as `action`. The `user_id` is `None` if the e-mail address that was typed is no user's."""

    action: LoginAction

    def __post_init__(self) -> None:
        """Replace the request by one without a body, because the form contains the password."""
        if self.request is not None:
            object.__setattr__(self, "request", HTTPConnection(self.request.scope))


@dataclass(frozen=True, kw_only=True)
class LoginFailed(_AttemptEvent[ID]):
    """A password was wrong, or the user is unknown or not active (ASVS 16.3.1). Django sends `user_login_failed`."""


@dataclass(frozen=True, kw_only=True)
class LoginThrottled(_AttemptEvent[ID]):
    """An attempt was refused because there were too many. No password was checked and no mail was sent.

    Attributes:
        counter: Which attempts were counted.
        limit: The limit that was exceeded, such as "5 per 1 minute".
        retry_after: The number of seconds until an attempt may be admitted again.
    """

    counter: Counter
    limit: str
    retry_after: int


Listener = Callable[[Any], Awaitable[None] | None]
"""A function, `async` or not, that is called with every event. A listener can choose events by `isinstance`."""


class Publisher:
    """Publish events to the listeners.

    Args:
        listeners: The listeners, called in this order. An error that a listener raises is logged, and has no other
            effect.
        request: The request or WebSocket, if there is one.
        describe_client: A function that returns what an event says about the client.
    """

    def __init__(
        self,
        listeners: Iterable[Listener],
        request: HTTPConnection | None,
        describe_client: Callable[[HTTPConnection], ClientInfo],
    ) -> None:
        self._listeners, self._request = tuple(listeners), request
        self._describe_client = ClientInfo if request is None else partial(describe_client, request)
        self._client: ClientInfo | None = None

    def client(self) -> ClientInfo:
        """Return the description of the client, which is made only once, and is empty outside of a request."""
        if self._client is None:
            try:
                self._client = self._describe_client()
            except Exception:
                _logger.exception("describe_client raised an error, so the client is not described")
                self._client = ClientInfo()
        return self._client

    async def publish(self, event: Callable[..., KnoxEvent[ID]], user_id: ID, **details: object) -> None:
        """Publish an event. If there are no listeners, this costs nothing."""
        if not self._listeners:
            return
        published = event(user_id=user_id, client=self.client(), request=self._request, **details)
        for listener in self._listeners:
            await _call(listener, published)


async def _call(listener: Listener, event: KnoxEvent[ID]) -> None:
    try:
        outcome = listener(event)
        if inspect.isawaitable(outcome):
            await outcome
    except Exception:
        _logger.exception("A listener raised an error when it was called with a %s", type(event).__name__)


def describe_client(request: HTTPConnection) -> ClientInfo:
    """Describe the client by the headers `User-Agent`, `X-Device-Name` and `X-Device-Id`, and by its address.

    Forwarding headers are not trusted. Behind a proxy, configure the server to set the client's address, for example
    with uvicorn's `--forwarded-allow-ips`.
    """
    return ClientInfo(
        name=request.headers.get("X-Device-Name"),
        device_id=request.headers.get("X-Device-Id"),
        user_agent=request.headers.get("User-Agent"),
        ip_address=request.client.host if request.client else None,
    )
