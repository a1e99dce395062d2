"""The strategy with which operators work on the command line."""

import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fastapi_users_knox import KnoxStrategy
from fastapi_users_knox.sqlalchemy import SQLAlchemyTokenStore

from db import KnoxToken, User, async_session_maker
from settings import settings


@asynccontextmanager
async def open_strategy() -> AsyncIterator[KnoxStrategy[User, uuid.UUID]]:
    """Open a session and a strategy for one command."""
    async with async_session_maker() as session:
        store = SQLAlchemyTokenStore[User, uuid.UUID](session, KnoxToken)
        yield KnoxStrategy(store, settings, request=None)
