"""The types of the settings: durations, moments, keys and limits, with the checks of their values."""

from datetime import timedelta
from functools import partial
from typing import Annotated, SupportsFloat

from pydantic import AfterValidator, AwareDatetime, BeforeValidator, Field, SecretStr

__all__ = ["MAX_TTL", "Duration", "Interval", "Key", "Limit", "Moment", "Prefix", "Ttl", "check_ttl"]

_MILLISECOND = timedelta(milliseconds=1)
MAX_TTL = timedelta(days=36525)
_MIN_KEY_BYTES = 32  # A key should be at least as long as the hash's output (RFC 2104 §3).


def _is_number(value: object) -> bool:
    if not isinstance(value, str | bytes | SupportsFloat):
        return False
    try:
        float(value)
    except ValueError:
        return False
    return True


def _refuse_number(fix: str, value: object) -> object:
    """Refuse a number, because pydantic would read it as seconds, but its author may have meant minutes."""
    if _is_number(value):
        raise ValueError(f"a number has no unit: pass {fix}")
    return value


def check_ttl(ttl: timedelta) -> timedelta:
    """Return a lifetime, or raise `ValueError` if it is not valid."""
    if not timedelta(0) < ttl <= MAX_TTL or ttl % _MILLISECOND:
        raise ValueError("must be more than 0, at most 100 years (36525 days), and a whole number of milliseconds")
    return ttl


def _check_interval(interval: timedelta) -> timedelta:
    if not timedelta(0) <= interval <= MAX_TTL or interval % _MILLISECOND:
        raise ValueError("must be 0 or more, at most 100 years (36525 days), and a whole number of milliseconds")
    return interval


def _check_key(key: SecretStr) -> SecretStr:
    if len(key.get_secret_value().encode()) < _MIN_KEY_BYTES:
        raise ValueError(f"each key must be at least {_MIN_KEY_BYTES} bytes long")
    return key


Duration = Annotated[timedelta, BeforeValidator(partial(_refuse_number, "timedelta(seconds=3600), or as text 'PT1H'"))]
Moment = Annotated[
    AwareDatetime,
    BeforeValidator(partial(_refuse_number, "datetime(2030, 1, 1, tzinfo=UTC), or as text '2030-01-01T00:00:00Z'")),
]
Ttl = Annotated[Duration, AfterValidator(check_ttl)]
Interval = Annotated[Duration, AfterValidator(_check_interval)]
Key = Annotated[SecretStr, AfterValidator(_check_key)]
Limit = Annotated[int, Field(ge=1)]
Prefix = Annotated[str, Field(pattern=r"\A[A-Za-z0-9_]{0,20}\z")]
