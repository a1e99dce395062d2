"""A token store on an engine of its own, for programs that are not part of an application."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from sqlalchemy.ext.asyncio import AsyncSession, create_async_engine

from fastapi_users_knox.sqlalchemy.store import SQLAlchemyTokenStore

__all__ = ["open_store"]


@asynccontextmanager
async def open_store(url: str, table: type[Any]) -> AsyncIterator[SQLAlchemyTokenStore[Any, Any]]:
    """Open a store in a database, and close its connections at the end of the block.

    Args:
        url: The URL of the database, with an asynchronous driver.
        table: The mapped class of the token records.
    """
    engine = create_async_engine(url)
    try:
        async with AsyncSession(engine, expire_on_commit=False) as session:
            yield SQLAlchemyTokenStore(session, table)
    finally:
        await engine.dispose()
