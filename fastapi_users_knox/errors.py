"""What can go wrong, each error at once the HTTP answer that the stock FastAPI-Users routers give for it."""

import logging
import re
from typing import Self

from fastapi import HTTPException, status
from fastapi_users.router.common import ErrorCode

__all__ = [
    "CredentialsChanged",
    "InvalidToken",
    "KnoxError",
    "LimitUnsupported",
    "StoreUnavailable",
    "TokenLimitReached",
    "UserClassError",
    "describe",
    "spell_challenge",
]

_logger = logging.getLogger("fastapi_users_knox")

# What a message quotes of a row or a parameter: a token or a digest, which is a long run of characters, escaped bytes
# or a bytes literal; and the values that MariaDB names in the first line, as others do only after it.
_DATA = re.compile(r"""[0-9A-Za-z+/_=-]{32,}|\\|\bb['"]|Duplicate entry""")


def spell_challenge(scheme: str = "Bearer", *, error: str | None = None, description: str | None = None) -> str:
    """Spell one challenge of `WWW-Authenticate` (RFC 9110 §11.6.1), with the parameters of RFC 6750 §3."""
    parameters = {"error": error, "error_description": description}
    spelt = ", ".join(f'{name}="{value}"' for name, value in parameters.items() if value is not None)
    return f"{scheme} {spelt}".rstrip()


def describe(error: BaseException) -> str:
    """Describe a driver's error for a log: its class and what it says, but no value that was sent to the store.

    SQLAlchemy's message and a traceback show the statement's parameters, which hold digests and user agents; drivers
    add lines that quote a row. So a message is cut to its first line, and left out where it may hold data.
    """
    cause: BaseException = getattr(error, "orig", None) or error
    first_line = next(iter(str(cause).splitlines()), "")
    quotes_value = any(kind.__name__ == "DataError" for kind in type(cause).__mro__)
    message = "its message may hold data, and is left out" if quotes_value or _DATA.search(first_line) else first_line
    return f"{type(cause).__name__}: {message}" if message else type(cause).__name__


class KnoxError(Exception):
    """The root of every error of this package."""


class InvalidToken(KnoxError, HTTPException):
    """The text is no live token of this user and audience: 401, without saying which check failed (RFC 6750 §3.1)."""

    def __init__(self, challenge: str | None = None) -> None:
        """Answer as RFC 6750 §3 asks.

        Args:
            challenge: What `WWW-Authenticate` holds; `None`: as for a bearer token.
        """
        super().__init__(
            status.HTTP_401_UNAUTHORIZED,
            headers={"WWW-Authenticate": challenge or spell_challenge(error="invalid_token")},
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
        """Log what is wrong with the store, which the answer does not say, and return the answer.

        Raise the answer `from None`: a traceback that shows the error shows the parameters of its statement, too.
        """
        _logger.error("The token store cannot answer: %s", describe(error))
        return cls()


class LimitUnsupported(KnoxError):
    """The store cannot keep a limit exact, as its `user_id` is no foreign key to the users on the same database."""


class UserClassError(KnoxError):
    """The mapped class of the users cannot be found, or its ids are of another type than the tokens' `user_id`."""
