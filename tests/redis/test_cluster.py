"""A cluster client that is configured to read from replicas still reads tokens from the masters."""

import uuid
from collections.abc import AsyncIterator
from contextlib import ExitStack
from typing import Any

import pytest
from redis.asyncio import RedisCluster
from redis.cluster import LoadBalancingStrategy

from tests.redis.knox import Knox
from tests.redis.people import MemoryUserDatabase, Person
from tests.redis_servers import ClusterServers

pytestmark = [pytest.mark.anyio, pytest.mark.filterwarnings("ignore:.*read_from_replicas:DeprecationWarning")]

OPTIONS: list[dict[str, Any]] = [
    {"read_from_replicas": True},
    {"load_balancing_strategy": LoadBalancingStrategy.RANDOM_REPLICA},
]


@pytest.fixture(params=OPTIONS, ids=["older", "newer"])
async def redis(request: pytest.FixtureRequest, redis_cluster_servers: ClusterServers) -> AsyncIterator[RedisCluster]:
    """Return a client that is configured to read from replicas."""
    async with RedisCluster.from_url(redis_cluster_servers.url(), **request.param) as redis:
        await redis.flushall()
        yield redis


async def test_no_verb_asks_a_replica(redis: RedisCluster, redis_cluster_servers: ClusterServers) -> None:
    """While all replicas are paused, every verb of the store works, and a revoked token is refused at once."""
    user = Person(id=uuid.uuid4(), email="ada@example.org")
    knox = Knox(redis=redis, users=MemoryUserDatabase(uuid.uuid4, {user.id: user}), user=user)

    with ExitStack() as stack:
        for replica in redis_cluster_servers.replicas:
            stack.enter_context(replica.paused())
        token = await knox.strategy().write_token(user)
        before = await knox.accepts(token)
        rotated = await knox.strategy().rotate_token(token, user)
        await knox.strategy().revoke(user, rotated.record.id)
        after = [await knox.accepts(text) for text in (token, rotated)]
        listed = await knox.strategy().list_records(user)
        ended = await knox.strategy().logout_all(user)

    assert before
    assert after == [False, False]
    assert (listed, ended) == ([], 0)
