"""The events that a strategy publishes after a write. django-rest-knox sends signals instead."""

from dataclasses import dataclass, field
from typing import Generic, Literal

from fastapi.requests import HTTPConnection

from fastapi_users_knox.errors import Counter
from fastapi_users_knox.events.clients import ClientInfo
from fastapi_users_knox.records import ID, TokenRecord

__all__ = [
    "KnoxEvent",
    "LoginAction",
    "LoginFailed",
    "LoginThrottled",
    "RevokeReason",
    "TokenExpired",
    "TokenIssued",
    "TokenLimitHit",
    "TokenReauthenticated",
    "TokenRefreshed",
    "TokenRevoked",
    "TokenRotated",
]

RevokeReason = Literal[
    "logout",
    "logout_all",
    "logout_others",
    "session_revoked",
    "admin",
    "password_changed",
    "password_reset",
    "email_changed",
    "deactivated",
    "deleted",
    "evicted",
    "replaced",
]

LoginAction = Literal["login", "reauthentication", "forgot_password", "request_verify"]
"""What a client attempted: a login, a re-authentication, or a request for a mail."""


@dataclass(frozen=True, kw_only=True)
class KnoxEvent(Generic[ID]):
    """The fields that every event has.

    Attributes:
        user_id: The id of the user whom the token belongs to.
        client: The client that made the request; empty outside of a request.
        request: The request, if there is one. The event's repr does not show it, because its headers may contain the
            token.
    """

    user_id: ID
    client: ClientInfo
    request: HTTPConnection | None = field(default=None, repr=False, compare=False)


@dataclass(frozen=True, kw_only=True)
class _RecordEvent(KnoxEvent[ID]):
    """An event about one record."""

    record: TokenRecord[ID]


@dataclass(frozen=True, kw_only=True)
class TokenIssued(_RecordEvent[ID]):
    """A token was issued. In django-rest-knox: `user_logged_in`."""


@dataclass(frozen=True, kw_only=True)
class TokenRefreshed(_RecordEvent[ID]):
    """A token was refreshed, and now expires at the record's `expires_at`."""


@dataclass(frozen=True, kw_only=True)
class TokenRotated(_RecordEvent[ID]):
    """The text of a token was replaced by a new text."""


@dataclass(frozen=True, kw_only=True)
class TokenReauthenticated(_RecordEvent[ID]):
    """The user of a session proved again who they are (ASVS 16.3.1), and the text of the token was replaced."""


@dataclass(frozen=True, kw_only=True)
class TokenRevoked(_RecordEvent[ID]):
    """A live token was revoked. In django-rest-knox: `user_logged_out`.

    Attributes:
        reason: Why it was revoked.
    """

    reason: RevokeReason


@dataclass(frozen=True, kw_only=True)
class TokenExpired(_RecordEvent[ID]):
    """The record of an expired token was deleted during a login or a read. In django-rest-knox: `token_expired`."""


@dataclass(frozen=True, kw_only=True)
class TokenLimitHit(KnoxEvent[ID]):
    """A login was refused, because the user already has as many live tokens as the limit allows.

    Attributes:
        limit: The number of live tokens that the limit allows.
    """

    limit: int


@dataclass(frozen=True, kw_only=True)
class _AttemptEvent(KnoxEvent[ID | None], Generic[ID]):
    """An attempt; `action` is its kind. `user_id` is `None` if no user has the e-mail address that was typed."""

    action: LoginAction

    def __post_init__(self) -> None:
        """Replace the request by one without a body, because the form contains the password."""
        if self.request is not None:
            object.__setattr__(self, "request", HTTPConnection(self.request.scope))


@dataclass(frozen=True, kw_only=True)
class LoginFailed(_AttemptEvent[ID]):
    """A password was wrong, or the user is unknown or not active (ASVS 16.3.1). Django sends `user_login_failed`."""


@dataclass(frozen=True, kw_only=True)
class LoginThrottled(_AttemptEvent[ID]):
    """An attempt was refused because there were too many. No password was checked and no mail was sent.

    Attributes:
        counter: Which attempts were counted.
        limit: The limit that was exceeded, such as "5 per 1 minute".
        retry_after: The number of seconds until an attempt may be admitted again.
    """

    counter: Counter
    limit: str
    retry_after: int
