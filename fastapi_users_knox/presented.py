"""What came with a request: tokens in its headers, cookies of one name, and the record that authenticated it."""

from collections.abc import Iterator
from typing import Any, Self
from urllib.parse import unquote

from fastapi.requests import HTTPConnection

from fastapi_users_knox import tokens
from fastapi_users_knox.store import TokenRecord

__all__ = [
    "CookieToken",
    "authenticated_record",
    "candidates",
    "cookie_token",
    "cookie_values",
    "note_authenticated",
    "presented_tokens",
]

_SCOPE_KEY = "fastapi_users_knox.authenticated"
_MOST_CANDIDATES = 16  # Each may cost one read of the store, and comes from a client that nobody has authenticated yet.


class CookieToken(str):
    """The token of a cookie that came several times under one name, as after a change of its path or domain.

    The string itself is the value that came last.

    Attributes:
        others: The other values that have the shape of a token, the last first.
    """

    __slots__ = ("others",)
    others: tuple[str, ...]

    def __new__(cls, last: str, *others: str) -> Self:
        """Keep the other values beside the last one."""
        token = super().__new__(cls, last)
        token.others = others
        return token

    def __repr__(self) -> str:
        """Hide the texts, so that no log holds them by accident (ASVS 16.2.5)."""
        return "<CookieToken>"

    @staticmethod
    def values(token: str) -> tuple[str, ...]:
        """Return all values, the last first; of any other text, itself alone."""
        return (token, *token.others) if isinstance(token, CookieToken) else (token,)


def candidates(text: str | None) -> Iterator[tokens.ParsedToken]:
    """Parse what a transport found: usually one token, or several if one cookie came several times."""
    return filter(None, map(tokens.parse, () if text is None else CookieToken.values(text)))


def cookie_token(connection: HTTPConnection | None, name: str) -> str | None:
    """Return the token in the cookies of this name, or another value if none has the shape of a token.

    Which cookie is the newest, no request says: browsers send those with the longer path first (RFC 6265 §5.4). So
    several values are kept, the last 16, and the newest session among those that are live counts.
    """
    values = cookie_values(connection, name)
    if len(values) <= 1:
        return values[0] if values else None
    shaped = list(dict.fromkeys(value for value in reversed(values) if tokens.parse(value)))
    return CookieToken(*shaped[:_MOST_CANDIDATES]) if shaped else values[-1]


def cookie_values(connection: HTTPConnection | None, name: str) -> list[str]:
    """Return the values of the cookies of exactly this name, in the order in which they came.

    Starlette's parser also strips what Unicode calls a space. A cookie that a subdomain may set, because it has another
    name to browsers, would then pass for one with the prefix `__Host-`.
    """
    lines = [] if connection is None else connection.headers.getlist("cookie")
    chunks = [chunk.partition("=") for line in lines for chunk in line.split(";")]
    return [value.strip(" \t") for key, _, value in chunks if key.strip(" \t") == name]


def presented_tokens(connection: HTTPConnection | None) -> list[str]:
    """Find each distinct text with the shape of a token in any header or cookie of a request."""
    headers = [] if connection is None else [value.decode("latin-1") for _, value in connection.headers.raw]
    # Some clients encode what they put into a cookie by the rules of URLs.
    texts = [text for header in headers for text in (header, unquote(header))]
    return list({token.text: None for text in texts for token in tokens.find_all(text)})


def note_authenticated(connection: HTTPConnection | None, record: TokenRecord[Any] | None) -> None:
    """Note which record authenticated a request: the last one, as an application's own dependencies come first."""
    if connection is not None:
        connection.scope[_SCOPE_KEY] = record


def authenticated_record(connection: HTTPConnection | None) -> TokenRecord[Any] | None:
    """Return the record that authenticated a request, or `None` if something else did, or nothing."""
    return None if connection is None else connection.scope.get(_SCOPE_KEY)
