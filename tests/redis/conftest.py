"""Fixtures of the Redis store's tests: each kind of server, empty, with a client and one user."""

import uuid
from collections.abc import AsyncIterator

import pytest
from redis.asyncio import Redis

from tests.redis.knox import Knox
from tests.redis.people import MemoryUserDatabase, Person
from tests.redis_servers import RedisServer


@pytest.fixture(params=["redis_6_server", "redis_7_server", "valkey_server"])
def server(request: pytest.FixtureRequest) -> RedisServer:
    """Return each kind of server."""
    server: RedisServer = request.getfixturevalue(request.param)
    return server


@pytest.fixture
async def redis(server: RedisServer) -> AsyncIterator[Redis]:
    """Return a client of an empty server."""
    async with Redis.from_url(server.url(), decode_responses=True) as redis:
        await redis.flushall()
        yield redis


@pytest.fixture
def knox(redis: Redis) -> Knox[uuid.UUID]:
    """Return a user and the strategies for the user's tokens."""
    user = Person(id=uuid.uuid4(), email="ada@example.org")
    return Knox(redis=redis, users=MemoryUserDatabase(uuid.uuid4, {user.id: user}), user=user)
