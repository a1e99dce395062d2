"""The settings, django-rest-knox's and more, and the arithmetic of what they mean."""

from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Annotated, ClassVar, Self, SupportsFloat

from fastapi_users.models import ID
from pydantic import (
    AfterValidator,
    AwareDatetime,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    SecretStr,
    model_validator,
)

from fastapi_users_knox import tokens
from fastapi_users_knox.store import LimitPolicy, TokenRecord

__all__ = ["KnoxSettings"]

_MILLISECOND = timedelta(milliseconds=1)
_MAX_TTL = timedelta(days=36525)
_MIN_KEY_BYTES = 32  # RFC 2104 §3: no shorter than the hash's output


def _is_number(value: object) -> bool:
    if not isinstance(value, str | bytes | SupportsFloat):
        return False
    try:
        float(value)
    except ValueError:
        return False
    return True


def _refuse_number(fix: str, value: object) -> object:
    """Refuse what pydantic would take for seconds, though whoever wrote it may have meant something else."""
    if _is_number(value):
        raise ValueError(f"a number has no unit: pass {fix}")
    return value


def _check_ttl(ttl: timedelta) -> timedelta:
    if not timedelta(0) < ttl <= _MAX_TTL or ttl % _MILLISECOND:
        raise ValueError("must be more than 0, at most 100 years (36525 days), and a whole number of milliseconds")
    return ttl


def _check_interval(interval: timedelta) -> timedelta:
    if not timedelta(0) <= interval <= _MAX_TTL or interval % _MILLISECOND:
        raise ValueError("must be 0 or more, at most 100 years (36525 days), and a whole number of milliseconds")
    return interval


def _check_key(key: SecretStr) -> SecretStr:
    if len(key.get_secret_value().encode()) < _MIN_KEY_BYTES:
        raise ValueError(f"each key must be at least {_MIN_KEY_BYTES} bytes long")
    return key


_Duration = Annotated[timedelta, BeforeValidator(partial(_refuse_number, "timedelta(seconds=3600), or as text 'PT1H'"))]
_Moment = Annotated[
    AwareDatetime,
    BeforeValidator(partial(_refuse_number, "datetime(2030, 1, 1, tzinfo=UTC), or as text '2030-01-01T00:00:00Z'")),
]
_Ttl = Annotated[_Duration, AfterValidator(_check_ttl)]
_Interval = Annotated[_Duration, AfterValidator(_check_interval)]
_Key = Annotated[SecretStr, AfterValidator(_check_key)]


class KnoxSettings(BaseModel):
    """What tokens are like: how long they live, how many a user has, how they are hashed.

    A frozen pydantic model, so that it nests in an application's own pydantic-settings class. Settings that make no
    sense raise `pydantic.ValidationError`, which names the field and the rule but never a value; that the outer class's
    messages show none either, it needs `hide_input_in_errors` of its own.

    Durations are `timedelta`, and moments timezone-aware `datetime`; in an environment variable or in JSON both are
    ISO 8601 text, such as "PT1H" and "2030-01-01T00:00:00Z". Numbers are refused for both, as they have no unit.
    """

    model_config: ClassVar[ConfigDict] = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

    token_ttl: _Ttl | None = timedelta(hours=10)
    """How long a token lives from login, or from its last refresh; `None`: for ever. More than 0, at most 100 years.
    knox: `TOKEN_TTL`."""

    token_limit_per_user: Annotated[int, Field(ge=1)] | None = None
    """How many live tokens of this audience a user may have (ASVS 7.1.2); `None`: any number. At least 1. A lowered
    limit takes effect at the next login. knox: `TOKEN_LIMIT_PER_USER`."""

    limit_policy: LimitPolicy = "reject"
    """What a login does when the limit is reached: fail with 403, or end the token that is the oldest, or the one
    least recently used."""

    auto_refresh: bool = False
    """Whether using a token moves its expiry to `token_ttl` from then. Needs a `token_ttl`. knox: `AUTO_REFRESH`."""

    auto_refresh_max_ttl: _Ttl | None = None
    """The cap: how long after login a token is refused however often it was refreshed (ASVS 7.3.2), judged at every
    read; `None`: no cap. At least `token_ttl`. knox: `AUTO_REFRESH_MAX_TTL`."""

    min_refresh_interval: _Interval = timedelta(seconds=60)
    """How much time lies at least between two writes that the use of one token causes: its expiry moves only if by
    more than this, and `last_used_at` and re-keying wait for it too. Less than `token_ttl` where `auto_refresh`.
    knox: `MIN_REFRESH_INTERVAL`."""

    token_prefix: Annotated[str, Field(pattern=r"\A[A-Za-z0-9_]{0,20}\z")] = "knox_"  # noqa: S105 (no secret)
    """What a token's text begins with, for people and secret scanners; up to 20 of `A-Z a-z 0-9 _`. Changing it logs
    nobody out. knox: `TOKEN_PREFIX`."""

    audience: Annotated[str, Field(pattern=r"\A[!-~]{0,64}\z")] = ""
    """Which tokens are this strategy's, where several share one store: each reads, lists, limits and ends its own.
    Up to 64 printable ASCII characters without spaces."""

    digest_keys: tuple[_Key, ...] = ()
    """Secrets that tokens are hashed with (HMAC-SHA-256), so that nobody without a key can compute a digest: a row
    that is inserted blindly forges no token, and a stolen table opens nothing. Whoever can read *and* insert, or update
    rows, can still put the digest of a token of their own beside another user's id. Each at least 32 bytes. The first
    signs, all verify: deploy a new key as the last, then move it to the front. Without any, tokens are hashed with
    SHA-256. knox: `SECURE_HASH_ALGORITHM`."""

    accept_unkeyed_until: _Moment | None = None
    """Till when tokens from before there were `digest_keys` are accepted still; `None`: not at all. They are re-keyed
    as they are used, and stay accepted then. Needs `digest_keys`. Until that moment a row that somebody inserts with a
    plain digest is as good as one of ours, and once it is re-keyed it outlives that moment, too."""

    not_before: _Moment | None = None
    """The kill switch: tokens of logins before this moment are refused; `None`: none."""

    end_presented: bool = True
    """Whether a login that presents a live token of the same user ends that token (ASVS 7.2.4). A login by
    `KnoxCookieTransport` ends the session of the cookie that it overwrites in any case."""

    @model_validator(mode="after")
    def _check_together(self) -> Self:
        if self.auto_refresh and self.token_ttl is None:
            raise ValueError("auto_refresh needs a token_ttl")
        if self.auto_refresh and self.token_ttl is not None and self.min_refresh_interval >= self.token_ttl:
            raise ValueError("min_refresh_interval must be less than token_ttl where auto_refresh is on")
        if self.auto_refresh_max_ttl is not None and (
            self.token_ttl is None or self.auto_refresh_max_ttl < self.token_ttl
        ):
            raise ValueError("auto_refresh_max_ttl must be at least token_ttl, and so needs one")
        if self.accept_unkeyed_until is not None and not self.digest_keys:
            raise ValueError("accept_unkeyed_until needs digest_keys")
        return self

    def digests(self, token: str, now: datetime) -> tuple[bytes, ...]:
        """Return the digests under which a token may be stored at `now`; under the first it is stored anew."""
        if not self.digest_keys:
            return (tokens.digest(token),)
        keyed = tuple(tokens.digest(token, key=key.get_secret_value().encode()) for key in self.digest_keys)
        if self.accept_unkeyed_until is not None and now < self.accept_unkeyed_until:
            return (*keyed, tokens.digest(token))
        return keyed

    def expires_at(self, created_at: datetime, ttl: timedelta | None) -> datetime | None:
        """Return when a token of this lifetime, issued at `created_at`, expires: never after the cap.

        Raises:
            ValueError: The lifetime makes no sense, by the rule of `token_ttl`.
        """
        return self._earlier(None if ttl is None else created_at + _check_ttl(ttl), self._cap(created_at))

    def capped_since(self, now: datetime) -> datetime | None:
        """Return the earliest `created_at` whose cap has not come at `now`."""
        if self.auto_refresh_max_ttl is None:
            return None
        return now - self.auto_refresh_max_ttl + _MILLISECOND

    def created_since(self, now: datetime) -> datetime | None:
        """Return the earliest `created_at` of a record that is live at `now`: by the cap and by `not_before`."""
        capped_since = self.capped_since(now)
        if capped_since is None or self.not_before is None:
            return capped_since or self.not_before
        return max(capped_since, self.not_before)

    def is_live(self, record: TokenRecord[ID], now: datetime) -> bool:
        """Return whether a record is accepted at `now`: neither expired, nor past the cap, nor of before `not_before`.

        A token that was issued on the strength of another is of before `not_before` if the user authenticated before.
        """
        if self.not_before is not None and record.authenticated_at < self.not_before:
            return False
        return record.is_live(now, created_since=self.created_since(now))

    def is_touch_due(self, record: TokenRecord[ID], now: datetime) -> bool:
        """Tell whether the use of a record at `now` is to be written."""
        return now - record.active_at > self.min_refresh_interval

    def refreshed_expiry(self, record: TokenRecord[ID], now: datetime) -> datetime | None:
        """Return the later expiry that the use of a live record at `now` gives it, or `None` if it stays as it is."""
        if not self.auto_refresh or self.token_ttl is None or record.expires_at is None:
            return None
        expiry = self._earlier(now + self.token_ttl, self._cap(record.created_at))
        if expiry is None or expiry - record.expires_at <= self.min_refresh_interval:
            return None
        return expiry

    def _cap(self, created_at: datetime) -> datetime | None:
        return None if self.auto_refresh_max_ttl is None else created_at + self.auto_refresh_max_ttl

    @staticmethod
    def _earlier(one: datetime | None, other: datetime | None) -> datetime | None:
        return min((moment for moment in (one, other) if moment is not None), default=None)


def utc_now() -> datetime:
    """Return the time, aware, in UTC."""
    return datetime.now(UTC)
