"""Measure the bytes that a token takes in Redis, and in PostgreSQL including the indexes.

In Redis, this is the growth of `used_memory`, so keys, values, indexes, expiry times and the tables of keys count.
Each user has three tokens. Each token of `KnoxStrategy` has been used once, so it has a `last_used_at`.
"""

import asyncio
import secrets
import uuid
from collections.abc import Awaitable, Callable, Iterator, Mapping
from datetime import timedelta
from functools import partial
from math import ceil
from typing import Any, cast

from fastapi_users.authentication import RedisStrategy
from redis.asyncio import Redis
from sqlalchemy import Table, func, insert, select
from sqlalchemy.ext.asyncio import AsyncEngine

from benchmarks.filling import BROWSED, NOW, TOKENS_PER_USER, Place, create_users, fill
from benchmarks.measure import Scale, Series, Servers
from benchmarks.models import AccessToken, KnoxToken, User
from benchmarks.peers import DATABASE, KNOX_REDIS, KNOX_SQL, LIFETIME, REDIS, SCOPES
from benchmarks.setting import client, database
from fastapi_users_knox import ClientInfo

CASE = "memory"
WITH_CLIENT = ", with User-Agent and address"
WITH_SCOPES = ", with a name, two scopes and some data"
OF_API_TOKEN: dict[str, Any] = {
    "name": "nightly report",
    "scopes": frozenset(SCOPES),
    "data": {"team": "finance", "created_by": 17},
}
USED_AT = NOW + timedelta(minutes=5)

_CHUNK = 10_000
# Redis moves its keys to a larger table step by step, at each lookup.
_GROW = "for _ = 1, 2 * redis.call('DBSIZE') do redis.call('RANDOMKEY') end"

Fill = Callable[[int], Awaitable[object]]


def measure(servers: Servers, scale: Scale) -> Iterator[Series]:
    """Measure Redis, with the users in any database, and PostgreSQL."""
    if servers.redis is not None:
        some = next(iter(servers.databases.values()))
        yield from _series("Redis", asyncio.run(_redis_bytes(some, servers.redis, scale.stored)))
    if "PostgreSQL" in servers.databases:
        yield from _series("PostgreSQL", asyncio.run(_postgresql_bytes(servers.databases["PostgreSQL"], scale.stored)))


def _series(group: str, sizes: Mapping[str, float]) -> Iterator[Series]:
    for subject, size in sizes.items():
        yield Series(case=CASE, group=group, subject=subject, unit="bytes", values=(size,))


async def _redis_bytes(url: str, redis_url: str, count: int) -> dict[str, float]:
    async with database(url) as engine, client(redis_url) as redis:
        assert redis is not None
        place = Place(engine=engine, redis=redis)
        kinds: dict[str, Fill] = {
            KNOX_REDIS: partial(fill, place, client=ClientInfo(), last_used_at=USED_AT),
            KNOX_REDIS + WITH_CLIENT: partial(fill, place, last_used_at=USED_AT),
            KNOX_REDIS + WITH_SCOPES: partial(fill, place, client=ClientInfo(), last_used_at=USED_AT, **OF_API_TOKEN),
            REDIS: partial(_fill_redis_strategy, redis),
        }
        return {kind: await _grown(redis, keep, count) for kind, keep in kinds.items()}


async def _grown(redis: Redis, keep: Fill, count: int) -> float:
    """Return by how many bytes an empty Redis grows for each token."""
    before = after = 0
    for size in (1000, count):  # The first turn allocates what Redis needs only once.
        await redis.flushall()
        before = await _used(redis)
        await keep(size)
        after = await _used(redis)
    return (after - before) / count


async def _used(redis: Redis) -> int:
    """Return the bytes that Redis uses, without its buffers for large commands and for the growth of its tables."""
    await redis.eval(_GROW, 0)
    await redis.connection_pool.disconnect()
    return int((await redis.info("memory"))["used_memory"])


async def _fill_redis_strategy(redis: Redis, count: int) -> None:
    """Log in with `RedisStrategy`, on a pipeline instead of the client."""
    users = _users(count)
    for start in range(0, count, _CHUNK):
        async with redis.pipeline(transaction=False) as pipeline:
            strategy: RedisStrategy[User, uuid.UUID] = RedisStrategy(pipeline, LIFETIME)
            for number in range(start, min(start + _CHUNK, count)):
                await strategy.write_token(User(id=users[number % len(users)]))
            await pipeline.execute()


async def _postgresql_bytes(url: str, count: int) -> dict[str, float]:
    kinds: dict[str, tuple[str, Callable[[AsyncEngine], Awaitable[object]]]] = {
        KNOX_SQL: (KnoxToken.__tablename__, partial(_fill_sql, count=count, about=ClientInfo())),
        KNOX_SQL + WITH_CLIENT: (KnoxToken.__tablename__, partial(_fill_sql, count=count, about=BROWSED)),
        KNOX_SQL + WITH_SCOPES: (
            KnoxToken.__tablename__,
            partial(_fill_sql, count=count, about=ClientInfo(), **OF_API_TOKEN),
        ),
        DATABASE: (AccessToken.__tablename__, partial(_fill_database_strategy, count=count)),
    }
    sizes = {}
    for kind, (table, keep) in kinds.items():
        async with database(url) as engine:
            await keep(engine)
            sizes[kind] = await _size(engine, table) / count
    return sizes


async def _fill_sql(engine: AsyncEngine, *, count: int, about: ClientInfo, **fields: Any) -> None:
    await fill(Place(engine=engine), count, client=about, last_used_at=USED_AT, **fields)


async def _fill_database_strategy(engine: AsyncEngine, *, count: int) -> None:
    """Store tokens as `DatabaseStrategy` does."""
    users = _users(count)
    await create_users(engine, users)
    async with engine.begin() as connection:
        for start in range(0, count, _CHUNK):
            numbers = range(start, min(start + _CHUNK, count))
            rows = [{"token": secrets.token_urlsafe(), "user_id": users[number % len(users)]} for number in numbers]
            await connection.execute(insert(cast("Table", AccessToken.__table__)), rows)


def _users(count: int) -> list[uuid.UUID]:
    return [uuid.uuid4() for _ in range(ceil(count / TOKENS_PER_USER))]


async def _size(engine: AsyncEngine, table: str) -> int:
    """Return the bytes of a table and its indexes."""
    async with engine.connect() as connection:
        return int((await connection.execute(select(func.pg_total_relation_size(table)))).scalar_one())
