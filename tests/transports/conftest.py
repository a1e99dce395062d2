"""Fixtures for the tests of the cookie: an application on SQLite in a file, and a browser that knows a user of it."""

from collections.abc import AsyncIterator, Sequence
from pathlib import Path

import pytest
from httpx import AsyncClient
from sqlalchemy.ext.asyncio import AsyncEngine

from tests.backends import SQLITE
from tests.backends import Backend as TokenBackend
from tests.models import User
from tests.site import Backend, Database, Served, World, client_of
from tests.strategies import Clock
from tests.transports.pages import BEARER, COOKIE, REFRESHING, create_app, log_in


@pytest.fixture(scope="package")
def sqlite_directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Give all tests one file, whose tables are emptied for each: to create them would take longer than most tests."""
    return tmp_path_factory.mktemp("sqlite")


@pytest.fixture
def any_backend(sqlite_directory: Path) -> TokenBackend:
    """Give SQLite in a file."""
    return SQLITE["sqlite"](sqlite_directory)


@pytest.fixture
def clock() -> Clock:
    """Give the strategies' clock."""
    return Clock()


@pytest.fixture
def world(engine: AsyncEngine, clock: Clock) -> World:
    """Give what the requests work with: tokens that are refreshed, in cookies as in headers."""
    settings = dict.fromkeys(("cookie", "bearer"), REFRESHING)
    return World(database=Database(engine=engine), clock=clock, settings=settings)


@pytest.fixture
async def ada(world: World) -> User:
    """Give a user."""
    return await world.database.create_user()


@pytest.fixture
def backends() -> Sequence[Backend]:
    """Give the application's backends; a test may have others."""
    return [COOKIE, BEARER]


@pytest.fixture
def app(world: World, backends: Sequence[Backend]) -> Served:
    """Give the application."""
    return world.serving(create_app(*backends))


@pytest.fixture
async def stranger(app: Served) -> AsyncIterator[AsyncClient]:
    """Give a browser without any cookie."""
    async with client_of(app) as browser:
        yield browser


@pytest.fixture
async def browser(stranger: AsyncClient, ada: User) -> AsyncClient:
    """Give a browser in which the user has logged in by cookie."""
    await log_in(stranger, username=ada.email)
    return stranger
