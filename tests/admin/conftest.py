"""Fixtures for the tests of the admin pages: an application, two users with sessions, and a superuser's browser."""

import uuid
from collections.abc import AsyncIterator

import pytest
from fastapi import FastAPI
from httpx import AsyncClient
from sqlalchemy.ext.asyncio import AsyncEngine

from fastapi_users_knox import KnoxEvent, KnoxSettings
from tests.admin.site import ROOT, Browser, Device, create_app
from tests.backends import Backend, Engines
from tests.conftest import backend_of
from tests.databases import database_on
from tests.models import User
from tests.site import Database, Served, client_of, login
from tests.strategies import HOUR, MINUTE, Clock
from tests.throttling.site import ThrottledWorld


@pytest.fixture
def any_backend(request: pytest.FixtureRequest, engines: Engines) -> Backend:
    """Return the backend that the test is parametrized with, by default SQLite in a file."""
    return backend_of(getattr(request, "param", "sqlite"), request, engines.directory)


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
def clock() -> Clock:
    """Return the strategies' clock."""
    return Clock()


@pytest.fixture
def world(database: Database, clock: Clock, events: list[KnoxEvent[uuid.UUID]]) -> ThrottledWorld:
    """Return what the requests work with: sessions of 10 hours, and API tokens of another audience."""
    settings = {"api": KnoxSettings(audience="api", token_ttl=240 * HOUR)}
    return ThrottledWorld(database=database, clock=clock, listeners=[events.append], settings=settings)


@pytest.fixture
def app(engine: AsyncEngine) -> FastAPI:
    """Return the application. A module may override this fixture."""
    return create_app(engine)


@pytest.fixture
def served(world: ThrottledWorld, app: FastAPI) -> Served:
    """Return the application in the world of the test."""
    return world.serving(app)


@pytest.fixture
async def client(served: Served) -> AsyncIterator[AsyncClient]:
    """Open a client without cookies, for the users' devices."""
    async with client_of(served) as client:
        yield client


@pytest.fixture
async def ada(database: Database) -> User:
    """Create a user."""
    return await database.create_user()


@pytest.fixture
async def root(database: Database) -> User:
    """Create a superuser."""
    return await database.create_user(ROOT, is_superuser=True)


@pytest.fixture
async def stranger(served: Served) -> AsyncIterator[Browser]:
    """Open a browser that is not logged in."""
    async with client_of(served) as http:
        yield Browser(http=http)


@pytest.fixture
async def browser(stranger: Browser, root: User) -> Browser:
    """Open a browser in which the superuser has logged in."""
    response = await stranger.log_in(root.email)
    assert response.status_code == 303, response.text
    return stranger


@pytest.fixture
async def laptop(client: AsyncClient, ada: User, clock: Clock) -> Device:
    """Log the user in on a device, an hour before the superuser and the other devices."""
    token = await login(client, email=ada.email, device="laptop")
    clock.now += HOUR
    return Device(http=client, backend="knox", token=token)


@pytest.fixture
async def phone(laptop: Device, ada: User, clock: Clock) -> Device:
    """Log the user in on a second device, a minute before the superuser."""
    token = await login(laptop.http, email=ada.email, device="phone")
    clock.now += MINUTE
    return Device(http=laptop.http, backend="knox", token=token)


@pytest.fixture
async def robot(client: AsyncClient, ada: User) -> Device:
    """Issue the user a token of another audience."""
    return Device(http=client, backend="api", token=await login(client, "api", ada.email, device="robot"))
