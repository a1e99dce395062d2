"""Fixtures for the strategy's tests: one user, on SQLite in a file; what differs between databases is tested apart."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession

from tests.backends import SQLITE, Backend
from tests.models import User, create_user
from tests.strategies import Knox


@pytest.fixture(scope="package")
def sqlite_directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Give all tests one file, whose tables are emptied for each: to create them would take longer than most tests."""
    return tmp_path_factory.mktemp("sqlite")


@pytest.fixture
def any_backend(sqlite_directory: Path) -> Backend:
    """Give SQLite in a file."""
    return SQLITE["sqlite"](sqlite_directory)


@pytest.fixture
async def session(engine: AsyncEngine) -> AsyncIterator[AsyncSession]:
    """Give the application's session, set up as SQLAlchemy's default is, which is the harder one."""
    async with AsyncSession(engine) as session:
        yield session


@pytest.fixture
async def knox(engine: AsyncEngine, session: AsyncSession) -> Knox:
    """Give a user that the session has loaded, as a login has, and strategies over the session."""
    async with AsyncSession(engine) as elsewhere:
        user_id = (await create_user(elsewhere)).id
    return Knox(session=session, user=await session.get_one(User, user_id))


@pytest.fixture
async def other(engine: AsyncEngine) -> User:
    """Give another user, loaded elsewhere."""
    async with AsyncSession(engine, expire_on_commit=False) as elsewhere:
        return await create_user(elsewhere)
