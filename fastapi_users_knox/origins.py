"""Who has a browser make a request: pages of the application's own origin, or others (CSRF)."""

import re
from collections.abc import Collection

from fastapi.requests import HTTPConnection

__all__ = ["is_from", "is_safe", "own_origin", "parse_origin"]

_SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS", "TRACE"})
_ORIGIN = re.compile(r"[a-z][a-z0-9+.-]*://[^\s/?#@*,]+")


def is_safe(connection: HTTPConnection) -> bool:
    """Tell whether a request is one that changes nothing (RFC 9110 §9.2.1); the opening of a WebSocket is none."""
    return connection.scope.get("method") in _SAFE_METHODS


def is_from(connection: HTTPConnection, origins: Collection[str], *, unknown: bool) -> bool:
    """Tell whether a page of the request's own origin made it, or one of these, or the user by hand.

    Args:
        connection: The request or WebSocket.
        origins: Which other origins are as good, as `parse_origin` returns them.
        unknown: What to say of a request with neither `Sec-Fetch-Site` nor `Origin`: of programs, and old browsers.
    """
    origin, site = connection.headers.get("Origin"), connection.headers.get("Sec-Fetch-Site")
    if origin is not None and _spelt(origin) in origins:
        return True
    if site is not None:
        return site in {"same-origin", "none"}
    if origin is None:
        return unknown
    return _spelt(origin) == own_origin(connection)


def own_origin(connection: HTTPConnection) -> str:
    """Return the origin that a request was sent to, as far as the server knows."""
    scheme = "https" if connection.scope.get("scheme") in {"https", "wss"} else "http"
    return _spelt(f"{scheme}://{connection.headers.get('Host', '')}")


def parse_origin(text: str) -> str:
    """Return an origin as browsers spell it.

    Raises:
        ValueError: It is none.
    """
    origin = _spelt(text)
    if not _ORIGIN.fullmatch(origin):
        raise ValueError(f"{text!r} is no origin, such as 'https://app.example.org'")
    return origin


def _spelt(origin: str) -> str:
    """Spell an origin in lower case, without the scheme's usual port (RFC 6454 §6.2)."""
    lower = origin.lower()
    return lower.removesuffix(":443" if lower.startswith("https:") else ":80")
