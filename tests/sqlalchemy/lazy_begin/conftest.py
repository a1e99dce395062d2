"""Fixtures of the tests of reads before the BEGIN: a user, a token, and a session whose connection has been asked."""

from collections.abc import AsyncIterator, Awaitable, Callable

import pytest
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession

from tests.backends import Backend
from tests.models import User, create_user
from tests.strategies import Knox


@pytest.fixture
async def user(engine: AsyncEngine) -> User:
    """Store a user."""
    async with AsyncSession(engine, expire_on_commit=False) as session:
        return await create_user(session)


@pytest.fixture
async def token(engine: AsyncEngine, user: User) -> str:
    """Issue a token, and read it once on the connection of the pool, which is asked at its first read."""
    async with AsyncSession(engine) as session:
        issued = await Knox(session=session, user=user).strategy().write_token(user)
    async with AsyncSession(engine) as session:
        assert await Knox(session=session, user=user).accepts(issued)
    return issued


@pytest.fixture
async def session(engine: AsyncEngine, token: str) -> AsyncIterator[AsyncSession]:  # noqa: ARG001 (it must be first)
    """Return a session whose connection has been asked."""
    async with AsyncSession(engine) as session:
        yield session


@pytest.fixture
def read(session: AsyncSession, user: User, token: str) -> Callable[[], Awaitable[bool]]:
    """Return a function that reads the token and returns whether it is accepted."""
    knox = Knox(session=session, user=user)
    return lambda: knox.accepts(token)


@pytest.fixture
async def single(any_backend: Backend, user: User, token: str) -> AsyncIterator[AsyncEngine]:
    """Return an engine whose pool has one connection, which has been asked."""
    engine = any_backend.create_engine(pool_size=1, max_overflow=0)
    async with AsyncSession(engine) as session:
        assert await Knox(session=session, user=user).accepts(token)
    yield engine
    await engine.dispose()
