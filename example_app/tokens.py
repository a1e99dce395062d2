"""Where the tokens are: in the users' database, or in Redis if `REDIS_URL` is set."""

import os
import uuid
from typing import Annotated, Any
from urllib.parse import urlsplit

from fastapi import Depends
from redis.asyncio import BlockingConnectionPool, Redis, RedisCluster
from redis.asyncio.retry import Retry
from redis.backoff import EqualJitterBackoff
from sqlalchemy.ext.asyncio import AsyncSession

from example_app.db import KnoxToken, User, get_async_session
from fastapi_users_knox import TokenStore
from fastapi_users_knox.redis import RedisTokenStore
from fastapi_users_knox.sqlalchemy import SQLAlchemyTokenStore

REDIS_URL = os.environ.get("REDIS_URL")

Session = Annotated[AsyncSession, Depends(get_async_session)]


def connect(url: str) -> Redis | RedisCluster:
    """Create a client, which connects when it is first used.

    Args:
        url: A URL with `redis://`, `rediss://` for TLS, or `unix://`. For a cluster, a URL of any of its nodes with
            `redis+cluster://` or `rediss+cluster://`.
    """
    options: dict[str, Any] = {
        "socket_timeout": 1,
        "socket_connect_timeout": 1,
        "retry": Retry(EqualJitterBackoff(base=0.05, cap=0.5), retries=2),
    }
    if "+cluster" in urlsplit(url).scheme:
        return RedisCluster.from_url(url.replace("+cluster", "", 1), max_connections=1000, **options)
    # If all its connections are in use, this pool waits for one; redis-py's default pool raises an error.
    return Redis.from_pool(BlockingConnectionPool.from_url(url, timeout=1, **options))


redis = connect(REDIS_URL) if REDIS_URL else None


async def disconnect() -> None:
    """Close the connections to Redis, if there are any."""
    if redis is not None:
        await redis.aclose()


async def get_token_store(session: Session) -> TokenStore[User, uuid.UUID]:
    """Return the store: in Redis, or on the same session as the users."""
    return SQLAlchemyTokenStore(session, KnoxToken) if redis is None else RedisTokenStore(redis)


def place() -> str:
    """Describe where the tokens are, without the parts of the URL that may contain a password."""
    if not REDIS_URL:
        return "the same database"
    url = urlsplit(REDIS_URL)
    return f"Redis at {url.scheme}://{url.netloc.rpartition('@')[2]}{url.path}"
