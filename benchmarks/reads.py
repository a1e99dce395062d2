"""Measure the authentication of a request, in process: from a token's text to the active user.

Each read creates what a request creates in the tutorial's application: the request, the session, the user database, the
store, the strategy and the user manager. The tokens of many users are read in random order.
"""

import random
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from datetime import timedelta
from typing import Any
from uuid import UUID, uuid4

import uvloop
from redis.asyncio import Redis
from sqlalchemy import bindparam, select
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession

from benchmarks.filling import create_users
from benchmarks.measure import CPU, PARTS, Scale, Series, Servers, Trial, Turn, time_turns
from benchmarks.models import User
from benchmarks.peers import (
    API_TOKEN,
    LIFETIME,
    RECORD_ALONE,
    SCOPES,
    SLIDING,
    AnyStrategy,
    Make,
    our_strategies,
    request,
    strategies,
    user_manager_of,
    user_manager_on,
)
from benchmarks.setting import client, database
from fastapi_users_knox import KnoxSettings, KnoxStrategy

CASE = "read"
FLOOR = "floor: the user's SELECT"
REDIS_FLOOR = "floor: GET, and the user's SELECT"

# No read of this case has to write, however long the run takes. Reads that refresh are measured by themselves.
SETTINGS = KnoxSettings(min_refresh_interval=timedelta(hours=1))
SLIDING_SETTINGS = KnoxSettings(auto_refresh=True, min_refresh_interval=timedelta(hours=1))

_SELECT_USER = select(User).where(User.__table__.c.id == bindparam("id"))

Run = Callable[[Any], Awaitable[object]]


def measure(servers: Servers, scale: Scale) -> Iterator[Series]:
    """Measure with the users in each database, and the tokens in that database or in Redis.

    There are three runs, each with new tables, connections and tokens.
    """
    for group, url in servers.databases.items():
        runs = [uvloop.run(_measure(url, servers.redis, scale)) for _ in range(PARTS)]
        for subject in runs[0]:
            turns = [turn for run in runs for turn in run[subject]]
            took, cpu = tuple(turn.took for turn in turns), tuple(turn.cpu for turn in turns)
            yield Series(case=CASE, group=group, subject=subject, unit="ms", values=took)
            yield Series(case=CASE, group=group, subject=subject, unit=CPU, values=cpu)


async def _measure(url: str, redis_url: str | None, scale: Scale) -> Mapping[str, Sequence[Turn]]:
    async with database(url) as engine, client(redis_url) as redis:
        reads = await trials(engine, redis, users=scale.users)
        return await time_turns(reads, rounds=scale.rounds, calls=5 * scale.calls)  # Reads are quick.


async def trials(engine: AsyncEngine, redis: Redis | None, *, users: int) -> dict[str, Trial]:
    """Log users in with each strategy, and return the trials that read the tokens."""
    ids = [uuid4() for _ in range(users)]
    await create_users(engine, ids)
    reads = {FLOOR: Trial(run=floor(engine, ids))}
    if redis is not None:
        for user_id in ids:
            await redis.set(f"floor:{user_id}", str(user_id), ex=LIFETIME)
        reads[REDIS_FLOOR] = Trial(run=_redis_floor(engine, redis, ids))
    whole = {**strategies(redis, SETTINGS), **our_strategies(redis, SLIDING_SETTINGS, SLIDING)}
    alone, scoped = our_strategies(redis, SETTINGS, RECORD_ALONE), our_strategies(redis, SETTINGS, API_TOKEN)
    ways = {**dict.fromkeys(alone, _authenticate_record), **dict.fromkeys(scoped, _authenticate_scoped)}
    for name, make in {**whole, **alone, **scoped}.items():
        log_in, authenticate = _issue_scoped if name in scoped else _log_in, ways.get(name, _authenticate)
        tokens = [await log_in(engine, make, user_id) for user_id in ids]
        reads[name] = Trial(run=_read(engine, make, tokens, authenticate))
    return reads


async def _log_in(engine: AsyncEngine, make: Make, user_id: UUID) -> str:
    async with AsyncSession(engine, expire_on_commit=False) as session:
        return await make(session).write_token(await session.get_one(User, user_id))


async def _issue_scoped(engine: AsyncEngine, make: Make, user_id: UUID) -> str:
    async with AsyncSession(engine, expire_on_commit=False) as session:
        strategy = make(session)
        assert isinstance(strategy, KnoxStrategy)
        return await strategy.issue(await session.get_one(User, user_id), scopes=SCOPES)


def floor(engine: AsyncEngine, ids: Sequence[UUID]) -> Run:
    """Return the least that any strategy could do. The framework creates the request, and needs a user manager."""

    async def run(_: None) -> None:
        async with AsyncSession(engine, expire_on_commit=False) as session:
            request()
            user_manager_on(session)
            await _select_user(session, random.choice(ids))

    return run


def _redis_floor(engine: AsyncEngine, redis: Redis, ids: Sequence[UUID]) -> Run:
    async def run(_: None) -> None:
        async with AsyncSession(engine, expire_on_commit=False) as session:
            request()
            user_manager_on(session)
            await _select_user(session, UUID(str(await redis.get(f"floor:{random.choice(ids)}"))))

    return run


async def _select_user(session: AsyncSession, user_id: UUID) -> None:
    user = (await session.execute(_SELECT_USER, {"id": user_id})).scalar_one()
    assert user.is_active


async def _authenticate(session: AsyncSession, strategy: AnyStrategy, token: str) -> None:
    user = await strategy.read_token(token, user_manager_of(session, strategy))
    assert user is not None
    assert user.is_active


async def _authenticate_record(_session: AsyncSession, strategy: AnyStrategy, token: str) -> None:
    """Read as `current_token(..., load_user=False)` does, which needs no user manager."""
    assert isinstance(strategy, KnoxStrategy)
    assert await strategy.authenticate_record(token) is not None


async def _authenticate_scoped(session: AsyncSession, strategy: AnyStrategy, token: str) -> None:
    """Read as `Security(current_token(...), scopes=[...])` does."""
    assert isinstance(strategy, KnoxStrategy)
    manager = user_manager_of(session, strategy)
    assert await strategy.authenticate(token, manager, scopes=SCOPES[:1]) is not None


def _read(
    engine: AsyncEngine,
    make: Make,
    tokens: Sequence[str],
    authenticate: Callable[[AsyncSession, AnyStrategy, str], Awaitable[None]],
) -> Run:
    async def run(_: None) -> None:
        async with AsyncSession(engine, expire_on_commit=False) as session:
            await authenticate(session, make(session), random.choice(tokens))

    return run
