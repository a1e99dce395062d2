"""Who has a browser make a request: pages of the application's own origin, or others (CSRF)."""

import logging
import re
from collections.abc import Callable, Collection

from fastapi.requests import HTTPConnection

__all__ = ["RefusalLog", "is_from", "is_safe", "own_origin", "parse_origin"]

_logger = logging.getLogger("fastapi_users_knox")

_SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS", "TRACE"})
_LOG_INTERVAL = 60.0  # seconds
_MOST_LOGGED = 100  # in an interval
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


class RefusalLog:
    """Log cookies that were not accepted: one line for each origin and minute, and at most 100 in a minute.

    Anybody can invent origins, so neither the log nor what is remembered here may grow with them; and what they leave
    unlogged is over with the minute.

    Args:
        clock: Returns the time in seconds, from any start.
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._since = clock()
        self._logged: set[str] = set()
        self._unlogged = 0

    def warn(self, connection: HTTPConnection, cookie_name: str) -> None:
        """Log a refusal: a trusted origin may have been forgotten, or a proxy may hide the scheme."""
        origin = connection.headers.get("Origin", "no origin")[:200]
        unlogged = self._admit(origin)
        if unlogged is not None:
            _logger.warning(
                "The cookie %s was not accepted in a request from %r, which %r does not trust"
                " (refusals not logged since the last such line: %d)",
                cookie_name,
                origin,
                own_origin(connection)[:200],
                unlogged,
            )

    def _admit(self, origin: str) -> int | None:
        """Return how many refusals were not logged since the last that was, or `None` if this one is not to be."""
        now = self._clock()
        if now - self._since >= _LOG_INTERVAL:
            self._since = now
            self._logged.clear()
        if origin in self._logged or len(self._logged) >= _MOST_LOGGED:
            self._unlogged += 1
            return None
        self._logged.add(origin)
        unlogged, self._unlogged = self._unlogged, 0
        return unlogged


def own_origin(connection: HTTPConnection) -> str:
    """Return the origin that a request was sent to, as far as the server knows."""
    scheme = "https" if connection.scope.get("scheme") in {"https", "wss"} else "http"
    return _spelt(f"{scheme}://{connection.headers.get('Host', '')}")


def parse_origin(text: str) -> str:
    """Return an origin as browsers spell it.

    Raises:
        ValueError: It is not a valid origin.
    """
    origin = _spelt(text)
    if not _ORIGIN.fullmatch(origin):
        raise ValueError(f"{text!r} is no origin, such as 'https://app.example.org'")
    return origin


def _spelt(origin: str) -> str:
    """Spell an origin in lower case, without the scheme's usual port (RFC 6454 §6.2)."""
    lower = origin.lower()
    return lower.removesuffix(":443" if lower.startswith("https:") else ":80")
