"""One counter of attempts: its limits, its key, and how long to wait once a limit is exceeded."""

import time
import unicodedata
from collections.abc import Iterable
from dataclasses import dataclass
from hashlib import sha256
from math import ceil

from limits import RateLimitItem, parse_many
from limits.aio.strategies import FixedWindowRateLimiter

from fastapi_users_knox import errors
from fastapi_users_knox.errors import TooManyAttempts

__all__ = ["Counter", "Limits", "Name", "key_of", "normalized", "parsed"]

Name = errors.Counter
Limits = tuple[RateLimitItem, ...]

_MAX_LENGTH = 320  # characters: FastAPI-Users' column, and the longest address of RFC 5321 §4.5.3.1

_ROUNDING = 0.5  # Redis reports the rest of a window rounded to whole seconds, so this much may be missing.


@dataclass(frozen=True, kw_only=True)
class Counter:
    """One counter with its limits, which differ in the length of their windows.

    Attributes:
        name: What it counts.
        limits: The limits, beginning with the shortest window. An attempt that a short window refuses does not count in
            a longer one.
        key: The key in the storage.
    """

    name: Name
    limits: Limits
    key: str

    async def count(self, limiter: FixedWindowRateLimiter) -> TooManyAttempts | None:
        """Count an attempt, and return an error if it exceeds a limit."""
        for limit in self.limits:
            if not await limiter.hit(limit, self.key):
                return await self._refusal(limiter, exceeded=limit)
        return None

    async def check(self, limiter: FixedWindowRateLimiter) -> TooManyAttempts | None:
        """Return an error if a limit has no attempts left. Nothing is counted, and no key is created."""
        for limit in self.limits:
            if not await limiter.test(limit, self.key):
                return await self._refusal(limiter, exceeded=limit)
        return None

    async def reset(self, limiter: FixedWindowRateLimiter) -> None:
        """Start new windows."""
        for limit in self.limits:
            await limiter.clear(limit, self.key)

    async def _refusal(self, limiter: FixedWindowRateLimiter, *, exceeded: RateLimitItem) -> TooManyAttempts:
        """Return the error of an attempt that exceeds a limit."""
        retry_after = await self._retry_after(limiter, exceeded=exceeded)
        return TooManyAttempts(retry_after=retry_after, counter=self.name, limit=repr(exceeded))

    async def _retry_after(self, limiter: FixedWindowRateLimiter, *, exceeded: RateLimitItem) -> int:
        """Return the number of seconds, rounded up, until no window is exhausted."""
        waits = [1]
        for limit in self.limits[self.limits.index(exceeded) :]:
            reset_time, remaining = await limiter.get_window_stats(limit, self.key)
            if remaining <= 0:
                waits.append(ceil(reset_time - time.time() + _ROUNDING))
        return max(waits)


def parsed(limits: Iterable[str]) -> Limits:
    """Parse limits, and sort them by the length of their windows."""
    texts = (limits,) if isinstance(limits, str) else tuple(limits)
    try:
        parsed = [limit for text in texts for limit in parse_many(text)]
    except ValueError as error:
        raise ValueError(f'{error}; write a limit like "5/minute" or "100 per 2 hours"') from None
    if any(limit.amount < 1 for limit in parsed):
        raise ValueError("a limit must admit at least one attempt; an empty tuple switches a counter off")
    return tuple(sorted(parsed, key=RateLimitItem.get_expiry))


def normalized(email: str) -> str:
    """Return one text for all spellings of an e-mail address that a database may regard as equal.

    Databases ignore case, and some also ignore accents, invisible characters and spaces at the end. If each spelling
    had its own counters, an attacker could begin anew with each. A text that is too long for an address is returned as
    it is, because nobody has it, and because normalising a long run of accents takes very long.
    """
    if len(email) > _MAX_LENGTH:
        return email
    decomposed = unicodedata.normalize("NFKD", email)
    return "".join(filter(_counts, decomposed)).strip().casefold()


def _counts(character: str) -> bool:
    """Return whether a character distinguishes addresses: no accent, and not invisible."""
    return not unicodedata.combining(character) and unicodedata.category(character) not in {"Cc", "Cf"}


def key_of(*parts: str) -> str:
    """Return a key that reveals none of its parts, and that no other parts have."""
    return sha256("\0".join(("fastapi-users-knox", *parts)).encode(errors="surrogatepass")).hexdigest()
