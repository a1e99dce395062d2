"""Fixtures for the tests over HTTP: an application on one SQLite file, or on the backend that a module's mark names."""

import uuid
from collections.abc import AsyncIterator, Mapping, Sequence

import pytest
from httpx import AsyncClient
from sqlalchemy.ext.asyncio import AsyncEngine

from fastapi_users_knox import KnoxEvent, KnoxSettings
from tests.backends import Backend as TokenBackend
from tests.backends import Engines
from tests.conftest import backend_of
from tests.databases import database_on
from tests.models import User
from tests.routers.device import Device
from tests.site import (
    Backend,
    Database,
    Served,
    World,
    client_of,
    create_app,
    knox_backend,
    login,
)
from tests.strategies import HOUR, Clock


@pytest.fixture
def any_backend(request: pytest.FixtureRequest, engines: Engines) -> TokenBackend:
    """Return the backend that the test is marked with, by default SQLite in a file."""
    return backend_of(getattr(request, "param", "sqlite"), request, engines.directory)


@pytest.fixture
async def database(engine: AsyncEngine, any_backend: TokenBackend) -> AsyncIterator[Database]:
    """Return the application's database, with the tokens in Redis if the backend stores them there."""
    async with database_on(engine, any_backend) as database:
        yield database


@pytest.fixture
def clock() -> Clock:
    """Return the strategies' clock."""
    return Clock()


@pytest.fixture
def events() -> list[KnoxEvent[uuid.UUID]]:
    """Return the list to which all published events are appended."""
    return []


@pytest.fixture
def settings() -> Mapping[str, KnoxSettings]:
    """Return the settings of each backend: the defaults, unless a module overrides this fixture."""
    return {}


@pytest.fixture
def world(
    database: Database, clock: Clock, events: list[KnoxEvent[uuid.UUID]], settings: Mapping[str, KnoxSettings]
) -> World:
    """Return what the requests work with: the database, the clock, the listeners and the settings."""
    return World(database=database, clock=clock, listeners=[events.append], settings=settings)


@pytest.fixture
def backends() -> Sequence[Backend]:
    """Return the application's backends. A module may override this fixture."""
    return [knox_backend()]


@pytest.fixture
def app(world: World, backends: Sequence[Backend]) -> Served:
    """Return the application."""
    return world.serving(create_app(*backends))


@pytest.fixture
async def client(app: Served) -> AsyncIterator[AsyncClient]:
    """Open a client of the application."""
    async with client_of(app) as client:
        yield client


@pytest.fixture
async def ada(database: Database) -> User:
    """Create a user."""
    return await database.create_user()


@pytest.fixture
async def laptop(client: AsyncClient, ada: User, clock: Clock) -> Device:
    """Log the user in on a device, an hour before the other devices."""
    device = Device(http=client, token=await login(client, email=ada.email, device="laptop"))
    clock.now += HOUR
    return device


@pytest.fixture
async def phone(laptop: Device, ada: User) -> Device:
    """Log the user in on a second device."""
    return Device(http=laptop.http, token=await login(laptop.http, email=ada.email, device="phone"))


@pytest.fixture
async def admin(client: AsyncClient, database: Database) -> Device:
    """Log a superuser in."""
    root = await database.create_user("root@example.org", is_superuser=True)
    return Device(http=client, token=await login(client, email=root.email))


@pytest.fixture
async def stranger(client: AsyncClient, database: Database) -> Device:
    """Log another user in."""
    eve = await database.create_user("eve@example.org")
    return Device(http=client, token=await login(client, email=eve.email))
