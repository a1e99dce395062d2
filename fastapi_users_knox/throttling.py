"""Limits on attempts to log in, which the library `limits` counts in memory, in Redis or in Valkey."""

import asyncio
import logging
import time
import unicodedata
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from hashlib import sha256
from math import ceil

from limits import RateLimitItem, parse_many
from limits.aio.storage import Storage
from limits.aio.strategies import FixedWindowRateLimiter
from limits.errors import ConfigurationError
from limits.storage import storage_from_string

from fastapi_users_knox import errors
from fastapi_users_knox.addresses import network_of
from fastapi_users_knox.errors import ThrottleUnavailable, TooManyAttempts, describe

__all__ = ["LoginThrottle"]

MAX_DELAY = 0.5  # The seconds for which the storage may delay a login, once before the hash and once after it.
_LOG_INTERVAL = 60.0  # seconds
_ROUNDING = 0.5  # Redis reports the rest of a window rounded to whole seconds, so this much may be missing.

_logger = logging.getLogger("fastapi_users_knox")


class LoginThrottle:
    """Limits on attempts to log in, for an account from one address, for an address, and for an account.

    Create one object for the whole application, and pass it to each user manager: `UserManager(user_db, knox=strategy,
    throttle=throttle)`. A limit is a text of the library `limits`, such as "5/minute" or "100 per 2 hours". An empty
    tuple switches a counter off. All addresses of an IPv6 /64 network count as one address.

    A window of a limit begins with its first attempt, and later attempts do not extend it. So within any period of that
    length, at most twice as many attempts as the limit are admitted, and over many windows the limit itself. However
    many attempts arrive at once, and from however many processes, each window admits no more than the limit, because
    the storage increments and returns a counter in one step. With `memory://`, each process has its own counters.

    No key in the storage contains an e-mail address or an address of a client: it contains a SHA-256 of them.

    Args:
        storage: A URI such as `memory://`, `redis://localhost:6379/0` or `valkey://localhost:6379/0`, or a storage
            object of `limits.aio.storage`.
        per_account_and_address: The limits on attempts for one account from one address. A success resets them.
        per_address: The limits on attempts from one address, for any account.
        per_account: The limits on attempts for one account from all addresses that the account has no live session
            from. If they are low, a user cannot log in from a new device while somebody attacks the account.
        fail_open: Whether attempts are admitted while the storage is unavailable. If false, they are answered by 503.
        clock: Returns seconds. It measures the interval between two lines in the log about an unavailable storage.

    Raises:
        ValueError: A limit or the URI is not valid.
        TypeError: The storage is not an asynchronous storage of `limits`.
    """

    def __init__(
        self,
        storage: str | Storage = "memory://",
        *,
        per_account_and_address: Iterable[str] = ("5/minute", "20/hour"),
        per_address: Iterable[str] = ("100/hour",),
        per_account: Iterable[str] = ("100/hour",),
        fail_open: bool = True,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Check the arguments. Nothing is sent to the storage."""
        self._limits: dict[errors.Counter, tuple[RateLimitItem, ...]] = {
            "account_and_address": _parsed(per_account_and_address),
            "address": _parsed(per_address),
            "account": _parsed(per_account),
        }
        self._limiter = FixedWindowRateLimiter(_storage_of(storage))
        self._fail_open, self._clock, self._logs_again_at = fail_open, clock, float("-inf")

    @property
    def storage(self) -> Storage:
        """The storage, for example to close its connections."""
        return self._limiter.storage

    async def admit(
        self, email: str, address: str | None, *, purpose: str, is_known: Callable[[], Awaitable[bool]]
    ) -> None:
        """Count an attempt, or refuse it.

        The narrow counters come first, and an attempt that one of them refuses is not counted by the next. Otherwise a
        single address could use up the limit of an account for all others.

        Args:
            email: The e-mail address of the account.
            address: The client's address; `None` outside of requests, where only the account's own counter applies.
            purpose: What is counted together: attempts of different purposes have different counters.
            is_known: Returns whether the client is the user's own. Then the account's own counter does not apply.

        Raises:
            TooManyAttempts: A limit is exceeded.
            ThrottleUnavailable: The storage is unavailable, and `fail_open` is false.
        """
        budget = _Budget()
        for counter in self._counters(email, address, purpose):
            if counter.name == "account" and await is_known():
                continue
            refusal: TooManyAttempts | ThrottleUnavailable | None = None if self._fail_open else ThrottleUnavailable()
            with self._logging_errors():
                async with budget.spent():
                    refusal = await counter.count(self._limiter)
            if refusal is not None:
                raise refusal

    async def forget(self, email: str, address: str | None, *, purpose: str) -> None:
        """Reset the counters of an account from one address, after a success.

        The other counters stay. Otherwise somebody with an account of their own could reset the counter of their
        address, and the user of an attacked account would give the attackers new attempts with each login.
        """
        for counter in self._counters(email, address, purpose):
            if counter.name == "account_and_address":
                with self._logging_errors():
                    async with _Budget().spent():
                        await counter.reset(self._limiter)

    def _counters(self, email: str, address: str | None, purpose: str) -> "Iterator[_Counter]":
        account, network = _normalized(email), network_of(address)
        counted: dict[errors.Counter, tuple[str, ...]] = {"account": (account,)}
        if network is not None:
            counted = {"account_and_address": (account, network), "address": (network,), **counted}
        for name, parts in counted.items():
            if self._limits[name]:
                yield _Counter(name=name, limits=self._limits[name], key=_key(purpose, name, *parts))

    @contextmanager
    def _logging_errors(self) -> Iterator[None]:
        """Log any error of the storage, instead of raising it; each client library has errors of its own."""
        try:
            yield
        except Exception as error:  # noqa: BLE001
            self._log(error)

    def _log(self, error: Exception) -> None:
        """Log that the storage is unavailable, at most once a minute."""
        now = self._clock()
        if now < self._logs_again_at:
            return
        self._logs_again_at = now + _LOG_INTERVAL
        consequence = "Attempts to log in are not throttled" if self._fail_open else "Nobody can log in"
        _logger.error("%s, because the storage of the throttle is unavailable: %s", consequence, describe(error))


@dataclass(frozen=True, kw_only=True)
class _Counter:
    """One counter with its limits, which differ in the length of their windows.

    Attributes:
        name: What it counts.
        limits: The limits, beginning with the shortest window. An attempt that a short window refuses does not count in
            a longer one.
        key: The key in the storage.
    """

    name: errors.Counter
    limits: tuple[RateLimitItem, ...]
    key: str

    async def count(self, limiter: FixedWindowRateLimiter) -> TooManyAttempts | None:
        """Count an attempt, and return an error if it exceeds a limit."""
        for limit in self.limits:
            if not await limiter.hit(limit, self.key):
                retry_after = await self._retry_after(limiter, exceeded=limit)
                return TooManyAttempts(retry_after=retry_after, counter=self.name, limit=repr(limit))
        return None

    async def reset(self, limiter: FixedWindowRateLimiter) -> None:
        """Start new windows."""
        for limit in self.limits:
            await limiter.clear(limit, self.key)

    async def _retry_after(self, limiter: FixedWindowRateLimiter, *, exceeded: RateLimitItem) -> int:
        """Return the number of seconds, rounded up, until no window is exhausted."""
        waits = [1]
        for limit in self.limits[self.limits.index(exceeded) :]:
            reset_time, remaining = await limiter.get_window_stats(limit, self.key)
            if remaining <= 0:
                waits.append(ceil(reset_time - time.time() + _ROUNDING))
        return max(waits)


class _Budget:
    """The time for which the storage may delay a login, in one or several parts."""

    def __init__(self) -> None:
        """Start with the whole time."""
        self._left = MAX_DELAY

    @asynccontextmanager
    async def spent(self) -> AsyncIterator[None]:
        """Raise `TimeoutError` in this block when the time is used up."""
        started = time.monotonic()
        try:
            async with asyncio.timeout(self._left):
                yield
        finally:
            self._left -= time.monotonic() - started


def _storage_of(storage: object) -> Storage:
    """Return the asynchronous storage of a URI, or the storage object itself."""
    if isinstance(storage, str):
        uri = f"async+{storage.removeprefix('async+')}"
        scheme = uri.partition(":")[0]
        # Otherwise `limits` needs another client than this package does.
        options = {"implementation": "redispy"} if scheme.startswith("async+redis") else {}
        try:
            storage = storage_from_string(uri, **options)
        except ConfigurationError as error:  # Its message contains the URI, which may contain a password.
            message = str(error).replace(uri, scheme)
            raise ValueError(f"storage is not a URI of the library `limits`: {message}") from None
    if not isinstance(storage, Storage):
        raise TypeError(f"storage must be a URI or a storage of limits.aio.storage, not {type(storage).__name__}")
    return storage


def _parsed(limits: Iterable[str]) -> tuple[RateLimitItem, ...]:
    """Parse limits, and sort them by the length of their windows."""
    texts = (limits,) if isinstance(limits, str) else tuple(limits)
    try:
        parsed = [limit for text in texts for limit in parse_many(text)]
    except ValueError as error:
        raise ValueError(f'{error}; write a limit like "5/minute" or "100 per 2 hours"') from None
    if any(limit.amount < 1 for limit in parsed):
        raise ValueError("a limit must admit at least one attempt; an empty tuple switches a counter off")
    return tuple(sorted(parsed, key=RateLimitItem.get_expiry))


def _normalized(email: str) -> str:
    """Return one text for all spellings of an e-mail address that a database may regard as equal.

    Databases ignore case, and some also ignore accents and spaces at the end. If each spelling had its own counters, an
    attacker could begin anew with each.
    """
    decomposed = unicodedata.normalize("NFKD", email)
    return "".join(character for character in decomposed if not unicodedata.combining(character)).strip().casefold()


def _key(*parts: str) -> str:
    """Return a key that reveals none of its parts, and that no other parts have."""
    return sha256("\0".join(("fastapi-users-knox", *parts)).encode(errors="surrogatepass")).hexdigest()
