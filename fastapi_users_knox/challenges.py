"""`WWW-Authenticate`: which scheme a refusal names (RFC 9110 §11.6.1), and whether it has an error (RFC 6750 §3.1)."""

from collections.abc import Mapping

from fastapi.requests import HTTPConnection
from fastapi.security.utils import get_authorization_scheme_param

from fastapi_users_knox.errors import InvalidToken, spell_challenge
from fastapi_users_knox.tokens import find_all

__all__ = ["challenge_for", "credentials", "invalid_token", "note_transport"]

_TRANSPORTS = "fastapi_users_knox.transports"


def note_transport(connection: HTTPConnection, *, scheme: str | None, presented: bool) -> None:
    """Note that a transport has looked for a token, so that a refusal of this request names the right scheme.

    The note is in the connection's scope, where the handler of an error finds it too. It holds no token.

    Args:
        connection: The request or WebSocket.
        scheme: What stands before the token in `Authorization`; `None`: it is taken from elsewhere, such as a cookie.
        presented: Whether there was a token, good or bad.
    """
    noted: dict[str | None, bool] = connection.scope.setdefault(_TRANSPORTS, {})
    noted[scheme] = presented or noted.get(scheme, False)


def challenge_for(
    connection: HTTPConnection | None, *, error: str | None = None, description: str | None = None
) -> str:
    """Return what `WWW-Authenticate` holds in the refusal of a request (RFC 9110 §11.6.1, RFC 6750 §3).

    It names the scheme under which a token was presented, else that of every transport which looked for one. Cookies
    have no scheme of their own: where a transport by header has looked too, theirs is its scheme, else it is "Bearer".

    Args:
        connection: The request or WebSocket; `None`: there is none.
        error: RFC 6750's code; `None`: "invalid_token" if a token was presented, and else no error (§3.1).
        description: For the client's developer.
    """
    noted: dict[str | None, bool] = {} if connection is None else connection.scope.get(_TRANSPORTS, {})
    schemes = [scheme for scheme in noted if scheme] or ["Bearer"]
    presented = [scheme for scheme in schemes if noted.get(scheme)]
    if error is None and connection is not None and (any(noted.values()) or _is_presented_elsewhere(connection, noted)):
        error = "invalid_token"
    return ", ".join(spell_challenge(scheme, error=error, description=description) for scheme in presented or schemes)


def invalid_token(connection: HTTPConnection | None, *, description: str | None = None) -> InvalidToken:
    """Return the refusal of a token that was presented with this request."""
    return InvalidToken(challenge_for(connection, error="invalid_token", description=description))


def credentials(connection: HTTPConnection, scheme: str) -> str | None:
    """Return what stands behind a scheme in the `Authorization` header, the scheme in any case (RFC 9110 §11.1)."""
    presented, text = get_authorization_scheme_param(connection.headers.get("Authorization"))
    return text if presented.lower() == scheme.lower() else None


def _is_presented_elsewhere(connection: HTTPConnection, noted: Mapping[str | None, bool]) -> bool:
    """Return whether a token came by a transport that is not ours, and so notes nothing."""
    if None in noted:
        return False  # A cookie of ours was looked at, and refused as from another site.
    if not noted and credentials(connection, "Bearer"):
        return True
    headers = [*connection.headers.getlist("Authorization"), *connection.headers.getlist("Cookie")]
    return any(any(find_all(header)) for header in headers)
