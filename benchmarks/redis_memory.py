"""Measure how many bytes a token takes in Redis: `python -m benchmarks.redis_memory [tokens]`.

It starts a Redis of its own, and asks it for its `used_memory` before and after: so keys, values, indexes, expiries and
the tables of keys all count. Each user has three tokens; each has been used once, so `last_used_at` is there.
"""

import asyncio
import sys
import uuid
from collections.abc import Awaitable, Callable, Mapping
from datetime import UTC, datetime, timedelta

from fastapi_users.authentication.strategy.redis import RedisStrategy
from redis.asyncio import Redis

from fastapi_users_knox import ClientInfo, Found, TokenRecord, tokens
from fastapi_users_knox.redis import RedisTokenStore
from tests.redis.people import Person
from tests.redis_servers import redis

TOKENS_PER_USER = 3
NOW = datetime(2030, 1, 1, tzinfo=UTC)
LATER = NOW + timedelta(minutes=5)
TTL = timedelta(hours=10)
BROWSER = ClientInfo(
    user_agent="Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/149.0.0.0 Safari/537.36",
    ip_address="2001:db8:85a3::8a2e:370:7334",
)


async def log_in_by_knox(client: Redis, user_id: uuid.UUID, about: ClientInfo) -> None:
    """Store a token and use it."""
    store: RedisTokenStore[Person[uuid.UUID], uuid.UUID] = RedisTokenStore(client)
    digest = tokens.digest(tokens.generate(tokens.routing_tag(user_id), prefix="knox_"))
    record = TokenRecord(
        id=uuid.uuid4(),
        user_id=user_id,
        audience="",
        created_at=NOW,
        expires_at=NOW + TTL,
        user_agent=about.user_agent,
        ip_address=about.ip_address,
    )
    await store.add(record, digest, now=NOW)
    found: Found[Person[uuid.UUID], uuid.UUID] = Found(record=record, digest=digest)
    await store.renew(found, now=LATER, unused_since=LATER, expires_at=LATER + TTL)


async def log_in_by_knox_alone(client: Redis, user_id: uuid.UUID) -> None:
    """Store a token of which no client is known."""
    await log_in_by_knox(client, user_id, ClientInfo())


async def log_in_by_knox_with_browser(client: Redis, user_id: uuid.UUID) -> None:
    """Store a token with what is known of a browser."""
    await log_in_by_knox(client, user_id, BROWSER)


async def log_in_by_redis_strategy(client: Redis, user_id: uuid.UUID) -> None:
    """Store a token as FastAPI-Users does."""
    strategy: RedisStrategy[Person[uuid.UUID], uuid.UUID] = RedisStrategy(client, int(TTL.total_seconds()))
    await strategy.write_token(Person(id=user_id, email=""))


KINDS: Mapping[str, Callable[[Redis, uuid.UUID], Awaitable[None]]] = {
    "RedisTokenStore": log_in_by_knox_alone,
    "RedisTokenStore, with User-Agent and address": log_in_by_knox_with_browser,
    "RedisStrategy": log_in_by_redis_strategy,
}


async def measure(url: str, log_in: Callable[[Redis, uuid.UUID], Awaitable[None]], users: int) -> float:
    """Return the bytes that each token takes, of users with three tokens each."""
    async with Redis.from_url(url, max_connections=1) as client:
        await client.flushall()
        await log_in(client, uuid.uuid4())  # So that scripts and buffers are there.
        await client.flushall()
        before = (await client.info("memory"))["used_memory"]
        for _ in range(users):
            user_id = uuid.uuid4()
            for _ in range(TOKENS_PER_USER):
                await log_in(client, user_id)
        after = (await client.info("memory"))["used_memory"]
    return float(after - before) / (users * TOKENS_PER_USER)


def main(tokens_in_all: int) -> dict[str, float]:
    """Measure and print all kinds, on one server."""
    with redis("any") as server:
        version = server.facts("INFO", "server")["redis_version"]
        print(f"Redis {version}, {tokens_in_all} tokens, {TOKENS_PER_USER} a user; bytes a token:")  # noqa: T201
        figures = {}
        for kind, log_in in KINDS.items():
            figures[kind] = asyncio.run(measure(server.url(), log_in, tokens_in_all // TOKENS_PER_USER))
            print(f"{figures[kind]:8.0f}  {kind}")  # noqa: T201
    return figures


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 100_000)
