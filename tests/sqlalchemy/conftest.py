"""Fixtures of the tests of tenants: an application that sets the tenant of its sessions in one of many ways."""

from collections.abc import AsyncIterator

import pytest

from tests.servers import Server
from tests.tenants import Tenancy, tenancy


@pytest.fixture
def url(request: pytest.FixtureRequest, postgresql_server: Server) -> str:
    """Return the URL of the server. Tests may choose another driver by parameters."""
    return postgresql_server.url(getattr(request, "param", "postgresql+asyncpg"))


@pytest.fixture
def way() -> str:
    """Return the way in which the tenant is set. Tests may choose other ways by parameters."""
    return "by_session_class"


@pytest.fixture
def level() -> str:
    """Return the isolation level of the application's engine. Tests may choose other levels by parameters."""
    return "READ COMMITTED"


@pytest.fixture
async def tenant(url: str, way: str, level: str) -> AsyncIterator[Tenancy]:
    """Return the application's database."""
    async with tenancy(url, way, isolation_level=level) as tenant:
        yield tenant
