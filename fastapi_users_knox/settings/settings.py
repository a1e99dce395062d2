"""The settings of a strategy, and the calculations that depend on them."""

from datetime import UTC, datetime, timedelta
from typing import Annotated, ClassVar, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from fastapi_users_knox import tokens
from fastapi_users_knox.records import ID, LimitPolicy, TokenRecord
from fastapi_users_knox.settings.types import Interval, Key, Limit, Moment, Prefix, Ttl, check_ttl

__all__ = ["ApiTokenSettings", "KnoxSettings"]

_MILLISECOND = timedelta(milliseconds=1)


class KnoxSettings(BaseModel):
    """The settings of a strategy: how long tokens live, how many a user may have, and how they are hashed.

    `KnoxSettings` is a frozen pydantic model, so it can be a field of an application's own pydantic-settings class.
    Settings that contradict each other raise `pydantic.ValidationError`, which names the field and the rule but never a
    value. To hide values also in the errors of the application's own class, set `hide_input_in_errors` in that class.

    Durations are `timedelta` and moments are timezone-aware `datetime` objects. In JSON and in environment variables
    both are ISO 8601 text, such as "PT1H" and "2030-01-01T00:00:00Z". Numbers are refused, because they have no unit.
    """

    model_config: ClassVar[ConfigDict] = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

    token_ttl: Ttl | None = timedelta(hours=10)
    """How long a token is valid after login, or after its last refresh. `None` means that tokens never expire. The
    value must be more than 0 and at most 100 years. The default of 10 hours, about a working day, is also the default
    of django-rest-knox. A shorter time limits the use of a stolen token; with a longer time, users log in less often.
    In django-rest-knox: `TOKEN_TTL`."""

    token_limit_per_user: Limit | None = None
    """How many live tokens of this audience a user may have (ASVS 7.1.2). The value must be at least 1. `None`, the
    default, means no limit. With a limit, fewer forgotten sessions stay valid, but people with many devices are logged
    out or turned away. A lowered limit takes effect at the next login. In django-rest-knox: `TOKEN_LIMIT_PER_USER`."""

    limit_policy: LimitPolicy = "reject"
    """What a login does when the limit is reached. "reject", the default, answers 403, as django-rest-knox does.
    "evict_oldest" lets the user in and revokes the session that was created first. "evict_least_recently_used" lets the
    user in and revokes the session that has been unused for the longest time."""

    auto_refresh: bool = False
    """Whether the use of a token extends it, so that it expires `token_ttl` after the use. `auto_refresh` requires a
    `token_ttl`. The setting is off by default, as in django-rest-knox, so that a session ends at a known time. Switch
    `auto_refresh` on if people who come back daily should stay logged in. Refreshing costs at most one write for each
    token in each `min_refresh_interval`. In django-rest-knox: `AUTO_REFRESH`."""

    auto_refresh_max_ttl: Ttl | None = None
    """The cap: a token is refused this long after login, however often it was refreshed (ASVS 7.3.2). The cap is
    checked at every read, so a changed cap also applies to existing tokens. `None`, the default, means no cap: a stolen
    token that is used regularly then stays valid. The value must be at least `token_ttl`. In django-rest-knox:
    `AUTO_REFRESH_MAX_TTL`."""

    min_refresh_interval: Interval = timedelta(seconds=60)
    """The shortest time between two writes that the use of one token causes. The write updates `last_used_at`, moves
    the expiry if it moves by more than this interval, and stores a new digest if the first of the `digest_keys` has
    changed. A shorter interval makes `last_used_at` more exact; a longer interval saves writes: a million tokens in
    constant use cause up to 17,000 writes a second with the default of a minute, and 280 with an hour. If
    `auto_refresh` is on, the interval must be less than `token_ttl`. In django-rest-knox, with the same default:
    `MIN_REFRESH_INTERVAL`."""

    token_prefix: Prefix = "knox_"  # noqa: S105 (no secret)
    """The characters with which a token's text begins, so that people and secret scanners recognize a token. The prefix
    may have at most 20 ASCII letters, digits and underscores. A change of the prefix logs nobody out. In
    django-rest-knox: `TOKEN_PREFIX`."""

    audience: Annotated[str, Field(pattern=r"\A[!-~]{0,64}\z")] = ""
    """Which tokens belong to this strategy if several strategies share a store. Each strategy reads, lists, limits and
    revokes only the tokens of its own audience. The text may have at most 64 printable ASCII characters and no spaces.
    A single strategy can keep the default, which is the empty text."""

    digest_keys: tuple[Key, ...] = ()
    """Secret keys with which tokens are hashed (HMAC-SHA-256), each at least 32 bytes long. New tokens are hashed with
    the first key. Presented tokens are accepted if they match a digest made with any of the keys. To introduce a new
    key, first deploy it as the last key, then move it to the front. By default there are no keys, and tokens are hashed
    with SHA-256. If there are keys, an attacker who does not know the keys cannot compute a digest, and so cannot forge
    a token by inserting a row into the table. An attacker who can read *and* insert rows, or update rows, can still
    store the digest of their own token with another user's id. If the keys are lost, everybody is logged out. In
    django-rest-knox: `SECURE_HASH_ALGORITHM`."""

    accept_unkeyed_until: Moment | None = None
    """Until this moment, tokens that were issued without `digest_keys` are accepted too. With `None`, the default, only
    tokens with a keyed digest are accepted once there are `digest_keys`. `accept_unkeyed_until` requires `digest_keys`.
    A token that is used in time gets a keyed digest and stays valid. Until this moment, an attacker who can insert a
    row can still forge a token, and the forged token stays valid too if it is used."""

    not_before: Moment | None = None
    """The kill switch: tokens whose login was before this moment are refused. `None`, the default, refuses no token.
    The refused tokens are not removed, so they become valid again if this moment is moved back."""

    end_presented: bool = True
    """Whether a login that presents a live token of the same user revokes that token (ASVS 7.2.4). The setting is on by
    default, because a client that logs in again forgets its old token. A login through `KnoxCookieTransport` always
    revokes the session whose cookie the login overwrites."""

    @model_validator(mode="after")
    def _check_together(self) -> Self:
        if self.auto_refresh and self.token_ttl is None:
            raise ValueError("auto_refresh needs a token_ttl")
        if self.auto_refresh and self.token_ttl is not None and self.min_refresh_interval >= self.token_ttl:
            raise ValueError("min_refresh_interval must be less than token_ttl if auto_refresh is on")
        if self.auto_refresh_max_ttl is not None and (
            self.token_ttl is None or self.auto_refresh_max_ttl < self.token_ttl
        ):
            raise ValueError("auto_refresh_max_ttl must be at least token_ttl, and needs a token_ttl")
        if self.accept_unkeyed_until is not None and not self.digest_keys:
            raise ValueError("accept_unkeyed_until needs digest_keys")
        return self

    def digest(self, token: str) -> bytes:
        """Return the digest under which a new token is stored, which is the first that `digests` returns."""
        return tokens.digest(token, key=self.digest_keys[0].get_secret_value().encode() if self.digest_keys else None)

    def digests(self, token: str, now: datetime) -> tuple[bytes, ...]:
        """Return the digests under which a token may be stored at `now`; a new token is stored under the first."""
        if not self.digest_keys:
            return (tokens.digest(token),)
        keyed = tuple(tokens.digest(token, key=key.get_secret_value().encode()) for key in self.digest_keys)
        if self.accept_unkeyed_until is not None and now < self.accept_unkeyed_until:
            return (*keyed, tokens.digest(token))
        return keyed

    def expires_at(self, created_at: datetime, ttl: timedelta | None) -> datetime | None:
        """Return when a token issued at `created_at` expires: after this lifetime, or at the cap if the cap is earlier.

        Raises:
            ValueError: The lifetime is not a valid `token_ttl`.
        """
        return self._earlier(None if ttl is None else created_at + check_ttl(ttl), self._cap(created_at))

    def capped_since(self, now: datetime) -> datetime | None:
        """Return the earliest `created_at` that the cap allows at `now`; `None` if there is no cap."""
        if self.auto_refresh_max_ttl is None:
            return None
        return now - self.auto_refresh_max_ttl + _MILLISECOND

    def created_since(self, now: datetime) -> datetime | None:
        """Return the earliest `created_at` that the cap and `not_before` allow at `now`; `None` if they allow any."""
        capped_since = self.capped_since(now)
        if capped_since is None or self.not_before is None:
            return capped_since or self.not_before
        return max(capped_since, self.not_before)

    def is_live(self, record: TokenRecord[ID], now: datetime) -> bool:
        """Return whether a record is accepted at `now`.

        The record must not be expired, past the cap, or from a login before `not_before`. `not_before` is compared with
        `authenticated_at`, so a token that was issued on the authority of a refused record is refused too.
        """
        if self.not_before is not None and record.authenticated_at < self.not_before:
            return False
        return record.is_live(now, created_since=self.created_since(now))

    def is_write_due(self, record: TokenRecord[ID], now: datetime) -> bool:
        """Return whether the use of a token at `now` has to be written to the store."""
        return now - record.active_at > self.min_refresh_interval

    def refreshed_expiry(self, record: TokenRecord[ID], now: datetime) -> datetime | None:
        """Return the new expiry of a live record that is used at `now`; `None` if the expiry does not move."""
        ttl = self.token_ttl if record.token_ttl is None else record.token_ttl
        if not self.auto_refresh or ttl is None or record.expires_at is None:
            return None
        expiry = self._earlier(now + ttl, self._cap(record.created_at))
        if expiry is None or expiry - record.expires_at <= self.min_refresh_interval:
            return None
        return expiry

    def _cap(self, created_at: datetime) -> datetime | None:
        return None if self.auto_refresh_max_ttl is None else created_at + self.auto_refresh_max_ttl

    @staticmethod
    def _earlier(one: datetime | None, other: datetime | None) -> datetime | None:
        return min((moment for moment in (one, other) if moment is not None), default=None)


class ApiTokenSettings(KnoxSettings):
    """The settings of a strategy that issues API tokens, which programs use instead of people.

    Only the defaults differ from `KnoxSettings`: the tokens live for 90 days, have an audience of their own, and begin
    with "knox_pat_" (personal access token), so that secret scanners can distinguish them from the tokens of sessions.
    A login that presents an API token does not revoke it.
    """

    token_ttl: Ttl | None = timedelta(days=90)
    token_prefix: Prefix = "knox_pat_"  # noqa: S105 (no secret)
    audience: Annotated[str, Field(pattern=r"\A[!-~]{0,64}\z")] = "api"
    end_presented: bool = False


def utc_now() -> datetime:
    """Return the current time, timezone-aware, in UTC."""
    return datetime.now(UTC)
