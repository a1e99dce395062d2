"""The throttle, whose storage is a Redis server with a connection of its own."""

import os

from fastapi_users_knox.throttling import LoginThrottle
from limits.aio.storage import RedisStorage

storage = RedisStorage(
    f"async+{os.environ.get('REDIS_URL', 'redis://localhost:6379')}",
    implementation="redispy",
    key_prefix="shop",
    socket_connect_timeout=0.3,
    socket_timeout=0.3,
)
throttle = LoginThrottle(
    storage,
    per_account_and_address=("5/minute", "20/hour"),
    per_address=("500/hour",),
    per_account=("100/hour", "1000/day"),
)
