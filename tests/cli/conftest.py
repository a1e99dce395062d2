"""The places where tokens may be, each empty, and the program that works on them."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.cli.place import Place, opened


@pytest.fixture(params=["sqlite", "postgresql-asyncpg", "mariadb"])
async def sql(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Place]:
    """Return each kind of database, with empty tables."""
    async with opened(request.param, request, tmp_path) as place:
        yield place


@pytest.fixture(params=["sqlite", "postgresql-asyncpg", "mariadb", "redis-7"])
async def place(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Place]:
    """Return each kind of place, empty."""
    async with opened(request.param, request, tmp_path) as place:
        yield place


@pytest.fixture
async def sqlite(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Place]:
    """Return a database file, with empty tables."""
    async with opened("sqlite", request, tmp_path) as place:
        yield place


@pytest.fixture
async def redis(
    request: pytest.FixtureRequest,
    tmp_path: Path,
    redis_7_server: object,  # noqa: ARG001 (by its name, a test gets the mark `server`)
) -> AsyncIterator[Place]:
    """Return an empty Redis."""
    async with opened("redis-7", request, tmp_path) as place:
        yield place


@pytest.fixture
async def postgresql(
    request: pytest.FixtureRequest,
    tmp_path: Path,
    postgresql_server: object,  # noqa: ARG001 (by its name, a test gets the mark `server`)
) -> AsyncIterator[Place]:
    """Return a PostgreSQL database, with empty tables."""
    async with opened("postgresql-asyncpg", request, tmp_path) as place:
        yield place


@pytest.fixture
async def cluster(
    request: pytest.FixtureRequest,
    tmp_path: Path,
    redis_cluster_servers: object,  # noqa: ARG001 (by its name, a test gets the mark `server`)
) -> AsyncIterator[Place]:
    """Return an empty Redis cluster."""
    async with opened("redis-cluster", request, tmp_path) as place:
        yield place
