"""Fixtures for the Redis store's own tests: one client, an empty Redis, and one user of it."""

import uuid
from collections.abc import AsyncIterator

import pytest
from redis.asyncio import Redis

from tests.redis.knox import Knox
from tests.redis.people import MemoryUserDatabase, Person
from tests.redis_servers import RedisServer


@pytest.fixture(params=["redis_6_server", "redis_7_server", "valkey_server"])
def server(request: pytest.FixtureRequest) -> RedisServer:
    """Give each kind of server."""
    server: RedisServer = request.getfixturevalue(request.param)
    return server


@pytest.fixture
async def redis(server: RedisServer) -> AsyncIterator[Redis]:
    """Give a client, and an empty Redis."""
    async with Redis.from_url(server.url(), decode_responses=True) as redis:
        await redis.flushall()
        yield redis


@pytest.fixture
def knox(redis: Redis) -> Knox[uuid.UUID]:
    """Give a user and strategies."""
    user = Person(id=uuid.uuid4(), email="ada@example.org")
    return Knox(redis=redis, users=MemoryUserDatabase(uuid.uuid4, {user.id: user}), user=user)
