"""Fixtures for the tests over HTTP: an application on SQLite in a file."""

from collections.abc import AsyncIterator, Sequence
from pathlib import Path

import pytest
from fastapi import FastAPI
from httpx import AsyncClient
from sqlalchemy.ext.asyncio import AsyncEngine

from tests.backends import SQLITE
from tests.backends import Backend as SQLBackend
from tests.http.site import Backend, Database, client_of, create_app, knox_backend
from tests.strategies import Clock


@pytest.fixture
def any_backend(tmp_path: Path) -> SQLBackend:
    """Give SQLite in a file."""
    return SQLITE["sqlite"](tmp_path)


@pytest.fixture
def database(engine: AsyncEngine) -> Database:
    """Give the application's database."""
    return Database(engine=engine, tokens=engine)


@pytest.fixture
def clock() -> Clock:
    """Give the strategies' clock."""
    return Clock()


@pytest.fixture
def backends(database: Database, clock: Clock) -> Sequence[Backend]:
    """Give the application's backends; a module may have others."""
    return [knox_backend(database, clock)]


@pytest.fixture
def app(database: Database, backends: Sequence[Backend]) -> FastAPI:
    """Give the application."""
    return create_app(database, backends)


@pytest.fixture
async def client(app: FastAPI) -> AsyncIterator[AsyncClient]:
    """Give a client of the application."""
    async with client_of(app) as client:
        yield client
