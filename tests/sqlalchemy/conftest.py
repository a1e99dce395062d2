"""Fixtures for the tests of tenants: an application whose sessions become a tenant's in one of many ways."""

from collections.abc import AsyncIterator

import pytest

from tests.servers import Server
from tests.tenants import Tenancy, tenancy


@pytest.fixture(params=["postgresql+asyncpg", "postgresql+psycopg"])
def url(request: pytest.FixtureRequest, postgresql_server: Server) -> str:
    """Name the server by each driver."""
    return postgresql_server.url(request.param)


@pytest.fixture
def way() -> str:
    """Name how sessions become a tenant's; tests have more."""
    return "by_session_class"


@pytest.fixture
def level() -> str:
    """Name the isolation of the application's engine; tests have more."""
    return "READ COMMITTED"


@pytest.fixture
async def tenant(url: str, way: str, level: str) -> AsyncIterator[Tenancy]:
    """Give the application's database."""
    async with tenancy(url, way, isolation_level=level) as tenant:
        yield tenant
