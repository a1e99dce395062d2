"""A client that asks the sentinels which Redis is the master."""

from redis.asyncio.retry import Retry
from redis.asyncio.sentinel import Sentinel
from redis.backoff import EqualJitterBackoff

TIMEOUTS = {"socket_timeout": 1, "socket_connect_timeout": 1}
SENTINELS = [("sentinel-1", 26379), ("sentinel-2", 26379), ("sentinel-3", 26379)]

sentinel = Sentinel(SENTINELS, sentinel_kwargs=TIMEOUTS, **TIMEOUTS)
redis = sentinel.master_for(
    "mymaster", retry=Retry(EqualJitterBackoff(base=0.05, cap=0.5), retries=2), max_connections=1000
)
