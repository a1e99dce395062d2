"""Fixtures of the user manager's tests: a user who is logged in, on each kind of store."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff

from fastapi_users_knox.redis import RedisTokenStore
from tests.backends import NOW, App, Engines, OpenApp
from tests.conftest import backend_of
from tests.manager.account import Account, Strategy
from tests.models import create_user


@pytest.fixture
def directory(engines: Engines) -> Path:
    """Return the directory of the database files: by default, the directory that the tests share."""
    return engines.directory


OTHERS = [pytest.param(name, marks=pytest.mark.unmeasured) for name in ("postgresql-asyncpg", "redis-7")]


@pytest.fixture(params=["sqlite", *OTHERS])
async def open_app(request: pytest.FixtureRequest, directory: Path, engines: Engines) -> AsyncIterator[OpenApp]:
    """Return a function that opens what one request of an application has, on each kind of store."""
    backend = backend_of(request.param, request, directory)
    engine = engines.of(backend)
    await backend.empty(engine)
    async with backend.serving(engine) as open_app:
        yield open_app


@pytest.fixture
async def app(open_app: OpenApp) -> AsyncIterator[App]:
    """Return what one request of an application has."""
    async with open_app() as app:
        yield app


@pytest.fixture
async def account(app: App) -> Account:
    """Return a user who is logged in."""
    account = Account(app=app, user=await create_user(app.session))
    await account.log_in()
    return account


@pytest.fixture
async def unavailable() -> AsyncIterator[Strategy]:
    """Return a strategy whose store is unavailable."""
    async with Redis(port=1, retry=Retry(NoBackoff(), 0)) as redis:
        yield Strategy(RedisTokenStore(redis), request=None, user_db=None, clock=lambda: NOW)
