"""A client that asks one node of a cluster for all the others."""

import os

from redis.asyncio import RedisCluster
from redis.asyncio.retry import Retry
from redis.backoff import EqualJitterBackoff

redis = RedisCluster.from_url(
    os.environ["REDIS_URL"],
    max_connections=1000,
    socket_timeout=1,
    socket_connect_timeout=1,
    retry=Retry(EqualJitterBackoff(base=0.05, cap=0.5), retries=2),
)
