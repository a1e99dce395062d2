"""The cookie transport: it carries the token in a cookie, and ignores the cookie of a forged request."""

import time
from collections.abc import Callable, Sequence
from datetime import timedelta
from typing import Any, Literal

from fastapi import Response, status
from fastapi.requests import HTTPConnection
from fastapi.security import APIKeyCookie
from fastapi_users.authentication import CookieTransport
from fastapi_users.openapi import OpenAPIResponseType

from fastapi_users_knox.records import IssuedToken, TokenRecord
from fastapi_users_knox.transports.challenges import note_transport
from fastapi_users_knox.transports.cookie_rules import check_attributes
from fastapi_users_knox.transports.origins import RefusalLog, is_from, is_safe, parse_origin
from fastapi_users_knox.transports.presented import CookieToken, cookie_token
from fastapi_users_knox.transports.renewal import note_presented
from fastapi_users_knox.transports.responses import CACHING_FORBIDDEN, login_refusals

__all__ = ["KnoxCookieTransport"]

_MAX_AGE = timedelta(days=400)  # Browsers keep no cookie for longer (RFC 6265bis §5.5).


class KnoxCookieTransport(CookieTransport):
    """Carry the token in a cookie that expires with the token, and ignore the cookie of a forged request.

    The cookie's Max-Age at login is the time until the token expires, at most 400 days. When the token is refreshed,
    `KnoxCookieMiddleware` sets the cookie again.

    The cookie is accepted only if `trusts` returns `True`, which it does for every request with a safe method. If
    `trusts` returns `False`, the request is treated as if it had no cookie.

    Args:
        cookie_name: The name of the cookie. Browsers enforce the rules of the prefixes `__Host-`, `__Host-Http-`,
            `__Http-` and `__Secure-`. All four require HTTPS. With `__Host-` or `__Host-Http-`, no other host can set a
            cookie of this name for this host. With `__Http-` or `__Host-Http-`, no script can set the cookie.
        cookie_path: Browsers send the cookie with requests below this path.
        cookie_domain: Browsers send the cookie to this domain and all its subdomains; `None` means only to this host.
        cookie_secure: Whether browsers send the cookie over HTTPS only.
        cookie_httponly: Whether scripts cannot read the cookie.
        cookie_samesite: Whether browsers send the cookie with requests that other sites cause.
        scheme_name: The name of the security scheme in the OpenAPI document.
        trusted_origins: Further origins whose pages may use the cookie, such as "https://app.example.org".
        csrf_check: Whether `trusts` is called. Pass `False` only if the application uses its own CSRF tokens.
        partitioned: Whether browsers keep a separate cookie for each site that embeds this one (CHIPS). If
            `cookie_samesite` is also "none", the cookie works inside other sites even if the browser blocks third-party
            cookies.
        clock: A function that returns the time in seconds since any fixed moment. The clock limits the log of refusals.

    Raises:
        ValueError: Browsers would not accept the cookie, because of its name's prefix, `SameSite=None` or
            `Partitioned`; or a trusted origin is not a valid origin.
    """

    scheme: APIKeyCookie

    def __init__(
        self,
        cookie_name: str = "__Host-knox",
        *,
        cookie_path: str = "/",
        cookie_domain: str | None = None,
        cookie_secure: bool = True,
        cookie_httponly: bool = True,
        cookie_samesite: Literal["lax", "strict", "none"] = "lax",
        scheme_name: str = "KnoxCookie",
        trusted_origins: Sequence[str] = (),
        csrf_check: bool = True,
        partitioned: bool = False,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Check that browsers accept a cookie with these attributes."""
        super().__init__(
            cookie_name=cookie_name,
            cookie_path=cookie_path,
            cookie_domain=cookie_domain,
            cookie_secure=cookie_secure,
            cookie_httponly=cookie_httponly,
            cookie_samesite=cookie_samesite,
        )
        self.cookie_partitioned = partitioned
        check_attributes(self, is_partitioned=partitioned)
        self.scheme = _CookieScheme(cookie_name, scheme_name, self._accept)
        self._csrf_check = csrf_check
        self._trusted_origins = frozenset(map(parse_origin, trusted_origins))
        self._refusals = RefusalLog(clock)

    def trusts(self, connection: HTTPConnection) -> bool:
        """Return whether a request has a safe method, or was made by a trusted page, by the user or by a program.

        A page is trusted if its origin is the application's own or one of `trusted_origins`. If the header `Origin` is
        not one of `trusted_origins`, the header `Sec-Fetch-Site` decides; if the browser does not send that header,
        `Origin` decides. A request with neither header comes from a program or an old browser, and is trusted unless
        the cookie has `SameSite=None`. Any other `SameSite` keeps an old browser from sending the cookie in a forged
        request.
        """
        unknown = self.cookie_samesite != "none"
        return is_safe(connection) or is_from(connection, self._trusted_origins, unknown=unknown)

    def _accept(self, connection: HTTPConnection, token: str) -> bool:
        """Return whether the cookie is accepted, and note for the middleware how to set an accepted cookie again."""
        is_accepted = not self._csrf_check or self.trusts(connection)
        note_transport(connection, scheme=None, presented=is_accepted)
        if not is_accepted:
            self._refusals.warn(connection, self.cookie_name)
            return False
        for text in CookieToken.values(token):
            note_presented(connection, text, cookie_name=self.cookie_name, set_cookie=self._renewed)
        return True

    async def get_login_response(self, token: str) -> Response:
        """Return the answer that sets the cookie, and revoke the session of the cookie that the answer overwrites.

        The session is revoked even if it belongs to another user. Otherwise a slow request of the old session could be
        answered after the login and renew the old cookie, which would switch the browser back to the old session.
        """
        response = await super().get_login_response(token)
        if isinstance(token, IssuedToken):
            await token.revoke_cookie_session(self.cookie_name)
        return response

    def _set_login_cookie(self, response: Response, token: str) -> Response:
        max_age = None  # If another strategy has issued the token, the cookie lasts until the browser is closed.
        if isinstance(token, IssuedToken):
            left = None if token.expires_in is None else timedelta(seconds=token.expires_in)
            max_age = _max_age(token.record, left)
        self._set_cookie(response, token, max_age=max_age)
        response.headers.update(CACHING_FORBIDDEN)
        return response

    def _set_logout_cookie(self, response: Response) -> Response:
        self._set_cookie(response, "", max_age=0)
        response.headers.update(CACHING_FORBIDDEN)
        return response

    def _set_cookie(self, response: Response, token: str, *, max_age: int | None) -> None:
        """Add a `Set-Cookie`. Every cookie is set and deleted here, because both need the same attributes."""
        response.set_cookie(
            self.cookie_name,
            token,
            max_age=max_age,
            path=self.cookie_path,
            domain=self.cookie_domain,
            secure=self.cookie_secure,
            httponly=self.cookie_httponly,
            samesite=self.cookie_samesite,
        )
        if self.cookie_partitioned:  # `http.cookies` has this attribute only since Python 3.14.
            name, value = response.raw_headers.pop()
            response.raw_headers.append((name, value + b"; Partitioned"))

    def _renewed(self, token: str, record: TokenRecord[Any]) -> str:
        """Return the `Set-Cookie` for a token that has just been refreshed."""
        response = Response()
        left = None if record.expires_at is None else record.expires_at - record.active_at
        self._set_cookie(response, token, max_age=_max_age(record, left))
        return response.headers["Set-Cookie"]

    @staticmethod
    def get_openapi_login_responses_success() -> OpenAPIResponseType:
        """Document the answers to a login: success, a reached limit, and an unavailable store."""
        return {status.HTTP_204_NO_CONTENT: {"model": None}, **login_refusals()}


class _CookieScheme(APIKeyCookie):
    """Read the token from the cookie of a request or WebSocket, if the transport accepts the cookie there."""

    def __init__(self, name: str, scheme_name: str, accept: Callable[[HTTPConnection, str], bool]) -> None:
        super().__init__(name=name, scheme_name=scheme_name, auto_error=False)
        self._accept = accept

    async def __call__(self, request: HTTPConnection) -> str | None:
        token = cookie_token(request, self.model.name)
        return token if token and self._accept(request, token) else None


def _max_age(record: TokenRecord[Any], left: timedelta | None) -> int | None:
    """Return the Max-Age of a cookie; `None` if the browser deletes the cookie when it is closed.

    Args:
        record: The record of the token in the cookie.
        left: The time until the token expires; `None` if it never expires.
    """
    if record.browser_session:
        return None
    return int((_MAX_AGE if left is None else min(left, _MAX_AGE)).total_seconds())
