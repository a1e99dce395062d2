"""The check that a request was made by a page of the application's own origin or a trusted origin (CSRF)."""

import logging
import re
from collections.abc import Callable, Collection

from fastapi.requests import HTTPConnection

__all__ = ["RefusalLog", "is_from", "is_safe", "own_origin", "parse_origin"]

_logger = logging.getLogger("fastapi_users_knox")

_SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS", "TRACE"})
_LOG_INTERVAL = 60.0  # seconds
_MAX_LOGGED = 100  # in an interval
_ORIGIN = re.compile(r"[a-z][a-z0-9+.-]*://[^\s/?#@*,]+")


def is_safe(connection: HTTPConnection) -> bool:
    """Return whether a request has a safe method (RFC 9110 §9.2.1). Opening a WebSocket is not safe."""
    return connection.scope.get("method") in _SAFE_METHODS


def is_from(connection: HTTPConnection, origins: Collection[str], *, unknown: bool) -> bool:
    """Return whether a request was made by a page of its own origin, by a page of these origins, or by the user.

    Args:
        connection: The request or WebSocket.
        origins: The origins that are accepted in addition to the request's own, as `parse_origin` returns them.
        unknown: The answer for a request that has neither `Sec-Fetch-Site` nor `Origin`, as programs and old browsers
            send it.
    """
    origin, site = connection.headers.get("Origin"), connection.headers.get("Sec-Fetch-Site")
    if origin is not None and _normalized(origin) in origins:
        return True
    if site is not None:
        return site in {"same-origin", "none"}
    if origin is None:
        return unknown
    return _normalized(origin) == own_origin(connection)


class RefusalLog:
    """Log refusals of cookies: at most one line for each origin and minute, and at most 100 lines a minute.

    Anybody can invent origins, so neither the log nor the memory used here may grow with the number of origins.

    Args:
        clock: A function that returns the time in seconds since any fixed moment.
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._since = clock()
        self._logged: set[str] = set()
        self._unlogged = 0

    def warn(self, connection: HTTPConnection, cookie_name: str) -> None:
        """Log a refusal. Perhaps a trusted origin is missing, or a proxy hides the scheme."""
        origin = connection.headers.get("Origin", "no origin")[:200]
        unlogged = self._count_unlogged(origin)
        if unlogged is not None:
            _logger.warning(
                "Ignored the cookie %s of a request from %r to %r: add the origin to trusted_origins if it is yours"
                " (refusals left out since the last such line: %d)",
                cookie_name,
                origin,
                own_origin(connection)[:200],
                unlogged,
            )

    def _count_unlogged(self, origin: str) -> int | None:
        """Return how many refusals were not logged since the last line; `None` if this refusal is not logged either."""
        now = self._clock()
        if now - self._since >= _LOG_INTERVAL:
            self._since = now
            self._logged.clear()
        if origin in self._logged or len(self._logged) >= _MAX_LOGGED:
            self._unlogged += 1
            return None
        self._logged.add(origin)
        unlogged, self._unlogged = self._unlogged, 0
        return unlogged


def own_origin(connection: HTTPConnection) -> str:
    """Return the origin that a request was sent to, from the server's scheme and the `Host` header."""
    scheme = "https" if connection.scope.get("scheme") in {"https", "wss"} else "http"
    return _normalized(f"{scheme}://{connection.headers.get('Host', '')}")


def parse_origin(text: str) -> str:
    """Return an origin in the form in which browsers send it.

    Raises:
        ValueError: The text is not a valid origin.
    """
    origin = _normalized(text)
    if not _ORIGIN.fullmatch(origin):
        raise ValueError(f"{text!r} is not a valid origin, such as 'https://app.example.org'")
    return origin


def _normalized(origin: str) -> str:
    """Return an origin in lower case, without the default port of its scheme (RFC 6454 §6.2)."""
    lower = origin.lower()
    return lower.removesuffix(":443" if lower.startswith("https:") else ":80")
