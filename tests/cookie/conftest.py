"""Fixtures for the tests of the cookie: an application on SQLite in a file, and a browser that knows a user of it."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from fastapi import FastAPI
from httpx import AsyncClient
from sqlalchemy.ext.asyncio import AsyncEngine

from tests.backends import SQLITE, Backend
from tests.cookie.site import Transports, bearer_and_cookie, browser_of, create_app, create_user, log_in
from tests.models import User
from tests.strategies import Clock


@pytest.fixture
def any_backend(tmp_path: Path) -> Backend:
    """Give SQLite in a file."""
    return SQLITE["sqlite"](tmp_path)


@pytest.fixture
def clock() -> Clock:
    """Give the strategies' clock."""
    return Clock()


@pytest.fixture
async def ada(engine: AsyncEngine) -> User:
    """Give a user."""
    return await create_user(engine)


@pytest.fixture
def transports() -> Transports:
    """Give the application's transports; a test may have others."""
    return bearer_and_cookie()


@pytest.fixture
def app(engine: AsyncEngine, clock: Clock, transports: Transports) -> FastAPI:
    """Give the application."""
    return create_app(engine, clock, transports)


@pytest.fixture
async def stranger(app: FastAPI) -> AsyncIterator[AsyncClient]:
    """Give a browser without any cookie."""
    async with browser_of(app) as browser:
        yield browser


@pytest.fixture
async def browser(stranger: AsyncClient, ada: User) -> AsyncClient:
    """Give a browser in which the user has logged in by cookie."""
    await log_in(stranger, username=ada.email)
    return stranger
