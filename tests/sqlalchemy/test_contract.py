"""The store contract, on every SQL database and driver."""

import uuid
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

import pytest
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession, create_async_engine

from fastapi_users_knox.sqlalchemy import SQLAlchemyTokenStore
from fastapi_users_knox.testing.contract import OpenStore, TokenStoreContract
from tests.backends import Backend
from tests.models import User, create_user, store_on

Store = SQLAlchemyTokenStore[User, uuid.UUID]


class SQLAlchemyTokenStoreContract(TokenStoreContract):
    """What the contract needs of SQL."""

    @pytest.fixture
    def open_store(self, engine: AsyncEngine) -> OpenStore:
        """Open a store on a session of its own."""

        @asynccontextmanager
        async def open_store() -> AsyncIterator[Store]:
            async with AsyncSession(engine) as session:
                yield store_on(session)

        return open_store

    @pytest.fixture
    async def user_ids(self, engine: AsyncEngine) -> Sequence[uuid.UUID]:
        """Create two users."""
        async with AsyncSession(engine, expire_on_commit=False) as session:
            return [(await create_user(session)).id for _ in range(2)]

    @pytest.fixture
    async def lost_store(self, any_backend: Backend) -> AsyncIterator[Store]:
        """Open a store where nothing answers."""
        engine = create_async_engine(any_backend.lost_url)
        async with AsyncSession(engine) as session:
            yield store_on(session)
        await engine.dispose()


@pytest.mark.unmeasured
class TestSQLAlchemyTokenStore(SQLAlchemyTokenStoreContract):
    """The SQL store keeps every promise."""


@pytest.mark.parametrize("any_backend", ["mariadb", "postgresql-asyncpg"], indirect=True)
class TestWithoutReturning(SQLAlchemyTokenStoreContract):
    """The store keeps every promise where a DELETE returns nothing, as on MySQL 8."""

    @pytest.fixture
    async def engine(self, engine: AsyncEngine) -> AsyncEngine:
        """Let the database, once it is known, pass for one that has no DELETE ... RETURNING."""
        engine.dialect.delete_returning = False
        return engine
