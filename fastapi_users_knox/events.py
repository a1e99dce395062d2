"""What happened to a token, told after it was written to whoever listens: knox's signals."""

import inspect
import logging
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Generic, Literal

from fastapi.requests import HTTPConnection
from fastapi_users.models import ID

from fastapi_users_knox.store import TokenRecord
from fastapi_users_knox.tokens import find_all

__all__ = [
    "ClientInfo",
    "KnoxEvent",
    "Listener",
    "Publisher",
    "RevokeReason",
    "TokenExpired",
    "TokenIssued",
    "TokenLimitHit",
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

_LENGTHS = {"name": 128, "device_id": 128, "user_agent": 256, "ip_address": 64}


@dataclass(frozen=True, kw_only=True, slots=True)
class ClientInfo:
    """What is known of the client that makes a request; all of it is the client's word, but for the address.

    Attributes:
        name: What the client calls itself, cut to 128 characters.
        device_id: Its own stable name of the device, cut to 128: a login from it replaces that device's record.
        user_agent: Its `User-Agent`, cut to 256.
        ip_address: Its address, as the server sees it, cut to 64.
    """

    name: str | None = None
    device_id: str | None = None
    user_agent: str | None = None
    ip_address: str | None = None

    def __post_init__(self) -> None:
        """Cut each text, leave out what cannot be printed (a NUL, which SQL refuses), and keep what a record holds.

        A text that holds a token is left out altogether: a client may send one in any header.
        """
        for attribute, length in _LENGTHS.items():
            text = (getattr(self, attribute) or "")[: 4 * length]
            kept = "" if any(find_all(text)) else "".join(filter(str.isprintable, text)).strip()
            object.__setattr__(self, attribute, kept[:length] or None)


@dataclass(frozen=True, kw_only=True)
class KnoxEvent(Generic[ID]):
    """What every event tells.

    Attributes:
        user_id: Whose token it is.
        client: Who made the request; empty outside of requests.
        request: The request, if there is one; out of the repr, as its headers may hold the token.
    """

    user_id: ID
    client: ClientInfo
    request: HTTPConnection | None = field(default=None, repr=False, compare=False)


@dataclass(frozen=True, kw_only=True)
class _RecordEvent(KnoxEvent[ID]):
    """What happened to one record."""

    record: TokenRecord[ID]


@dataclass(frozen=True, kw_only=True)
class TokenIssued(_RecordEvent[ID]):
    """A token was issued: knox's `user_logged_in`."""


@dataclass(frozen=True, kw_only=True)
class TokenRefreshed(_RecordEvent[ID]):
    """The expiry of a token moved forward, to the record's `expires_at`."""


@dataclass(frozen=True, kw_only=True)
class TokenRotated(_RecordEvent[ID]):
    """The text of a token was replaced by a new one."""


@dataclass(frozen=True, kw_only=True)
class TokenRevoked(_RecordEvent[ID]):
    """A live token was ended: knox's `user_logged_out`.

    Attributes:
        reason: By what.
    """

    reason: RevokeReason


@dataclass(frozen=True, kw_only=True)
class TokenExpired(_RecordEvent[ID]):
    """An expired token's record was deleted, as it was presented or its user logged in: knox's `token_expired`."""


@dataclass(frozen=True, kw_only=True)
class TokenLimitHit(KnoxEvent[ID]):
    """A login was refused, as the user has as many live tokens as the limit allows.

    Attributes:
        limit: The limit, in tokens.
    """

    limit: int


Listener = Callable[[Any], Awaitable[None] | None]
"""A function, `async` or not, that is called with every event; it picks what it wants by `isinstance`."""


class Publisher:
    """Tells the listeners what happened in one request, or outside of any.

    Args:
        listeners: Called in turn; one that raises is logged, and changes nothing.
        request: The request or WebSocket, if there is one.
        describe_client: What is told of the client.
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
        """Describe the client, once; nothing is known of it outside of requests."""
        if self._client is None:
            self._client = self._describe_client()
        return self._client

    async def publish(self, event: Callable[..., KnoxEvent[ID]], user_id: ID, **details: object) -> None:
        """Make the event and tell it; without listeners it costs nothing."""
        if not self._listeners:
            return
        try:
            client = self.client()
        except Exception:
            _logger.exception("The client could not be described")
            client = self._client = ClientInfo()
        told = event(user_id=user_id, client=client, request=self._request, **details)
        for listener in self._listeners:
            await _call(listener, told)


async def _call(listener: Listener, told: KnoxEvent[ID]) -> None:
    try:
        outcome = listener(told)
        if inspect.isawaitable(outcome):
            await outcome
    except Exception:
        _logger.exception("A listener failed at %s", type(told).__name__)


def describe_client(request: HTTPConnection) -> ClientInfo:
    """Describe the client by `User-Agent`, `X-Device-Name`, `X-Device-Id` and the address of the connection.

    No forwarding header is trusted: behind a proxy, let the server set the address (uvicorn's
    `--forwarded-allow-ips`).
    """
    return ClientInfo(
        name=request.headers.get("X-Device-Name"),
        device_id=request.headers.get("X-Device-Id"),
        user_agent=request.headers.get("User-Agent"),
        ip_address=request.client.host if request.client else None,
    )
