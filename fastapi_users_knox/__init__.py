"""Hashed, revocable, opaque tokens for FastAPI-Users: django-rest-knox's semantics as a `Strategy`."""

from fastapi_users_knox.audit import log_event
from fastapi_users_knox.errors import (
    CredentialsChanged,
    InsufficientScope,
    InvalidToken,
    KnoxError,
    LimitUnsupported,
    ReauthenticationRequired,
    StoreUnavailable,
    ThrottleUnavailable,
    TokenLimitReached,
    TooManyAttempts,
    UserClassError,
)
from fastapi_users_knox.events import (
    ClientInfo,
    KnoxEvent,
    Listener,
    LoginAction,
    LoginFailed,
    LoginThrottled,
    RevokeReason,
    TokenExpired,
    TokenIssued,
    TokenLimitHit,
    TokenReauthenticated,
    TokenRefreshed,
    TokenRevoked,
    TokenRotated,
    describe_client,
)
from fastapi_users_knox.issued_token import IssuedToken
from fastapi_users_knox.login_options import GetLoginOptions, LoginOptions
from fastapi_users_knox.manager import KnoxUserManagerMixin
from fastapi_users_knox.records import Added, Credentials, Found, LimitPolicy, Proof, Roll, TokenRecord, UserSource
from fastapi_users_knox.routers import (
    ApiTokenCreated,
    ApiTokenRead,
    SessionRead,
    current_token,
    get_api_token_router,
    get_knox_admin_router,
    get_knox_router,
    knox_strategy,
    unauthorized_handler,
)
from fastapi_users_knox.settings import ApiTokenSettings, KnoxSettings
from fastapi_users_knox.store import TokenStore
from fastapi_users_knox.strategy import KnoxStrategy
from fastapi_users_knox.tokens import PresentedToken
from fastapi_users_knox.transports import (
    KnoxBearerTransport,
    KnoxCookieMiddleware,
    KnoxCookieTransport,
    KnoxLoginResponse,
)

__all__ = [
    "Added",
    "ApiTokenCreated",
    "ApiTokenRead",
    "ApiTokenSettings",
    "ClientInfo",
    "Credentials",
    "CredentialsChanged",
    "Found",
    "GetLoginOptions",
    "InsufficientScope",
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
    "LoginAction",
    "LoginFailed",
    "LoginOptions",
    "LoginThrottled",
    "PresentedToken",
    "Proof",
    "ReauthenticationRequired",
    "RevokeReason",
    "Roll",
    "SessionRead",
    "StoreUnavailable",
    "ThrottleUnavailable",
    "TokenExpired",
    "TokenIssued",
    "TokenLimitHit",
    "TokenLimitReached",
    "TokenReauthenticated",
    "TokenRecord",
    "TokenRefreshed",
    "TokenRevoked",
    "TokenRotated",
    "TokenStore",
    "TooManyAttempts",
    "UserClassError",
    "UserSource",
    "current_token",
    "describe_client",
    "get_api_token_router",
    "get_knox_admin_router",
    "get_knox_router",
    "knox_strategy",
    "log_event",
    "unauthorized_handler",
]

__version__ = "0.1.0"
