"""Fixtures for the strategy's tests, which use SQLite alone. Other tests cover the differences between databases."""

from collections.abc import AsyncIterator

import pytest
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession

from tests.backends import SQLITE, Backend, Engines
from tests.models import User, create_user
from tests.strategies import Knox


@pytest.fixture
def any_backend(engines: Engines) -> Backend:
    """Return the backend of SQLite in a file."""
    return SQLITE["sqlite"](engines.directory)


@pytest.fixture
async def session(engine: AsyncEngine) -> AsyncIterator[AsyncSession]:
    """Open the application's session with SQLAlchemy's defaults, under which a commit expires what was loaded."""
    async with AsyncSession(engine) as session:
        yield session


@pytest.fixture
async def knox(engine: AsyncEngine, session: AsyncSession) -> Knox:
    """Return a helper with a user whom the session has already loaded, as at a login."""
    async with AsyncSession(engine) as elsewhere:
        user_id = (await create_user(elsewhere)).id
    return Knox(session=session, user=await session.get_one(User, user_id))


@pytest.fixture
async def other(engine: AsyncEngine) -> User:
    """Return another user, whom the session has not loaded."""
    async with AsyncSession(engine, expire_on_commit=False) as elsewhere:
        return await create_user(elsewhere)
