"""Stores for users whose ids are no UUIDs; each application has a prefix of its own, and each user table a name."""

from typing import Any

from redis.asyncio import Redis

from fastapi_users_knox.redis import RedisTokenStore

redis = Redis()

numbers = RedisTokenStore[Any, int](redis, parse_id=int, users="customer", key_prefix="shop:")
texts = RedisTokenStore[Any, str](redis, parse_id=str, users="author", key_prefix="blog:")
