"""Measure the authentication of a request, in process: from a token's text to the active user, in a new session."""

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from typing import Any
from uuid import UUID

from redis.asyncio import Redis
from sqlalchemy import bindparam, select
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession

from benchmarks.measure import Scale, Series, Servers, Trial, interleave
from benchmarks.models import User
from benchmarks.peers import Make, strategies, user_manager_on
from benchmarks.setting import client, create_user, database

FLOOR = "floor: the user's SELECT"
REDIS_FLOOR = "floor: GET, and the user's SELECT"

# The floors also include the creation of a user manager, which every request needs.
_SELECT_USER = select(User).where(User.__table__.c.id == bindparam("id"))


def measure(servers: Servers, scale: Scale) -> Iterator[Series]:
    """Measure with the users in each database, and the tokens in that database or in Redis."""
    for group, url in servers.databases.items():
        for subject, values in asyncio.run(_measure(url, servers.redis, scale)).items():
            yield Series(case="read", group=group, subject=subject, unit="ms", values=values)


async def _measure(url: str, redis_url: str | None, scale: Scale) -> dict[str, tuple[float, ...]]:
    async with database(url) as engine, client(redis_url) as redis:
        # Reads are quick, so there is time for many.
        return await interleave(await trials(engine, redis), rounds=scale.rounds, calls=5 * scale.calls)


async def trials(engine: AsyncEngine, redis: Redis | None) -> dict[str, Trial]:
    """Log a user in with each strategy, and return the trials that read the tokens."""
    user = await create_user(engine)
    reads = {FLOOR: Trial(run=_floor(engine, user.id))}
    if redis is not None:
        await redis.set("floor", str(user.id))
        reads[REDIS_FLOOR] = Trial(run=_redis_floor(engine, redis))
    for name, make in strategies(redis).items():
        async with AsyncSession(engine, expire_on_commit=False) as session:
            token = await make(session).write_token(user)
        reads[name] = Trial(run=_read(engine, make, token))
    return reads


def _floor(engine: AsyncEngine, user_id: UUID) -> Callable[[Any], Awaitable[object]]:
    async def run(_: None) -> None:
        async with AsyncSession(engine, expire_on_commit=False) as session:
            user_manager_on(session)
            await _select_user(session, user_id)

    return run


def _redis_floor(engine: AsyncEngine, redis: Redis) -> Callable[[Any], Awaitable[object]]:
    async def run(_: None) -> None:
        async with AsyncSession(engine, expire_on_commit=False) as session:
            user_manager_on(session)
            await _select_user(session, UUID(str(await redis.get("floor"))))

    return run


async def _select_user(session: AsyncSession, user_id: UUID) -> None:
    user = (await session.execute(_SELECT_USER, {"id": user_id})).scalar_one()
    assert user.is_active


def _read(engine: AsyncEngine, make: Make, token: str) -> Callable[[Any], Awaitable[object]]:
    async def run(_: None) -> None:
        async with AsyncSession(engine, expire_on_commit=False) as session:
            user = await make(session).read_token(token, user_manager_on(session))
            assert user is not None
            assert user.is_active

    return run
