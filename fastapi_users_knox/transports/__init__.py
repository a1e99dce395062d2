"""How tokens travel: the transports for a header and a cookie, and the tokens that a request presents."""

from fastapi_users_knox.transports.bearer import KnoxBearerTransport, KnoxLoginResponse
from fastapi_users_knox.transports.cookie import KnoxCookieTransport
from fastapi_users_knox.transports.renewal import KnoxCookieMiddleware

__all__ = ["KnoxBearerTransport", "KnoxCookieMiddleware", "KnoxCookieTransport", "KnoxLoginResponse"]
