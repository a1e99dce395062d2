"""`WWW-Authenticate`: the scheme that a refusal names (RFC 9110 §11.6.1), and the error code (RFC 6750 §3.1)."""

import re
from collections.abc import Collection, Mapping
from datetime import timedelta

from fastapi.requests import HTTPConnection
from fastapi.security.utils import get_authorization_scheme_param

from fastapi_users_knox.errors import InsufficientScope, InvalidToken, ReauthenticationRequired, spell_challenge
from fastapi_users_knox.tokens import find_all

__all__ = [
    "challenge_for",
    "credentials",
    "insufficient_scope",
    "invalid_token",
    "is_http_token",
    "note_transport",
    "reauthentication_required",
]

_SCOPE_KEY = "fastapi_users_knox.transports"
_TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")


def note_transport(connection: HTTPConnection, *, scheme: str | None, presented: bool) -> None:
    """Note that a transport looked for a token, so that a refusal of this request names the right scheme.

    The note is kept in the connection's scope, where an exception handler finds it too. The note does not contain the
    token.

    Args:
        connection: The request or WebSocket.
        scheme: The scheme before the token in `Authorization`; `None` if the token comes from elsewhere, such as a
            cookie.
        presented: Whether there was a token, valid or not.
    """
    noted: dict[str | None, bool] = connection.scope.setdefault(_SCOPE_KEY, {})
    noted[scheme] = presented or noted.get(scheme, False)


def challenge_for(connection: HTTPConnection | None, *, error: str | None = None, **parameters: object) -> str:
    """Return the value of `WWW-Authenticate` for the refusal of a request (RFC 9110 §11.6.1, RFC 6750 §3).

    The value names the scheme with which a token was presented. If no token was presented, the value names the schemes
    of all transports that looked for one. A cookie has no scheme of its own. So for a cookie, the value names the
    schemes of the header transports that looked for a token, or "Bearer" if none did.

    Args:
        connection: The request or WebSocket; `None` if there is none.
        error: The error code of RFC 6750. `None` means "invalid_token" if a token was presented, and no error code
            otherwise (§3.1).
        parameters: Further parameters of the challenge, such as `scope`. Those that are `None` are left out.
    """
    noted: dict[str | None, bool] = {} if connection is None else connection.scope.get(_SCOPE_KEY, {})
    schemes = [scheme for scheme in noted if scheme] or ["Bearer"]
    presented = [scheme for scheme in schemes if noted.get(scheme)]
    if error is None and connection is not None and (any(noted.values()) or _is_presented_elsewhere(connection, noted)):
        error = "invalid_token"
    return ", ".join(spell_challenge(scheme, error=error, **parameters) for scheme in presented or schemes)


def invalid_token(connection: HTTPConnection | None) -> InvalidToken:
    """Return the exception that refuses a token presented with this request."""
    return InvalidToken(challenge_for(connection, error="invalid_token"))


def insufficient_scope(connection: HTTPConnection | None, scopes: Collection[str]) -> InsufficientScope:
    """Return the exception that refuses a token without the scopes that a route needs (RFC 6750 §3.1)."""
    needed = " ".join(sorted(scopes))
    return InsufficientScope(scopes, challenge=challenge_for(connection, error="insufficient_scope", scope=needed))


def reauthentication_required(connection: HTTPConnection | None, within: timedelta) -> ReauthenticationRequired:
    """Return the exception that refuses a user who authenticated too long ago (RFC 9470 §3)."""
    challenge = challenge_for(
        connection,
        error="insufficient_user_authentication",
        error_description="The login is too long ago; authenticate again",
        max_age=int(within.total_seconds()),
    )
    return ReauthenticationRequired(challenge)


def credentials(connection: HTTPConnection, scheme: str) -> str | None:
    """Return the credentials that `Authorization` has for a scheme. The scheme is case-insensitive (RFC 9110 §11.1)."""
    presented, text = get_authorization_scheme_param(connection.headers.get("Authorization"))
    return text if presented.lower() == scheme.lower() else None


def is_http_token(text: str) -> bool:
    """Return whether a text can name a scheme or a cookie, which must be a `token` of HTTP (RFC 9110 §5.6.2)."""
    return _TOKEN.fullmatch(text) is not None


def _is_presented_elsewhere(connection: HTTPConnection, noted: Mapping[str | None, bool]) -> bool:
    """Return whether a token came through a transport of another package, which does not call `note_transport`."""
    if None in noted:
        return False  # The cookie was presented, but was refused because another site made the request.
    if not noted and credentials(connection, "Bearer"):
        return True
    headers = [*connection.headers.getlist("Authorization"), *connection.headers.getlist("Cookie")]
    return any(any(find_all(header)) for header in headers)
