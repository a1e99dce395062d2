"""Delete the expired tokens' rows."""

import asyncio
import uuid

from example_app.db import KnoxToken, User, async_session_maker
from example_app.users import settings
from fastapi_users_knox import KnoxStrategy
from fastapi_users_knox.sqlalchemy import SQLAlchemyTokenStore


async def purge() -> int:
    """Delete them, a thousand in one transaction."""
    async with async_session_maker() as session:
        store = SQLAlchemyTokenStore[User, uuid.UUID](session, KnoxToken)
        return await KnoxStrategy(store, settings, request=None).purge()


if __name__ == "__main__":
    print(asyncio.run(purge()), "expired tokens deleted")  # noqa: T201
