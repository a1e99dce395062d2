"""What a request presents: tokens in its headers, cookies of one name, and the record that authenticated it."""

from collections.abc import Iterator
from typing import Any, Self
from urllib.parse import unquote

from fastapi.requests import HTTPConnection

from fastapi_users_knox import tokens
from fastapi_users_knox.records import TokenRecord

__all__ = [
    "CookieToken",
    "authenticated_record",
    "cookie_token",
    "cookie_values",
    "is_authenticated_by_scopes",
    "note_authenticated",
    "note_scopes",
    "presented_texts",
]

_SCOPE_KEY = "fastapi_users_knox.authenticated"
_SCOPED_KEY = "fastapi_users_knox.scoped"
_MAX_VALUES = 16  # Each value may cost a read of the store, before the client is authenticated.


class CookieToken(str):
    """The token in a cookie that was sent several times, for example after its path or domain was changed.

    The string itself is the last value that has the shape of a token.

    Attributes:
        others: The earlier values that have the shape of a token, in reverse order.
    """

    __slots__ = ("others",)
    others: tuple[str, ...]

    def __new__(cls, last: str, *others: str) -> Self:
        """Keep the other values as an attribute of the last value."""
        token = super().__new__(cls, last)
        token.others = others
        return token

    def __repr__(self) -> str:
        """Hide the texts, so that no log contains them by accident (ASVS 16.2.5)."""
        return "<CookieToken>"

    @staticmethod
    def values(token: str) -> tuple[str, ...]:
        """Return all values of a `CookieToken`, the last value first; for any other text, only that text."""
        return (token, *token.others) if isinstance(token, CookieToken) else (token,)


def cookie_token(connection: HTTPConnection | None, name: str) -> str | None:
    """Return the token in the cookies of this name. If no value has the shape of a token, return the last value.

    A request does not show which cookie is the newest, because browsers send cookies with a longer path first (RFC 6265
    §5.4). So the last 16 values are kept, and the strategy chooses the newest live session among them.
    """
    values = cookie_values(connection, name)
    if len(values) <= 1:
        return values[0] if values else None
    shaped = list(dict.fromkeys(value for value in reversed(values) if tokens.parse(value)))
    return CookieToken(*shaped[:_MAX_VALUES]) if shaped else values[-1]


def cookie_values(connection: HTTPConnection | None, name: str) -> list[str]:
    """Return the values of the cookies with exactly this name, in the order of the request.

    Starlette's parser is not used, because it also strips Unicode spaces. For a browser, a name that begins with such a
    space does not have the prefix `__Host-`, so a subdomain may set that cookie. Once the space is stripped, that
    cookie would look like the protected cookie.
    """
    lines = [] if connection is None else connection.headers.getlist("cookie")
    chunks = [chunk.partition("=") for line in lines for chunk in line.split(";")]
    return [value.strip(" \t") for key, _, value in chunks if key.strip(" \t") == name]


def presented_texts(connection: HTTPConnection | None) -> Iterator[str]:
    """Find each distinct text with the shape of a token in any header or cookie of a request."""
    headers = [] if connection is None else [value.decode("latin-1") for _, value in connection.headers.raw]
    # Some clients URL-encode what they put into a cookie.
    texts = [text for header in headers for text in (header, unquote(header))]
    return iter(dict.fromkeys(token for text in texts for token in tokens.find_all(text)))


def note_scopes(connection: HTTPConnection | None, record: TokenRecord[Any]) -> None:
    """Note that a token with scopes was accepted in a request, even if it was optional."""
    if connection is not None:
        connection.scope.setdefault(_SCOPED_KEY, set()).add(record.user_id)


def is_authenticated_by_scopes(connection: HTTPConnection | None, user_id: object) -> bool:
    """Return whether a token with scopes of this user was accepted in a request."""
    return connection is not None and user_id in connection.scope.get(_SCOPED_KEY, ())


def note_authenticated(connection: HTTPConnection | None, record: TokenRecord[Any] | None) -> None:
    """Note which record authenticated a request. The last call counts, because the route itself makes it."""
    if connection is not None:
        connection.scope[_SCOPE_KEY] = record


def authenticated_record(connection: HTTPConnection | None) -> TokenRecord[Any] | None:
    """Return the record that authenticated a request; `None` if no token of this package did."""
    return None if connection is None else connection.scope.get(_SCOPE_KEY)
