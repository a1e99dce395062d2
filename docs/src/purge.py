"""Delete the rows of expired tokens."""

import asyncio
import uuid

from fastapi_users_knox import KnoxStrategy
from fastapi_users_knox.sqlalchemy import SQLAlchemyTokenStore

from db import KnoxToken, User, async_session_maker
from settings import settings


async def purge() -> int:
    """Delete expired rows, a thousand in each transaction, and return the number of deleted rows."""
    async with async_session_maker() as session:
        store = SQLAlchemyTokenStore[User, uuid.UUID](session, KnoxToken)
        return await KnoxStrategy(store, settings, request=None).purge()


if __name__ == "__main__":
    print(asyncio.run(purge()), "expired tokens deleted")
