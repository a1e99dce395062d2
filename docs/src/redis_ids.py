"""Stores for users with integer and string ids, each with the name of its user table."""

from typing import Any

from fastapi_users_knox.redis import RedisTokenStore
from redis.asyncio import Redis

redis = Redis()

numbers = RedisTokenStore[Any, int](redis, parse_id=int, users="customer", key_prefix="shop:")
texts = RedisTokenStore[Any, str](redis, parse_id=str, users="author", key_prefix="blog:")
