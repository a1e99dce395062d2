"""What can go wrong, each error at once the HTTP answer that the stock FastAPI-Users routers give for it."""

import logging
from typing import Self

from fastapi import HTTPException, status
from fastapi_users.router.common import ErrorCode

__all__ = [
    "CHALLENGE_INVALID",
    "CredentialsChanged",
    "InvalidToken",
    "KnoxError",
    "LimitUnsupported",
    "StoreUnavailable",
    "TokenLimitReached",
    "UserClassError",
]


CHALLENGE_INVALID = 'Bearer error="invalid_token"'  # RFC 6750 §3.1

_logger = logging.getLogger("fastapi_users_knox")


class KnoxError(Exception):
    """The root of every error of this package."""


class InvalidToken(KnoxError, HTTPException):
    """The text is no live token of this user and audience: 401, without saying which check failed (RFC 6750 §3.1)."""

    def __init__(self) -> None:
        """Answer as RFC 6750 §3 asks."""
        super().__init__(
            status.HTTP_401_UNAUTHORIZED,
            headers={"WWW-Authenticate": CHALLENGE_INVALID},
        )


class CredentialsChanged(KnoxError, HTTPException):
    """The user's password or activity changed between the check and the write of a login: 400, as bad credentials."""

    def __init__(self) -> None:
        """Answer as FastAPI-Users' login route does for bad credentials."""
        super().__init__(status.HTTP_400_BAD_REQUEST, detail=ErrorCode.LOGIN_BAD_CREDENTIALS)


class TokenLimitReached(KnoxError, HTTPException):
    """The user has as many live tokens as the limit allows: 403 `LOGIN_TOKEN_LIMIT_REACHED`.

    Attributes:
        limit: The limit that was reached, in tokens.
    """

    def __init__(self, limit: int) -> None:
        """Remember the limit, and answer 403."""
        super().__init__(status.HTTP_403_FORBIDDEN, detail="LOGIN_TOKEN_LIMIT_REACHED")
        self.limit = limit


class StoreUnavailable(KnoxError, HTTPException):
    """The token store cannot be reached or cannot answer now: 503 `TOKEN_STORE_UNAVAILABLE`, with `Retry-After`."""

    def __init__(self, *, retry_after: int = 5) -> None:
        """Answer 503, asking the client to wait.

        Args:
            retry_after: Seconds (RFC 9110 §10.2.3).
        """
        super().__init__(
            status.HTTP_503_SERVICE_UNAVAILABLE,
            detail="TOKEN_STORE_UNAVAILABLE",
            headers={"Retry-After": str(retry_after)},
        )

    @classmethod
    def because(cls, error: BaseException) -> Self:
        """Log what is wrong with the store, which the answer does not tell, and return the answer."""
        # SQLAlchemy's message has the statement's parameters; that of the driver's own error, `orig`, is enough.
        _logger.error("The token store cannot answer: %r", getattr(error, "orig", None) or error)
        return cls()


class LimitUnsupported(KnoxError):
    """The store cannot keep a limit exact, as its `user_id` is no foreign key to the users on the same database."""


class UserClassError(KnoxError):
    """The mapped class of the users cannot be found, or its ids are of another type than the tokens' `user_id`."""
