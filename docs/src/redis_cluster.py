"""The tokens, in a cluster; REDIS_URL names one of its nodes, which knows the other nodes."""

import os
import uuid

from fastapi_users_knox.redis import RedisTokenStore
from redis.asyncio import RedisCluster
from redis.asyncio.retry import Retry
from redis.backoff import EqualJitterBackoff

from db import User

redis = RedisCluster.from_url(
    os.environ.get("REDIS_URL", "redis://localhost:6379"),
    max_connections=1000,
    socket_timeout=1,
    socket_connect_timeout=1,
    retry=Retry(EqualJitterBackoff(base=0.05, cap=0.5), retries=2),
)


async def get_token_store() -> RedisTokenStore[User, uuid.UUID]:
    """Return the store of the tokens."""
    return RedisTokenStore(redis)
