"""The tokens, in the Redis that the sentinels name as the master."""

import uuid

from fastapi_users_knox.redis import RedisTokenStore
from redis.asyncio.retry import Retry
from redis.asyncio.sentinel import Sentinel
from redis.backoff import EqualJitterBackoff

from db import User

TIMEOUTS = {"socket_timeout": 1, "socket_connect_timeout": 1}
SENTINELS = [("sentinel-1", 26379), ("sentinel-2", 26379), ("sentinel-3", 26379)]

sentinel = Sentinel(SENTINELS, sentinel_kwargs=TIMEOUTS, **TIMEOUTS)
redis = sentinel.master_for(
    "mymaster", retry=Retry(EqualJitterBackoff(base=0.05, cap=0.5), retries=2), max_connections=1000
)


async def get_token_store() -> RedisTokenStore[User, uuid.UUID]:
    """Return the store of the tokens."""
    return RedisTokenStore(redis)
