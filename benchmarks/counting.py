"""Count what is asked of a server: SQL statements, and round trips to Redis."""

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
    """A database and a Redis, and who listens in on both.

    Attributes:
        engine: The engine of which the statements are counted.
        redis: The client of which the commands are counted; `None`: there is no Redis.
        proxy: Where those pass.
    """

    engine: AsyncEngine
    redis: Redis | None = None
    proxy: Proxy | None = None

    async def count(self, act: Act) -> tuple[int, int]:
        """Return how many statements and how many round trips an act takes, BEGIN and COMMIT not counted."""
        if self.proxy is not None:
            self.proxy.drop(0)
        with sent_to(self.engine) as statements:
            await act()
        asked = sum(not statement.startswith("BEGIN") for statement in statements)  # Drivers send it unseen elsewhere.
        return asked, 0 if self.proxy is None else self.proxy.commands


@asynccontextmanager
async def counter(engine: AsyncEngine, redis_url: str | None) -> AsyncIterator[Counter]:
    """Listen in on a database and a Redis."""
    if redis_url is None:
        yield Counter(engine=engine)
        return
    address = parse_url(redis_url)
    async with (
        Proxy(address["host"], address["port"]) as proxy,
        Redis.from_url(proxy.url(), decode_responses=True) as redis,
    ):
        yield Counter(engine=engine, redis=redis, proxy=proxy)
