"""The arguments of `LoginThrottle`, and what is wrong with them."""

from typing import Any

import pytest
from fastapi import Depends
from limits.storage import MemoryStorage

from fastapi_users_knox.throttling import LoginThrottle


@pytest.mark.parametrize("option", ["per_account_and_address", "per_address", "per_account"])
@pytest.mark.parametrize("limit", ["five", "5/fortnight", "0/minute", ""])
def test_a_wrong_limit_is_refused(option: str, limit: str) -> None:
    """A limit that `limits` does not understand, or that admits nothing, is refused when the throttle is created."""
    options: dict[str, Any] = {option: (limit,)}

    with pytest.raises(ValueError, match="limit"):
        LoginThrottle(**options)


@pytest.mark.parametrize("storage", [MemoryStorage(), Depends(), None, 7])
def test_a_wrong_storage_is_refused(storage: Any) -> None:
    """A synchronous storage would block the event loop, and other objects are no storage."""
    with pytest.raises(TypeError, match=r"limits\.aio\.storage"):
        LoginThrottle(storage)


@pytest.mark.parametrize("uri", ["nonsense://ada:secret@localhost", "localhost:6379:secret"])
def test_a_wrong_uri_is_refused(uri: str) -> None:
    """A URI of an unknown scheme is refused, by an error that does not contain the password."""
    with pytest.raises(ValueError, match="storage") as refused:
        LoginThrottle(uri)

    assert "secret" not in str(refused.value)


@pytest.mark.parametrize("limits", ["5/minute;20/hour", ["20 per hour", "5 per 1 minute"]])
def test_limits_are_written_as_in_limits(limits: Any) -> None:
    """One text may hold several limits, and the order does not matter."""
    throttle = LoginThrottle(per_account_and_address=limits)

    assert "5 per 1 minute, 20 per 1 hour" in str(vars(throttle))
