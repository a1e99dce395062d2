"""The store contract, on every SQL database and driver."""

import inspect
import uuid
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import ClassVar

import pytest
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession, create_async_engine
from sqlalchemy.pool import QueuePool

from fastapi_users_knox.sqlalchemy import SQLAlchemyTokenStore
from fastapi_users_knox.testing.contract import CALLERS, OpenStore, TokenStoreContract
from tests.backends import MEMORY, SERVERS, SQLITE, Backend
from tests.conftest import backend_of
from tests.models import User, create_empty_tables, store_on

Store = SQLAlchemyTokenStore[User, uuid.UUID]

# Each way to write and to lock: what the store does at each isolation level, and in SQLite's modes, differs where
# several connections meet.
EVERY = (*SQLITE, *MEMORY, *SERVERS)
# Each dialect and driver. On one connection, the isolation levels and modes run the same code: every write is sent in
# a transaction of the level that the store sets, and `test_transactions.py` tests what a read sees at each level.
ONE_OF_A_KIND = ("sqlite", "sqlite-memory", "postgresql-asyncpg", "postgresql-psycopg", "mariadb")


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Run the promises about several stores on every backend, and those about one store on one of a kind."""
    if metafunc.cls is not None and issubclass(metafunc.cls, SQLAlchemyTokenStoreContract):
        opens_several = "open_store" in inspect.signature(metafunc.function).parameters
        names = metafunc.cls.every if opens_several else metafunc.cls.one_of_a_kind
        metafunc.parametrize("any_backend", names, indirect=True, scope="module")


@pytest.fixture(scope="module")
def any_backend(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Backend:
    """Give a backend to all its tests in turn, as connecting takes longer than most of them."""
    return backend_of(request.param, request, tmp_path_factory.mktemp("contract"))


@pytest.fixture(scope="module")
async def connected(any_backend: Backend) -> AsyncIterator[AsyncEngine]:
    """Give an engine that keeps a connection for every caller."""
    engine = any_backend.create_engine(**{"pool_size": CALLERS} if "pool_size" in any_backend.options else {})
    yield engine
    await engine.dispose()


class SQLAlchemyTokenStoreContract(TokenStoreContract):
    """What the contract needs of SQL."""

    every: ClassVar[Sequence[str]] = EVERY
    one_of_a_kind: ClassVar[Sequence[str]] = ONE_OF_A_KIND

    @pytest.fixture(scope="session")
    @classmethod
    def anyio_backend(cls) -> str:
        """Run on asyncio, in the one event loop of the connections."""
        return "asyncio"

    @pytest.fixture
    async def engine(self, connected: AsyncEngine) -> AsyncIterator[AsyncEngine]:
        """Give the engine on empty tables, and check that no connection stays checked out."""
        await create_empty_tables(connected)
        yield connected
        assert not isinstance(connected.pool, QueuePool) or connected.pool.checkedout() == 0

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
        ids = [uuid.uuid4(), uuid.uuid4()]
        async with AsyncSession(engine) as session:
            session.add_all(User(id=id_, email=f"{id_}@example.org", hashed_password="hash") for id_ in ids)
            await session.commit()
        return ids

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


class TestWithoutReturning(SQLAlchemyTokenStoreContract):
    """The store keeps every promise where a DELETE returns nothing, as on MySQL 8."""

    every = ("mariadb", "postgresql-asyncpg")
    one_of_a_kind = ("mariadb",)  # Its dialect is MySQL's; how the statements are put together is the same on both.

    @pytest.fixture
    def engine(self, engine: AsyncEngine, monkeypatch: pytest.MonkeyPatch) -> AsyncEngine:
        """Let the database, once it is known, pass for one that has no DELETE ... RETURNING."""
        monkeypatch.setattr(engine.dialect, "delete_returning", False)
        return engine
