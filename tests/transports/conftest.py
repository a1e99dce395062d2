"""Fixtures for the tests of the cookie: an application on one SQLite file, and a browser that is logged in."""

from collections.abc import AsyncIterator, Sequence

import pytest
from httpx import AsyncClient
from sqlalchemy.ext.asyncio import AsyncEngine

from tests.backends import SQLITE, Engines
from tests.backends import Backend as TokenBackend
from tests.models import User
from tests.site import Backend, Database, Served, World, client_of
from tests.strategies import Clock
from tests.transports.pages import BEARER, COOKIE, REFRESHING, create_app, log_in


@pytest.fixture
def any_backend(engines: Engines) -> TokenBackend:
    """Return the backend of SQLite in a file."""
    return SQLITE["sqlite"](engines.directory)


@pytest.fixture
def clock() -> Clock:
    """Return the strategies' clock."""
    return Clock()


@pytest.fixture
def world(engine: AsyncEngine, clock: Clock) -> World:
    """Return what the requests work with. Tokens are refreshed, both in cookies and in headers."""
    settings = dict.fromkeys(("cookie", "bearer"), REFRESHING)
    return World(database=Database(engine=engine), clock=clock, settings=settings)


@pytest.fixture
async def ada(world: World) -> User:
    """Create a user."""
    return await world.database.create_user()


@pytest.fixture
def backends() -> Sequence[Backend]:
    """Return the application's backends. A test may override this fixture."""
    return [COOKIE, BEARER]


@pytest.fixture
def app(world: World, backends: Sequence[Backend]) -> Served:
    """Return the application."""
    return world.serving(create_app(*backends))


@pytest.fixture
async def stranger(app: Served) -> AsyncIterator[AsyncClient]:
    """Open a browser without cookies."""
    async with client_of(app) as browser:
        yield browser


@pytest.fixture
async def browser(stranger: AsyncClient, ada: User) -> AsyncClient:
    """Return a browser in which the user has logged in with the cookie transport."""
    await log_in(stranger, username=ada.email)
    return stranger
