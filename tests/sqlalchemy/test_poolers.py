"""Behind a pooler that gives each transaction another connection to the server, every verb works."""

import asyncio
import uuid
from collections.abc import AsyncIterator, Mapping
from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import NullPool
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession, create_async_engine

from fastapi_users_knox import KnoxSettings
from tests.models import create_empty_tables, create_user, store_on
from tests.servers import Server
from tests.strategies import NOW, Knox, Record

pytestmark = pytest.mark.anyio

CALLERS, READS = 16, 10

# The options that SQLAlchemy advises for asyncpg behind PgBouncer, which may not know a statement that asyncpg has
# prepared.
UNIQUE_NAMES = {
    "prepared_statement_name_func": lambda: f"__asyncpg_{uuid.uuid4()}__",
    "statement_cache_size": 0,
}
ENGINES: Mapping[str, tuple[str, Mapping[str, Any]]] = {
    "asyncpg": (
        "postgresql+asyncpg",
        {"connect_args": {**UNIQUE_NAMES, "prepared_statement_cache_size": 0}, "pool_size": CALLERS},
    ),
    "asyncpg-no-pool": ("postgresql+asyncpg", {"connect_args": UNIQUE_NAMES, "poolclass": NullPool}),
    "psycopg": ("postgresql+psycopg", {"connect_args": {"prepare_threshold": None}, "pool_size": CALLERS}),
}


@pytest.fixture(params=ENGINES)
async def pooled(request: pytest.FixtureRequest, pgbouncer_server: Server) -> AsyncIterator[AsyncEngine]:
    """Return an engine that connects to the pooler."""
    scheme, options = ENGINES[request.param]
    engine = create_async_engine(pgbouncer_server.url(scheme), **options)
    await create_empty_tables(engine)
    yield engine
    await engine.dispose()


async def test_every_read_is_answered(pooled: AsyncEngine) -> None:
    """Many callers at once share three connections to the server, and each read of each caller is answered."""
    async with AsyncSession(pooled, expire_on_commit=False) as session:
        knox = Knox(session=session, user=await create_user(session))
        token = await knox.strategy().write_token(knox.user)

    async def read(_caller: int) -> list[bool]:
        accepted = []
        for _ in range(READS):
            async with AsyncSession(pooled) as session:
                accepted.append(await Knox(session=session, user=knox.user).accepts(token))
        return accepted

    answers = await asyncio.gather(*map(read, range(CALLERS)))

    assert [all(accepted) for accepted in answers] == [True] * CALLERS


async def test_every_verb_works(pooled: AsyncEngine) -> None:
    """A login, a due refresh, a rotation, a list and a logout work as without a pooler."""
    async with AsyncSession(pooled, expire_on_commit=False) as session:
        knox = Knox(session=session, user=await create_user(session))
        strategy = knox.strategy(KnoxSettings(auto_refresh=True, token_limit_per_user=1))
        token = await strategy.write_token(knox.user)
    async with AsyncSession(pooled, expire_on_commit=False) as session:
        again = Knox(session=session, user=knox.user, clock=knox.clock)
        knox.clock.now = NOW + timedelta(hours=1)
        strategy = again.strategy(KnoxSettings(auto_refresh=True))
        found = await strategy.authenticate(token, again.user_manager)
        rotated = await strategy.rotate_token(token, knox.user)
        listed: list[Record] = await strategy.list_records(knox.user)
        await strategy.destroy_token(rotated, knox.user)

        assert found is not None
        assert found[1].last_used_at == knox.clock.now
        assert [record.id for record in listed] == [token.record.id]
        assert await store_on(session).list(knox.user.id, audience="", now=knox.clock.now) == []
