"""A replica may not have received a revocation yet, so no verb of the store is answered by it."""

from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import Any
from uuid import uuid4

import pytest
from redis.asyncio import Redis

from fastapi_users_knox import Found, StoreUnavailable
from fastapi_users_knox.redis import RedisTokenStore
from fastapi_users_knox.testing.contract import add, new_digest, new_record, presented
from tests.backends import NOW
from tests.redis_servers import SentinelServers

pytestmark = pytest.mark.anyio

SECOND = timedelta(seconds=1)

Store = RedisTokenStore[Any, Any]
VERBS: dict[str, Callable[[Store, Found[Any, Any]], Awaitable[Any]]] = {
    "add": lambda store, found: add(store, new_record(found.record.user_id)),
    "add to a full account": lambda store, found: add(store, new_record(found.record.user_id), limit=1),
    "get": lambda store, found: store.get(
        presented(found.record.user_id, found.digest), audience=found.record.audience
    ),
    "get what is unknown": lambda store, _found: store.get(presented("nobody", new_digest()), audience="web"),
    "rotate": lambda store, found: store.rotate(found, new_digest(), now=NOW),
    "rotate what is gone": lambda store, found: store.rotate(
        Found(record=found.record, digest=new_digest()), new_digest(), now=NOW
    ),
    "remove": lambda store, found: store.remove(found.record.user_id, found.record.id, audience="web", now=NOW),
    "remove_all of nothing": lambda store, _found: store.remove_all(uuid4(), audience="web", now=NOW),
    "list": lambda store, found: store.list(found.record.user_id, audience="web", now=NOW),
}


@pytest.mark.parametrize("verb", VERBS)
async def test_a_replica_answers_no_verb(redis_sentinel_servers: SentinelServers, verb: str) -> None:
    """On a replica, every verb raises `StoreUnavailable`, whether the replica has the record or not."""
    async with Redis.from_url(redis_sentinel_servers.master.url()) as master:
        await master.flushall()
        found = await add(RedisTokenStore(master), new_record(uuid4()))
        await master.wait(1, 0)

        async with Redis.from_url(redis_sentinel_servers.replica.url()) as replica:
            with pytest.raises(StoreUnavailable):
                await VERBS[verb](RedisTokenStore(replica), found)


async def test_a_replica_writes_no_use(redis_sentinel_servers: SentinelServers) -> None:
    """On a replica, a renewal writes nothing and raises nothing."""
    async with (
        Redis.from_url(redis_sentinel_servers.master.url()) as master,
        Redis.from_url(redis_sentinel_servers.replica.url()) as replica,
    ):
        await master.flushall()
        found = await add(RedisTokenStore(master), new_record(uuid4()))
        await master.wait(1, 0)

        assert not await RedisTokenStore(replica).renew(found, now=NOW + 2 * SECOND, unused_since=NOW + SECOND)
