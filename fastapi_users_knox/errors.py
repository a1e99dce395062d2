"""The errors. An error that a request can cause is also an HTTP exception, so FastAPI answers it in every route."""

import logging
import re
from collections.abc import Callable, Iterable
from functools import partial
from typing import Literal, Self
from uuid import UUID

from fastapi import HTTPException, status

__all__ = [
    "Counter",
    "CredentialsChanged",
    "InsufficientScope",
    "InvalidToken",
    "KnownBy",
    "KnoxError",
    "LimitUnsupported",
    "ReauthenticationRequired",
    "StoreUnavailable",
    "ThrottleUnavailable",
    "TokenLimitReached",
    "TooManyAttempts",
    "UserClassError",
    "describe",
    "spell_challenge",
]

_logger = logging.getLogger("fastapi_users_knox")

Counter = Literal["account_and_address", "address", "account"]
"""Which attempts to log in are counted together."""

KnownBy = Literal["address"] | UUID | None
"""How a client is known: by its address, by a token (the id of the token's record), or not at all (`None`)."""

# Signs that a message quotes a row or a parameter: a long run of characters, which may be a token or a digest; escaped
# bytes; a bytes literal; or MariaDB's message about a duplicate entry, which contains the value in its first line.
_DATA = re.compile(r"""[0-9A-Za-z+/_=-]{32,}|\\|\bb['"]|Duplicate entry""")


def spell_challenge(scheme: str = "Bearer", **parameters: object) -> str:
    """Return one challenge of `WWW-Authenticate` (RFC 9110 §11.6.1), with those parameters that are not `None`."""
    spelt = ", ".join(f'{name}="{value}"' for name, value in parameters.items() if value is not None)
    return f"{scheme} {spelt}".rstrip()


def describe(error: BaseException) -> str:
    """Describe a driver's error for a log: its class and message, but no value that was sent to the store.

    SQLAlchemy's message and a traceback would show the parameters of the statement, such as digests and user agents.
    Drivers add lines that quote a row. So only the first line of the driver's message is used, and even that line is
    omitted if it may contain data.
    """
    cause: BaseException = getattr(error, "orig", None) or error
    first_line = next(iter(str(cause).splitlines()), "")
    quotes_value = any(kind.__name__ == "DataError" for kind in type(cause).__mro__)
    message = "message omitted, as it may contain data" if quotes_value or _DATA.search(first_line) else first_line
    return f"{type(cause).__name__}: {message}" if message else type(cause).__name__


class KnoxError(Exception):
    """The root of every error of this package."""


class InvalidToken(KnoxError, HTTPException):
    """The text is not a live token of this user and audience. The answer is 401, without a reason (RFC 6750 §3.1)."""

    def __init__(self, challenge: str | None = None) -> None:
        """Set the status 401 and the header `WWW-Authenticate` (RFC 6750 §3).

        Args:
            challenge: The value of `WWW-Authenticate`; `None` means the challenge for a bearer token.
        """
        super().__init__(
            status.HTTP_401_UNAUTHORIZED,
            headers={"WWW-Authenticate": challenge or spell_challenge(error="invalid_token")},
        )


class InsufficientScope(KnoxError, HTTPException):
    """The token does not have the scopes that the route needs. The answer is 403 `INSUFFICIENT_SCOPE` (RFC 6750 §3.1).

    Attributes:
        scopes: The scopes that the route needs.
    """

    def __init__(self, scopes: Iterable[str], *, challenge: str | None = None) -> None:
        """Set the status 403 and the header `WWW-Authenticate`, which names the scopes.

        Args:
            scopes: The scopes that the route needs.
            challenge: The value of `WWW-Authenticate`; `None` means the challenge for a bearer token.
        """
        self.scopes: frozenset[str] = frozenset(scopes)
        spelt = spell_challenge(error="insufficient_scope", scope=" ".join(sorted(self.scopes)))
        super().__init__(
            status.HTTP_403_FORBIDDEN, "INSUFFICIENT_SCOPE", headers={"WWW-Authenticate": challenge or spelt}
        )


class ReauthenticationRequired(KnoxError, HTTPException):
    """The user authenticated too long ago. The answer is 401 `REAUTHENTICATION_REQUIRED`, with RFC 9470's challenge."""

    def __init__(self, challenge: str) -> None:
        """Set the status 401 and the header `WWW-Authenticate`."""
        super().__init__(
            status.HTTP_401_UNAUTHORIZED, "REAUTHENTICATION_REQUIRED", headers={"WWW-Authenticate": challenge}
        )


class CredentialsChanged(KnoxError, HTTPException):
    """The user's password or `is_active` changed during the login or the re-authentication. The answer is 400.

    The answer is the same as for a wrong password.
    """

    def __init__(self) -> None:
        """Set the status and the detail with which FastAPI-Users' login route answers wrong credentials."""
        super().__init__(status.HTTP_400_BAD_REQUEST, detail="LOGIN_BAD_CREDENTIALS")


class TokenLimitReached(KnoxError, HTTPException):
    """The user has as many live tokens as the limit allows. The answer is 403 `LOGIN_TOKEN_LIMIT_REACHED`.

    Attributes:
        limit: The number of live tokens that the limit allows.
    """

    def __init__(self, limit: int) -> None:
        """Set the status 403, and store the limit."""
        super().__init__(status.HTTP_403_FORBIDDEN, detail="LOGIN_TOKEN_LIMIT_REACHED")
        self.limit = limit


class StoreUnavailable(KnoxError, HTTPException):
    """The token store is unavailable. The answer is 503 `TOKEN_STORE_UNAVAILABLE`, with the header `Retry-After`."""

    def __init__(self, *, retry_after: int = 5) -> None:
        """Set the status 503 and the header `Retry-After`.

        Args:
            retry_after: The number of seconds that the client should wait before it tries again (RFC 9110 §10.2.3).
        """
        super().__init__(
            status.HTTP_503_SERVICE_UNAVAILABLE,
            detail="TOKEN_STORE_UNAVAILABLE",
            headers={"Retry-After": str(retry_after)},
        )

    @classmethod
    def because(cls, error: BaseException) -> Self:
        """Log the error, and return an exception whose HTTP answer does not contain the error.

        Raise that exception `from None`. Otherwise the traceback would include the error, and show the statement's
        parameters.
        """
        _logger.error("The token store is unavailable: %s", describe(error))
        return cls()


class TooManyAttempts(KnoxError, HTTPException):
    """There were too many attempts to log in: 429 `LOGIN_THROTTLED`, with `Retry-After`.

    Attributes:
        retry_after: The number of seconds until an attempt may be admitted again.
        counter: Which attempts were counted: those for the account from one address, those from the address, or those
            for the account from all addresses. Attempts that present a live token of the account are counted for that
            token instead.
        limit: The limit that was exceeded, such as "5 per 1 minute".
    """

    def __init__(self, *, retry_after: int, counter: Counter, limit: str) -> None:
        """Answer 429. The answer does not say which counter refused the attempt."""
        super().__init__(
            status.HTTP_429_TOO_MANY_REQUESTS, detail="LOGIN_THROTTLED", headers={"Retry-After": str(retry_after)}
        )
        self.retry_after: int = retry_after
        self.counter: Counter = counter
        self.limit: str = limit

    def __reduce__(self) -> tuple[Callable[[], Self], tuple[()]]:
        """Pass the keyword arguments to a copy, so that worker processes can return the error."""
        return partial(type(self), retry_after=self.retry_after, counter=self.counter, limit=self.limit), ()


class ThrottleUnavailable(KnoxError, HTTPException):
    """The storage of the throttle is unavailable, and `fail_open` is false: 503 `LOGIN_THROTTLE_UNAVAILABLE`."""

    def __init__(self, *, retry_after: int = 5) -> None:
        """Answer 503.

        Args:
            retry_after: The number of seconds that the client should wait (RFC 9110 §10.2.3).
        """
        super().__init__(
            status.HTTP_503_SERVICE_UNAVAILABLE,
            detail="LOGIN_THROTTLE_UNAVAILABLE",
            headers={"Retry-After": str(retry_after)},
        )


class LimitUnsupported(KnoxError):
    """The store cannot keep an exact limit, because it does not see the users and so cannot lock their rows."""


class UserClassError(KnoxError):
    """The user class cannot be found, or its ids and the tokens' `user_id` have different types."""
