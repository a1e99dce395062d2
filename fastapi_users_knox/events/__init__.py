"""The events about tokens and logins, the publisher, the listener that writes a log, and the description of clients."""

from fastapi_users_knox.events.audit import log_event
from fastapi_users_knox.events.clients import ClientInfo, describe_client
from fastapi_users_knox.events.events import (
    KnoxEvent,
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
)
from fastapi_users_knox.events.publisher import Listener, Publisher

__all__ = [
    "ClientInfo",
    "KnoxEvent",
    "Listener",
    "LoginAction",
    "LoginFailed",
    "LoginThrottled",
    "Publisher",
    "RevokeReason",
    "TokenExpired",
    "TokenIssued",
    "TokenLimitHit",
    "TokenReauthenticated",
    "TokenRefreshed",
    "TokenRevoked",
    "TokenRotated",
    "describe_client",
    "log_event",
]
