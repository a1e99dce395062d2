"""Fixtures for the tests over HTTP: an application on SQLite in a file, or where a module's mark says."""

import uuid
from collections.abc import AsyncIterator, Mapping, Sequence
from pathlib import Path

import pytest
from httpx import AsyncClient
from sqlalchemy.ext.asyncio import AsyncEngine

from fastapi_users_knox import KnoxEvent, KnoxSettings
from tests.backends import Backend as TokenBackend
from tests.backends import RedisBackend
from tests.conftest import backend_of
from tests.models import User
from tests.routers.device import Device
from tests.site import (
    Backend,
    Database,
    RedisDatabase,
    Served,
    World,
    client_of,
    create_app,
    knox_backend,
    login,
)
from tests.strategies import HOUR, Clock


@pytest.fixture(scope="package")
def sqlite_directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Give all tests one file, whose tables are emptied for each: to create them would take longer than most tests."""
    return tmp_path_factory.mktemp("sqlite")


@pytest.fixture
def any_backend(request: pytest.FixtureRequest, sqlite_directory: Path) -> TokenBackend:
    """Give SQLite in a file, or the backend that a test is marked with."""
    return backend_of(getattr(request, "param", "sqlite"), request, sqlite_directory)


@pytest.fixture
async def database(engine: AsyncEngine, any_backend: TokenBackend) -> AsyncIterator[Database]:
    """Give the application's database, with the tokens where the backend has them."""
    if not isinstance(any_backend, RedisBackend):
        yield Database(engine=engine)
        return
    async with any_backend.connect() as redis:
        await redis.flushall()
        yield RedisDatabase(engine=engine, redis=redis)


@pytest.fixture
def clock() -> Clock:
    """Give the strategies' clock."""
    return Clock()


@pytest.fixture
def events() -> list[KnoxEvent[uuid.UUID]]:
    """Give the log of all events."""
    return []


@pytest.fixture
def settings() -> Mapping[str, KnoxSettings]:
    """Give the settings of each backend; a module may have others than the defaults."""
    return {}


@pytest.fixture
def world(
    database: Database, clock: Clock, events: list[KnoxEvent[uuid.UUID]], settings: Mapping[str, KnoxSettings]
) -> World:
    """Give what the requests work with."""
    return World(database=database, clock=clock, listeners=[events.append], settings=settings)


@pytest.fixture
def backends() -> Sequence[Backend]:
    """Give the application's backends; a module may have others."""
    return [knox_backend()]


@pytest.fixture
def app(world: World, backends: Sequence[Backend]) -> Served:
    """Give the application."""
    return world.serving(create_app(*backends))


@pytest.fixture
async def client(app: Served) -> AsyncIterator[AsyncClient]:
    """Give a client of the application."""
    async with client_of(app) as client:
        yield client


@pytest.fixture
async def ada(database: Database) -> User:
    """Give a user."""
    return await database.create_user()


@pytest.fixture
async def laptop(client: AsyncClient, ada: User, clock: Clock) -> Device:
    """Give a device of the user's, an hour before the others."""
    device = Device(http=client, token=await login(client, email=ada.email, device="laptop"))
    clock.now += HOUR
    return device


@pytest.fixture
async def phone(laptop: Device, ada: User) -> Device:
    """Give a second device."""
    return Device(http=laptop.http, token=await login(laptop.http, email=ada.email, device="phone"))


@pytest.fixture
async def stranger(client: AsyncClient, database: Database) -> Device:
    """Give another user's device."""
    eve = await database.create_user("eve@example.org")
    return Device(http=client, token=await login(client, email=eve.email))
