"""Stores for users whose ids are no UUIDs; each application has its own prefix."""

from typing import Any

from redis.asyncio import Redis

from fastapi_users_knox.redis import RedisTokenStore

redis = Redis()

numbers = RedisTokenStore[Any, int](redis, parse_id=int, key_prefix="shop:")
texts = RedisTokenStore[Any, str](redis, parse_id=str, key_prefix="blog:")
