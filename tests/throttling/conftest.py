"""Fixtures for the tests of the throttle: each kind of storage, and an application with a throttle in memory."""

import uuid
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from sqlalchemy.ext.asyncio import AsyncEngine

from fastapi_users_knox import KnoxEvent
from tests.backends import Backend
from tests.conftest import backend_of
from tests.databases import database_on
from tests.models import User
from tests.site import Database
from tests.throttling.places import PLACES, Place
from tests.throttling.site import ThrottledWorld

MARKS = [pytest.mark.unmeasured, pytest.mark.server]
OTHERS = [pytest.param(name, marks=MARKS) for name in ("redis-6.2", "valkey", "valkey-client")]


@pytest.fixture(params=["memory", "redis-7", *OTHERS])
async def place(request: pytest.FixtureRequest) -> AsyncIterator[Place]:
    """Return each kind of storage, empty."""
    fixture, open_place = PLACES[request.param]
    servers = [] if fixture is None else [request.getfixturevalue(fixture).url()]
    async with open_place(*servers) as place:
        yield place


@pytest.fixture(scope="package")
def sqlite_directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Share one database file, whose tables each test empties."""
    return tmp_path_factory.mktemp("sqlite")


@pytest.fixture
def any_backend(request: pytest.FixtureRequest, sqlite_directory: Path) -> Backend:
    """Return the backend that the test is parametrized with, by default SQLite in a file."""
    return backend_of(getattr(request, "param", "sqlite"), request, sqlite_directory)


@pytest.fixture
async def database(engine: AsyncEngine, any_backend: Backend) -> AsyncIterator[Database]:
    """Return the application's database, with the tokens in Redis if the backend stores them there."""
    async with database_on(engine, any_backend) as database:
        yield database


@pytest.fixture
def events() -> list[KnoxEvent[uuid.UUID]]:
    """Return the list to which all published events are appended."""
    return []


@pytest.fixture
def world(database: Database, events: list[KnoxEvent[uuid.UUID]]) -> ThrottledWorld:
    """Return what the requests work with; its throttle has the default limits, and counts in memory."""
    return ThrottledWorld(database=database, listeners=[events.append])


@pytest.fixture
async def ada(database: Database) -> User:
    """Create a user."""
    return await database.create_user()
