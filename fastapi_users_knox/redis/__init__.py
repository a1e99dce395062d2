"""Tokens in Redis: the store."""

from fastapi_users_knox.redis.store import RedisTokenStore

__all__ = ["RedisTokenStore"]
