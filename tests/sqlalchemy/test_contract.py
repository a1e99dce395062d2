"""The store contract, on every SQL database and driver."""

import inspect
import uuid
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
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

# Each isolation level and each mode of SQLite. With several connections, the store behaves differently on each.
EVERY = (*SQLITE, *MEMORY, *SERVERS)
# Each dialect and driver. With one connection, all isolation levels and modes run the same code: the store sets the
# level of each write, and `test_transactions.py` tests what a read sees at each level.
ONE_OF_A_KIND = ("sqlite", "sqlite-memory", "postgresql-asyncpg", "postgresql-psycopg", "mariadb")


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Run tests that open several stores on every backend, and all other tests on one backend of each kind."""
    if metafunc.cls is not None and issubclass(metafunc.cls, SQLAlchemyTokenStoreContract):
        opens_several = "open_store" in inspect.signature(metafunc.function).parameters
        names = metafunc.cls.every if opens_several else metafunc.cls.one_of_a_kind
        metafunc.parametrize("any_backend", names, indirect=True, scope="module")


@pytest.fixture(scope="module")
def any_backend(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Backend:
    """Return a backend that stays connected for all tests of the module, because connecting takes long."""
    return backend_of(request.param, request, tmp_path_factory.mktemp("contract"))


@pytest.fixture(scope="module")
async def connected(any_backend: Backend) -> AsyncIterator[AsyncEngine]:
    """Return an engine with an open connection for every caller of a race, so that all callers start together."""
    engine = any_backend.create_engine(**{"pool_size": CALLERS} if "pool_size" in any_backend.options else {})
    async with AsyncExitStack() as stack:
        for _ in range(CALLERS if isinstance(engine.pool, QueuePool) else 1):
            await stack.enter_async_context(engine.connect())
    yield engine
    await engine.dispose()


class SQLAlchemyTokenStoreContract(TokenStoreContract):
    """The fixtures of the store contract for SQL."""

    every: ClassVar[Sequence[str]] = EVERY
    one_of_a_kind: ClassVar[Sequence[str]] = ONE_OF_A_KIND

    @pytest.fixture(scope="session")
    @classmethod
    def anyio_backend(cls) -> str:
        """Run on asyncio, in one event loop for all tests, because the connections belong to it."""
        return "asyncio"

    @pytest.fixture
    async def engine(self, connected: AsyncEngine) -> AsyncIterator[AsyncEngine]:
        """Return the engine on empty tables, and check at the end that every connection was returned to the pool."""
        await create_empty_tables(connected)
        yield connected
        assert not isinstance(connected.pool, QueuePool) or connected.pool.checkedout() == 0

    @pytest.fixture
    def open_store(self, engine: AsyncEngine) -> OpenStore:
        """Return a function that opens a store on a new session."""

        @asynccontextmanager
        async def open_store() -> AsyncIterator[Store]:
            async with AsyncSession(engine) as session:
                yield store_on(session)

        return open_store

    @pytest.fixture
    async def user_ids(self, engine: AsyncEngine) -> Sequence[uuid.UUID]:
        """Create two users, and return their ids."""
        ids = [uuid.uuid4(), uuid.uuid4()]
        async with AsyncSession(engine) as session:
            session.add_all(User(id=id_, email=f"{id_}@example.org", hashed_password="hash") for id_ in ids)
            await session.commit()
        return ids

    @pytest.fixture
    async def lost_store(self, any_backend: Backend) -> AsyncIterator[Store]:
        """Return a store whose database cannot be reached."""
        engine = create_async_engine(any_backend.lost_url)
        async with AsyncSession(engine) as session:
            yield store_on(session)
        await engine.dispose()


@pytest.mark.unmeasured
class TestSQLAlchemyTokenStore(SQLAlchemyTokenStoreContract):
    """The SQLAlchemy store fulfils the store contract."""


class TestWithoutReturning(SQLAlchemyTokenStoreContract):
    """The SQLAlchemy store fulfils the contract on databases without DELETE ... RETURNING, such as MySQL 8."""

    every = ("mariadb", "postgresql-asyncpg")
    one_of_a_kind = ("mariadb",)  # MariaDB has MySQL's dialect, so the store builds the same statements for both.

    @pytest.fixture
    def engine(self, engine: AsyncEngine, monkeypatch: pytest.MonkeyPatch) -> AsyncEngine:
        """Return an engine whose dialect says that the database has no DELETE ... RETURNING."""
        monkeypatch.setattr(engine.dialect, "delete_returning", False)
        return engine
