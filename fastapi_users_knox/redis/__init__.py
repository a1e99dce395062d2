"""The token store over Redis."""

from fastapi_users_knox.redis.store import RedisTokenStore

__all__ = ["RedisTokenStore"]
