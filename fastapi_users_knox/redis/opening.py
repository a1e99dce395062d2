"""A token store on a client of its own, for programs that are not part of an application."""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

from redis.asyncio import Redis, RedisCluster

from fastapi_users_knox.redis.store import RedisTokenStore

__all__ = ["open_store"]


@asynccontextmanager
async def open_store(
    url: str, *, is_cluster: bool, parse_id: Callable[[str], Any], users: str, key_prefix: str
) -> AsyncIterator[RedisTokenStore[Any, Any]]:
    """Open a store in Redis, and close its connections at the end of the block.

    Args:
        url: The URL of the server, or of any node of a cluster.
        is_cluster: Whether it is a cluster.
        parse_id: A function from the text of a user's id to the id.
        users: The name of the user table in the keys.
        key_prefix: The beginning of all keys.
    """
    client = RedisCluster.from_url(url) if is_cluster else Redis.from_url(url)
    try:
        yield RedisTokenStore(client, parse_id=parse_id, users=users, key_prefix=key_prefix)
    finally:
        await client.aclose()
