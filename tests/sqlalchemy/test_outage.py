"""While a database is down, reads and writes raise `StoreUnavailable`; once it is back, they work again."""

import uuid
from collections.abc import Iterator

import pytest
from sqlalchemy.ext.asyncio import AsyncSession, create_async_engine

from fastapi_users_knox import KnoxStrategy, StoreUnavailable
from tests.backends import NOW
from tests.models import User, create_empty_tables, create_user, store_on, user_manager_on
from tests.servers import Server, skip_if_unavailable
from tests.sql_servers import mariadb, postgresql

pytestmark = [pytest.mark.anyio, pytest.mark.server, pytest.mark.unmeasured]


DRIVERS = {
    "postgresql+asyncpg": "mortal_postgresql",
    "postgresql+psycopg": "mortal_postgresql",
    "mysql+asyncmy": "mortal_mariadb",
}


@pytest.fixture(scope="module")
def mortal_postgresql() -> Iterator[Server]:
    """Run a PostgreSQL server that only this module uses, so that it can be killed."""
    with skip_if_unavailable(), postgresql() as server:
        yield server


@pytest.fixture(scope="module")
def mortal_mariadb() -> Iterator[Server]:
    """Run a MariaDB server that only this module uses, so that it can be killed."""
    with skip_if_unavailable(), mariadb() as server:
        yield server


@pytest.fixture(params=DRIVERS)
def scheme(request: pytest.FixtureRequest) -> str:
    """Return each URL scheme."""
    scheme: str = request.param
    return scheme


@pytest.fixture
def own_server(scheme: str, request: pytest.FixtureRequest) -> Iterator[Server]:
    """Return a server that may be killed, and start it again for the next test."""
    server: Server = request.getfixturevalue(DRIVERS[scheme])
    yield server
    server.kill()
    server.start()


async def test_a_database_goes_and_comes_back(own_server: Server, scheme: str) -> None:
    """Each read and write raises `StoreUnavailable` while the database is down, and works again once it is back."""
    engine = create_async_engine(own_server.url(scheme))
    await create_empty_tables(engine)
    async with AsyncSession(engine, expire_on_commit=False) as session:
        user = await create_user(session)
        token = await strategy_on(session).write_token(user)

    own_server.kill()

    for _ in range(3):
        with pytest.raises(StoreUnavailable):
            async with AsyncSession(engine) as session:
                await strategy_on(session).read_token(token, user_manager_on(session))
        with pytest.raises(StoreUnavailable):
            async with AsyncSession(engine) as session:
                await strategy_on(session).write_token(user)

    own_server.start()

    async with AsyncSession(engine) as session:
        assert await strategy_on(session).read_token(token, user_manager_on(session)) is not None
        assert await strategy_on(session).write_token(user)
    await engine.dispose()


async def test_a_connection_lost_in_the_middle_of_a_session(own_server: Server, scheme: str) -> None:
    """If the database is killed while a session is open, a read in that session raises `StoreUnavailable`."""
    engine = create_async_engine(own_server.url(scheme))
    await create_empty_tables(engine)
    async with AsyncSession(engine, expire_on_commit=False) as session:
        strategy = strategy_on(session)
        user = await create_user(session)
        token = await strategy.write_token(user)
        await strategy.read_token(token, user_manager_on(session))

        own_server.kill()

        with pytest.raises(StoreUnavailable):
            await strategy.read_token(token, user_manager_on(session))
    await engine.dispose()


def strategy_on(session: AsyncSession) -> KnoxStrategy[User, uuid.UUID]:
    """Return a strategy whose clock stands still."""
    return KnoxStrategy(store_on(session), clock=lambda: NOW, request=None)
