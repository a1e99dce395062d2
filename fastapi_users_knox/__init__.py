"""Hashed, revocable, opaque tokens for FastAPI-Users: django-rest-knox's semantics as a `Strategy`."""

from fastapi_users_knox.administration import get_knox_admin_router
from fastapi_users_knox.audit import log_event
from fastapi_users_knox.cookie import KnoxCookieTransport
from fastapi_users_knox.dependencies import current_token, unauthorized
from fastapi_users_knox.errors import (
    CredentialsChanged,
    InvalidToken,
    KnoxError,
    LimitUnsupported,
    StoreUnavailable,
    TokenLimitReached,
    UserClassError,
)
from fastapi_users_knox.events import (
    ClientInfo,
    KnoxEvent,
    Listener,
    RevokeReason,
    TokenExpired,
    TokenIssued,
    TokenLimitHit,
    TokenRefreshed,
    TokenRevoked,
    TokenRotated,
    describe_client,
)
from fastapi_users_knox.manager import KnoxUserManagerMixin
from fastapi_users_knox.middleware import KnoxCookieMiddleware
from fastapi_users_knox.router import get_knox_router
from fastapi_users_knox.schemas import SessionRead
from fastapi_users_knox.settings import KnoxSettings
from fastapi_users_knox.store import (
    Added,
    Credentials,
    Found,
    IssuedToken,
    LimitPolicy,
    TokenRecord,
    TokenStore,
)
from fastapi_users_knox.strategy import KnoxStrategy
from fastapi_users_knox.transport import KnoxBearerTransport, KnoxLoginResponse

__all__ = [
    "Added",
    "ClientInfo",
    "Credentials",
    "CredentialsChanged",
    "Found",
    "InvalidToken",
    "IssuedToken",
    "KnoxBearerTransport",
    "KnoxCookieMiddleware",
    "KnoxCookieTransport",
    "KnoxError",
    "KnoxEvent",
    "KnoxLoginResponse",
    "KnoxSettings",
    "KnoxStrategy",
    "KnoxUserManagerMixin",
    "LimitPolicy",
    "LimitUnsupported",
    "Listener",
    "RevokeReason",
    "SessionRead",
    "StoreUnavailable",
    "TokenExpired",
    "TokenIssued",
    "TokenLimitHit",
    "TokenLimitReached",
    "TokenRecord",
    "TokenRefreshed",
    "TokenRevoked",
    "TokenRotated",
    "TokenStore",
    "UserClassError",
    "current_token",
    "describe_client",
    "get_knox_admin_router",
    "get_knox_router",
    "log_event",
    "unauthorized",
]

__version__ = "0.1.0"
