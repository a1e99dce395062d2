"""The rules by which browsers accept a cookie: for its name, path and domain, and for each prefix of the name."""

import re

from fastapi_users.authentication import CookieTransport

from fastapi_users_knox.transports.challenges import is_http_token

__all__ = ["check_attributes"]

_PATH = re.compile(r"/[ -:<-~]*")  # A path has no control characters and no semicolon (RFC 6265 §4.1.1).
_DOMAIN = re.compile(r"[0-9A-Za-z.-]+")


def check_attributes(transport: CookieTransport, *, is_partitioned: bool) -> None:
    """Raise `ValueError` if no server can set the transport's cookie, or browsers would not accept it."""
    _check_rules(transport, is_partitioned=is_partitioned)
    _check_syntax(transport)


def _check_syntax(transport: CookieTransport) -> None:
    """Raise `ValueError` if `Set-Cookie` cannot contain the cookie's attributes (RFC 6265 §4.1.1)."""
    if not is_http_token(transport.cookie_name):
        raise ValueError(f"cookie_name must be letters, digits and !#$%&'*+.^_`|~-, not {transport.cookie_name!r}")
    if not _PATH.fullmatch(transport.cookie_path):
        raise ValueError(f"cookie_path must begin with / and have no semicolon, not {transport.cookie_path!r}")
    if transport.cookie_domain is not None and not _DOMAIN.fullmatch(transport.cookie_domain):
        raise ValueError(f"cookie_domain must be a host name such as 'example.org', not {transport.cookie_domain!r}")
    if transport.cookie_samesite not in {"lax", "strict", "none"}:
        raise ValueError(f"cookie_samesite must be 'lax', 'strict' or 'none', not {transport.cookie_samesite!r}")


def _check_rules(transport: CookieTransport, *, is_partitioned: bool) -> None:
    """Raise `ValueError` if browsers would not accept the cookie (RFC 6265bis §4.1.3)."""
    name, prefix = transport.cookie_name, transport.cookie_name.lower()
    is_bound_to_host = transport.cookie_path == "/" and transport.cookie_domain is None
    other_name = f"or choose a cookie_name other than {name!r}"
    if prefix.startswith(("__host-", "__secure-", "__http-")) and not transport.cookie_secure:
        raise ValueError(f"a cookie of this name must be secure: pass cookie_secure=True, {other_name}")
    if prefix.startswith("__host-") and not is_bound_to_host:
        raise ValueError(
            f"a __Host- cookie must be secure, have cookie_path='/' and no cookie_domain: pass these, {other_name}"
        )
    if prefix.startswith(("__host-http-", "__http-")) and not transport.cookie_httponly:
        raise ValueError(f"a cookie of this name must be HttpOnly: pass cookie_httponly=True, {other_name}")
    if (transport.cookie_samesite == "none" or is_partitioned) and not transport.cookie_secure:
        raise ValueError("a cookie with SameSite=None or Partitioned must be secure: pass cookie_secure=True")
