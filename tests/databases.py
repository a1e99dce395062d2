"""The database of an application, on a backend that stores the tokens in SQL or in Redis."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from sqlalchemy.ext.asyncio import AsyncEngine

from tests.backends import Backend, RedisBackend
from tests.site import Database, RedisDatabase


@asynccontextmanager
async def database_on(engine: AsyncEngine, backend: Backend) -> AsyncIterator[Database]:
    """Yield the application's database, with the tokens in an empty Redis if the backend stores them there."""
    if not isinstance(backend, RedisBackend):
        yield Database(engine=engine)
        return
    async with backend.connect() as redis:
        await redis.flushall()
        yield RedisDatabase(engine=engine, redis=redis)
