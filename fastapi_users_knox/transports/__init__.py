"""How tokens travel: in a header or a cookie, and what a request has presented."""

from fastapi_users_knox.transports.bearer import KnoxBearerTransport, KnoxLoginResponse
from fastapi_users_knox.transports.cookie import KnoxCookieTransport
from fastapi_users_knox.transports.renewal import KnoxCookieMiddleware

__all__ = ["KnoxBearerTransport", "KnoxCookieMiddleware", "KnoxCookieTransport", "KnoxLoginResponse"]
