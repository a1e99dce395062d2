"""The errors: each HTTP error is also the response that FastAPI-Users' routers give."""

import base64
import pickle
from http import HTTPStatus

import pytest
from fastapi import HTTPException
from sqlalchemy.exc import DBAPIError

from fastapi_users_knox import (
    CredentialsChanged,
    InvalidToken,
    KnoxError,
    LimitUnsupported,
    StoreUnavailable,
    ThrottleUnavailable,
    TokenLimitReached,
    TooManyAttempts,
    UserClassError,
    tokens,
)
from fastapi_users_knox.errors import describe, spell_challenge

THROTTLED = TooManyAttempts(retry_after=60, counter="address", limit="100 per 1 hour")
ANSWERS = [
    (InvalidToken(), 401, "Unauthorized", {"WWW-Authenticate": 'Bearer error="invalid_token"'}),
    (CredentialsChanged(), 400, "LOGIN_BAD_CREDENTIALS", None),
    (TokenLimitReached(5), 403, "LOGIN_TOKEN_LIMIT_REACHED", None),
    (StoreUnavailable(), 503, "TOKEN_STORE_UNAVAILABLE", {"Retry-After": "5"}),
    (StoreUnavailable(retry_after=60), 503, "TOKEN_STORE_UNAVAILABLE", {"Retry-After": "60"}),
    (THROTTLED, 429, "LOGIN_THROTTLED", {"Retry-After": "60"}),
    (ThrottleUnavailable(), 503, "LOGIN_THROTTLE_UNAVAILABLE", {"Retry-After": "5"}),
]


@pytest.mark.parametrize(("error", "status", "detail", "headers"), ANSWERS)
def test_an_error_is_an_http_response(
    error: HTTPException, status: int, detail: str, headers: dict[str, str] | None
) -> None:
    """The status, detail and headers of an error are its HTTP response."""
    assert (error.status_code, error.detail, error.headers) == (HTTPStatus(status), detail, headers)


@pytest.mark.parametrize(("error", "status", "detail", "headers"), ANSWERS)
def test_an_error_can_be_pickled(
    error: HTTPException, status: int, detail: str, headers: dict[str, str] | None
) -> None:
    """An error can be pickled, so worker processes can return it."""
    copy = pickle.loads(pickle.dumps(error))

    assert type(copy) is type(error)
    assert (copy.status_code, copy.detail, copy.headers) == (status, detail, headers)


@pytest.mark.parametrize("error", [*(error for error, *_ in ANSWERS), LimitUnsupported("why"), UserClassError("why")])
def test_every_error_has_one_root(error: Exception) -> None:
    """`KnoxError` is the base class of every error."""
    assert isinstance(error, KnoxError)


def test_a_copy_of_the_throttles_error_is_complete() -> None:
    """A copy of `TooManyAttempts` from another process says which limit was exceeded, and how long to wait."""
    copy = pickle.loads(pickle.dumps(THROTTLED))

    assert (copy.retry_after, copy.counter, copy.limit) == (60, "address", "100 per 1 hour")


def test_the_error_has_the_limit() -> None:
    """`TokenLimitReached` has the limit, so a handler can show it to the user."""
    assert TokenLimitReached(5).limit == 5


def test_an_unsupported_limit_is_no_http_response() -> None:
    """`LimitUnsupported` is a mistake of the set-up, so it is no HTTP response, and its message has the reason."""
    error = LimitUnsupported("user_id is no foreign key")

    assert not isinstance(error, HTTPException)
    assert str(error) == "user_id is no foreign key"


SECRET = tokens.digest("knox_secret")
ROW = f"Key (digest)=({SECRET.hex()}) already exists."


class DataError(Exception):
    """A driver's error about a value, which its message may quote."""


class DriverError(Exception):
    """An error of a driver that is not about a value."""


@pytest.mark.parametrize(
    ("error", "described"),
    [
        (OSError(111, "connection refused"), "ConnectionRefusedError: [Errno 111] connection refused"),
        (TimeoutError(), "TimeoutError"),
        (DBAPIError("SELECT 1", {"digest": SECRET}, DriverError("no such table: t")), "DriverError: no such table: t"),
        (DriverError(f"duplicate key\nDETAIL:  {ROW}"), "DriverError: duplicate key"),
        (DataError("invalid input syntax: jane's phone"), None),
        (DriverError("Duplicate entry 'jane' for key 'name'"), None),
        (DriverError(ROW), None),
        (DriverError(f"invalid input for query argument $1: {SECRET!r}"), None),
        (DriverError("invalid input for query argument $1: b'abc'"), None),
        (DriverError(f"with args beginning with: 'knox:{{ab}}:{base64.b64encode(SECRET).decode()}'"), None),
        (DriverError(f"bad value {tokens.generate('00', prefix='knox_')}"), None),
    ],
)
def test_an_error_is_described_without_data(error: Exception, described: str | None) -> None:
    """A driver's error is logged by its class and first line, but without its message if that may contain data."""
    expected = described or f"{type(error).__name__}: message omitted, as it may contain data"

    assert describe(error) == expected


@pytest.mark.parametrize(
    ("parameters", "challenge"),
    [
        ({}, "Bearer"),
        ({"scheme": "Token"}, "Token"),
        ({"scheme": "Token", "error": "invalid_token"}, 'Token error="invalid_token"'),
        (
            {"error": "invalid_token", "error_description": "Log in", "scope": None},
            'Bearer error="invalid_token", error_description="Log in"',
        ),
    ],
)
def test_a_challenge_is_spelt(parameters: dict[str, str], challenge: str) -> None:
    """A challenge starts with the scheme, followed by the parameters that have a value."""
    assert spell_challenge(**parameters) == challenge


def test_an_outage_is_logged_with_its_cause(caplog: pytest.LogCaptureFixture) -> None:
    """`StoreUnavailable` logs the driver's message, without the parameters of the statement."""
    refused = OSError("connection refused")
    other = DBAPIError("SELECT secrets", {"digest": "d1gest"}, refused)

    answers = [StoreUnavailable.because(error) for error in (refused, other)]

    assert [answer.detail for answer in answers] == ["TOKEN_STORE_UNAVAILABLE"] * 2
    assert caplog.text.count("connection refused") == 2
    assert "d1gest" not in caplog.text
