"""Renewing a cookie when its token is refreshed: the middleware, and the notes that it finds in the request's scope."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

from fastapi.requests import HTTPConnection
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from fastapi_users_knox.records import TokenRecord

__all__ = ["KnoxCookieMiddleware", "note_invalidated", "note_presented", "note_refreshed"]

_SCOPE_KEY = "fastapi_users_knox"
_STARTS = frozenset({"http.response.start", "websocket.accept", "websocket.http.response.start"})
# Headers whose names end like this may let caches store an answer. `CDN-Cache-Control` and similar headers outrank
# `Cache-Control` (RFC 9213 §2.2).
_CACHING = (b"cache-control", b"surrogate-control")


@dataclass(frozen=True, kw_only=True)
class _Presented:
    """A cookie that came with the request.

    Attributes:
        cookie_name: The name of the cookie.
        token: The text of the token in the cookie.
        set_cookie: A function that returns the `Set-Cookie` for a token and its record.
    """

    cookie_name: str
    token: str = field(repr=False)
    set_cookie: Callable[[str, TokenRecord[Any]], str]


@dataclass(kw_only=True)
class _Notes:
    """What the middleware learns during a request: the cookies, and the records and texts of refreshed tokens."""

    presented: list[_Presented] = field(default_factory=list)
    refreshed: dict[UUID, tuple[TokenRecord[Any], str]] = field(default_factory=dict, repr=False)

    def set_cookies(self) -> dict[bytes, bytes]:
        """Return the `Set-Cookie` of each cookie whose token was refreshed, with the cookie's name as the key."""
        return {
            cookie.cookie_name.encode("latin-1"): cookie.set_cookie(token, record).encode("latin-1")
            for record, token in self.refreshed.values()
            for cookie in self.presented
            if cookie.token == token
        }


def note_presented(
    connection: HTTPConnection, token: str, *, cookie_name: str, set_cookie: Callable[[str, TokenRecord[Any]], str]
) -> None:
    """Note that a cookie contained a token, and how to set the cookie again."""
    notes = _notes(connection)
    if notes is not None:
        notes.presented.append(_Presented(cookie_name=cookie_name, token=token, set_cookie=set_cookie))


def note_refreshed(connection: HTTPConnection | None, token: str, *, record: TokenRecord[Any]) -> None:
    """Note that a token was refreshed, and that its record contains the new expiry."""
    notes = _notes(connection)
    if notes is not None:
        notes.refreshed[record.id] = record, token


def note_invalidated(connection: HTTPConnection | None, *records: TokenRecord[Any]) -> None:
    """Note that the tokens of these records are not valid any more, so that no cookie is renewed for them."""
    notes = _notes(connection)
    if notes is not None:
        for record in records:
            notes.refreshed.pop(record.id, None)


def _notes(connection: HTTPConnection | None) -> _Notes | None:
    return None if connection is None else connection.scope.get(_SCOPE_KEY)


class KnoxCookieMiddleware:
    """Renew the cookie when its token is refreshed: `app.add_middleware(KnoxCookieMiddleware)`.

    The middleware adds the presented cookie with its new Max-Age to any kind of response, and forbids caches to store
    that response. The middleware adds nothing if the response itself sets that cookie, or if the token was revoked or
    rotated in the same request. The middleware learns of a refresh only from strategies that were made with `request=`.
    """

    def __init__(self, app: ASGIApp) -> None:
        """Wrap an ASGI application."""
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve a connection, and add renewed cookies to the start of the answer."""
        if scope["type"] not in {"http", "websocket"}:
            await self._app(scope, receive, send)
            return
        # Other middlewares may copy the scope, but each copy contains the same notes.
        notes: _Notes = scope.setdefault(_SCOPE_KEY, _Notes())

        async def send_renewed(message: Message) -> None:
            await send(_renewed(message, notes) if message["type"] in _STARTS and notes.refreshed else message)

        await self._app(scope, receive, send_renewed)


def _renewed(message: Message, notes: _Notes) -> Message:
    """Return the start of an answer with the cookies added.

    The message is copied, because an application may send the same response object, with the same list of headers, to
    several users.
    """
    headers = [(bytes(name).lower(), bytes(value)) for name, value in message.get("headers", ())]
    names = {value.partition(b"=")[0].strip() for name, value in headers if name == b"set-cookie"}
    cookies = [(b"set-cookie", value) for name, value in notes.set_cookies().items() if name not in names]
    if not cookies:
        return message
    kept = [(name, value) for name, value in headers if not name.endswith(_CACHING)]
    return {**message, "headers": [*kept, (b"cache-control", b"private, no-store"), *cookies]}
