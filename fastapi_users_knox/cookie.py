"""How a token travels: the cookie transport."""

import time
from collections.abc import Callable, Sequence
from datetime import timedelta
from typing import Any, Literal

from fastapi import Response, status
from fastapi.requests import HTTPConnection
from fastapi.security import APIKeyCookie
from fastapi_users.authentication import CookieTransport
from fastapi_users.openapi import OpenAPIResponseType

from fastapi_users_knox.challenges import note_transport
from fastapi_users_knox.cookie_rules import check_attributes
from fastapi_users_knox.middleware import note_presented
from fastapi_users_knox.origins import RefusalLog, is_from, is_safe, parse_origin
from fastapi_users_knox.presented import CookieToken, cookie_token
from fastapi_users_knox.store import IssuedToken, TokenRecord
from fastapi_users_knox.transport import CACHING_FORBIDDEN, login_refusals

__all__ = ["KnoxCookieTransport"]

_LONGEST_AGE = timedelta(days=400)  # Browsers keep no cookie for longer (RFC 6265bis §5.5).


class KnoxCookieTransport(CookieTransport):
    """Carry the token in a cookie that lives as long as the token does, and take it from no forged request.

    The cookie's Max-Age is what is left of the token's life at login, at most 400 days; `KnoxCookieMiddleware` moves
    it when the token is refreshed.

    A cookie that comes with an unsafe method or opens a WebSocket counts only if `trusts` says so; else the request is
    treated as one without a cookie.

    Args:
        cookie_name: With the prefix `__Host-`, `__Host-Http-`, `__Http-` or `__Secure-`, browsers hold the cookie to
            the prefix's rules: with the first two no other host can set a cookie of that name for this one, with the
            second and third no script can.
        cookie_path: Below which path browsers send it.
        cookie_domain: To whose subdomains browsers send it too; `None`: to this host alone.
        cookie_secure: Whether browsers send it over HTTPS alone.
        cookie_httponly: Whether it is kept from scripts.
        cookie_samesite: Whether browsers send it along from other sites.
        scheme_name: The security scheme's name in the OpenAPI document.
        trusted_origins: Whose pages may also use the cookie, such as "https://app.example.org".
        csrf_check: Whether to ask `trusts`; `False` only where the application has CSRF tokens of its own.
        partitioned: Whether browsers keep the cookie apart for each site that embeds this one (CHIPS). It makes
            third-party cookies work where browsers block others, and needs `cookie_samesite="none"` for that.
        clock: Returns the time in seconds, from any start; the log of refusals is limited by it.

    Raises:
        ValueError: Browsers would not accept such a cookie, by its name's prefix, `SameSite=None` or `Partitioned`, or
            a trusted origin is not a valid origin.
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
        """Check that browsers would take such a cookie."""
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
        """Tell whether a request is safe, or made by a page of its own or a trusted origin, or by no browser.

        `Sec-Fetch-Site` decides where a browser sends it, else `Origin`. A request with neither is no browser's, or
        that of an old one, which `SameSite` keeps from sending the cookie: with `SameSite=None` it is not trusted.
        """
        unknown = self.cookie_samesite != "none"
        return is_safe(connection) or is_from(connection, self._trusted_origins, unknown=unknown)

    def _accept(self, connection: HTTPConnection, token: str) -> bool:
        """Tell whether the cookie counts, and if so note for the middleware how to set it anew."""
        is_accepted = not self._csrf_check or self.trusts(connection)
        note_transport(connection, scheme=None, presented=is_accepted)
        if not is_accepted:
            self._refusals.warn(connection, self.cookie_name)
            return False
        for text in CookieToken.values(token):
            note_presented(connection, text, cookie_name=self.cookie_name, set_cookie=self._renewed)
        return True

    async def get_login_response(self, token: str) -> Response:
        """Answer with the cookie; the session that it held until now ends, whoever's it was.

        Otherwise a slow request of that session could be answered after the login, renew its cookie, and so put the
        browser back into the session of somebody else.
        """
        response = await super().get_login_response(token)
        if isinstance(token, IssuedToken):
            await token.end_cookie_session(self.cookie_name)
        return response

    def _set_login_cookie(self, response: Response, token: str) -> Response:
        if isinstance(token, IssuedToken):
            left = None if token.expires_in is None else timedelta(seconds=token.expires_in)
            max_age = _max_age(left)
        else:
            max_age = None  # It is another strategy's: it ends with the browser.
        self._set_cookie(response, token, max_age=max_age)
        response.headers.update(CACHING_FORBIDDEN)
        return response

    def _set_logout_cookie(self, response: Response) -> Response:
        self._set_cookie(response, "", max_age=0)
        response.headers.update(CACHING_FORBIDDEN)
        return response

    def _set_cookie(self, response: Response, token: str, *, max_age: int | None) -> None:
        """Add the `Set-Cookie`; all of ours are made here, as browsers match a deletion by its attributes."""
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
        if self.cookie_partitioned:  # Python's own cookies have this attribute from 3.14 on.
            name, value = response.raw_headers.pop()
            response.raw_headers.append((name, value + b"; Partitioned"))

    def _renewed(self, token: str, record: TokenRecord[Any]) -> str:
        """Return the `Set-Cookie` for a token that has just been refreshed, of which this is the record."""
        response = Response()
        left = None if record.expires_at is None else record.expires_at - record.active_at
        self._set_cookie(response, token, max_age=_max_age(left))
        return response.headers["Set-Cookie"]

    @staticmethod
    def get_openapi_login_responses_success() -> OpenAPIResponseType:
        """Document what a login answers: beside success, the limit and the outage."""
        return {status.HTTP_204_NO_CONTENT: {"model": None}, **login_refusals()}


class _CookieScheme(APIKeyCookie):
    """Take the token from the cookie of any connection, if the transport accepts it there."""

    def __init__(self, name: str, scheme_name: str, accept: Callable[[HTTPConnection, str], bool]) -> None:
        super().__init__(name=name, scheme_name=scheme_name, auto_error=False)
        self._accept = accept

    async def __call__(self, request: HTTPConnection) -> str | None:
        token = cookie_token(request, self.model.name)
        return token if token and self._accept(request, token) else None


def _max_age(left: timedelta | None) -> int:
    """Return the Max-Age for what is left of a token's life; `None`: it never ends."""
    return int((_LONGEST_AGE if left is None else min(left, _LONGEST_AGE)).total_seconds())
