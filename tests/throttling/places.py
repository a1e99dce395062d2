"""The storages in which attempts are counted. `limits` has no clock to set, so the tests move the windows instead."""

from collections.abc import AsyncIterator, Callable, Collection
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any, Protocol

from limits.aio.storage import MemoryStorage, Storage
from redis.asyncio import Redis

from fastapi_users_knox import TooManyAttempts
from fastapi_users_knox.errors import KnownBy
from fastapi_users_knox.throttling import LoginThrottle

ADA, EVE = "ada@example.org", "eve@example.org"
HOME, ELSEWHERE = "192.0.2.1", "198.51.100.7"


class Place(Protocol):
    """A storage, empty at first."""

    def throttle(self, **options: Any) -> LoginThrottle:
        """Return a throttle that counts in this storage."""
        ...

    async def let_pass(self, seconds: float) -> None:
        """Move the end of each window so much nearer, as if this time had passed."""
        ...

    async def keys(self) -> Collection[str]:
        """Return all keys in the storage."""
        ...


@dataclass(frozen=True)
class MemoryPlace:
    """The memory of this process."""

    storage: MemoryStorage

    def throttle(self, **options: Any) -> LoginThrottle:
        """Return a throttle that counts in this storage."""
        return LoginThrottle(self.storage, **options)

    async def let_pass(self, seconds: float) -> None:
        """Move the end of each window."""
        for key in self.storage.expirations:
            self.storage.expirations[key] -= seconds

    async def keys(self) -> Collection[str]:
        """Return all keys."""
        return list(self.storage.storage)


@dataclass(frozen=True)
class RedisPlace:
    """A server, with the client with which the test looks at it."""

    storage: Storage
    redis: Redis

    def throttle(self, **options: Any) -> LoginThrottle:
        """Return a throttle that counts in this storage."""
        return LoginThrottle(self.storage, **options)

    async def let_pass(self, seconds: float) -> None:
        """Move the end of each window; the server deletes a key whose remaining time is not positive."""
        for key in await self.keys():
            left = await self.redis.pttl(key)
            await self.redis.pexpire(key, left - round(seconds * 1000))

    async def keys(self) -> Collection[str]:
        """Return all keys."""
        return [str(key) for key in await self.redis.keys()]


@asynccontextmanager
async def memory() -> AsyncIterator[Place]:
    """Open a storage in memory."""
    yield MemoryPlace(MemoryStorage())


@asynccontextmanager
async def on_server(url: str, scheme: str) -> AsyncIterator[Place]:
    """Open a storage on an emptied server, by a URI of this scheme."""
    async with Redis.from_url(url, decode_responses=True) as redis:
        await redis.flushall()
        throttle = LoginThrottle(url.replace("redis://", scheme))
        async with closing(throttle):
            yield RedisPlace(throttle.storage, redis)


@asynccontextmanager
async def closing(throttle: LoginThrottle) -> AsyncIterator[LoginThrottle]:
    """Close the connections that a throttle has opened from a URI of a server."""
    yield throttle
    storage: Any = throttle.storage
    await storage.bridge.get_connection().aclose()


PLACES: dict[str, tuple[str | None, Callable[..., AbstractAsyncContextManager[Place]]]] = {
    "memory": (None, memory),
    "redis-6.2": ("redis_6_server", partial(on_server, scheme="redis://")),
    "redis-7": ("redis_7_server", partial(on_server, scheme="redis://")),
    "valkey": ("valkey_server", partial(on_server, scheme="redis://")),
    "valkey-client": ("valkey_server", partial(on_server, scheme="valkey://")),
}


async def nothing() -> KnownBy:
    """Say that the client is not known."""
    return None


async def attempt(throttle: LoginThrottle, email: str = ADA, address: str | None = HOME, **options: Any) -> str:
    """Make an attempt, and return "admitted", or the counter and the limit that refused it."""
    try:
        await throttle.admit(email, address, **{"purpose": "login", "known_by": nothing, **options})
    except TooManyAttempts as refused:
        return f"{refused.counter}: {refused.limit}"
    return "admitted"


async def refusal(throttle: LoginThrottle, email: str = ADA, address: str | None = HOME) -> TooManyAttempts:
    """Make attempts until one is refused, and return the error."""
    while True:
        try:
            await throttle.admit(email, address, purpose="login", known_by=nothing)
        except TooManyAttempts as refused:
            return refused
