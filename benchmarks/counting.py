"""Count the SQL statements and the round trips to Redis."""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass

from redis.asyncio import Redis
from redis.asyncio.connection import parse_url
from sqlalchemy.ext.asyncio import AsyncEngine

from tests.proxy import Proxy
from tests.strategies import sent_to

Act = Callable[[], Awaitable[object]]


@dataclass(frozen=True, kw_only=True)
class Counter:
    """A database and a Redis server whose statements and commands are counted.

    Attributes:
        engine: The engine whose statements are counted.
        redis: The client whose commands are counted; `None` without Redis.
        proxy: The proxy that counts the commands.
    """

    engine: AsyncEngine
    redis: Redis | None = None
    proxy: Proxy | None = None

    async def count(self, act: Act) -> tuple[int, int]:
        """Return how many statements and how many round trips an act takes, without BEGIN and COMMIT."""
        if self.proxy is not None:
            self.proxy.drop(0)
        with sent_to(self.engine) as statements:
            await act()
        sent = sum(not statement.startswith("BEGIN") for statement in statements)  # Only on SQLite is BEGIN visible.
        return sent, 0 if self.proxy is None else self.proxy.commands


@asynccontextmanager
async def counter(engine: AsyncEngine, redis_url: str | None) -> AsyncIterator[Counter]:
    """Count the statements of a database and the commands of a Redis server."""
    if redis_url is None:
        yield Counter(engine=engine)
        return
    address = parse_url(redis_url)
    async with (
        Proxy(address["host"], address["port"]) as proxy,
        Redis.from_url(proxy.url(), decode_responses=True) as redis,
    ):
        yield Counter(engine=engine, redis=redis, proxy=proxy)
