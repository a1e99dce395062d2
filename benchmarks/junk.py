"""Measure how long it takes to refuse an invalid token, and how many statements or commands are sent for it."""

import secrets
from collections.abc import Awaitable, Callable, Iterator, Mapping
from functools import partial

import uvloop
from fastapi_users.jwt import generate_jwt
from redis.asyncio import Redis
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession

from benchmarks.counting import Counter, counter
from benchmarks.measure import Scale, Series, Servers, Trial, interleave
from benchmarks.models import User
from benchmarks.peers import LIFETIME, AnyStrategy, Make, strategies, user_manager_on
from benchmarks.setting import client, create_user, database
from fastapi_users_knox import tokens
from tests.strategies import flipped

CASE = "junk"
Opened = tuple[AsyncSession, AnyStrategy]
BATCH = 200  # refusals that are timed together, because a single refusal takes little longer than reading the clock


def measure(servers: Servers, scale: Scale) -> Iterator[Series]:
    """Measure each kind of junk on one database, because several strategies send no query at all."""
    yield from uvloop.run(_measure(_one_of(servers.databases), servers.redis, scale))


def _one_of(databases: Mapping[str, str]) -> str:
    return databases.get("PostgreSQL") or next(iter(databases.values()))


async def _measure(url: str, redis_url: str | None, scale: Scale) -> list[Series]:
    async with (
        database(url) as engine,
        client(redis_url) as redis,
        counter(engine, redis_url) as counting,
    ):
        series = []
        for kind, text in junk(await create_user(engine)).items():
            for name, took in (await interleave(refusals(engine, redis, text), rounds=scale.rounds, calls=1)).items():
                each = tuple(milliseconds * 1000 / BATCH for milliseconds in took)
                series.append(Series(case=CASE, group=kind, subject=name, unit="µs", values=each))
            for name, sent in (await asks(counting, text)).items():
                series.append(Series(case=CASE, group=kind, subject=name, unit="statements", values=(sent,)))
        return series


def junk(user: User) -> Mapping[str, str]:
    """Return texts, by kind, that are not a valid token of any strategy."""
    token = tokens.generate(tokens.routing_tag(user.id), prefix="knox_")
    claims = {"sub": str(user.id), "aud": ["fastapi-users:auth"]}
    return {
        "as long as a token": secrets.token_hex(len(token) // 2),
        "one character changed": flipped(token),
        "empty": "",
        "somebody else's JWT": generate_jwt(claims, "a secret of someone else's, long enough for HS256", LIFETIME),
        "10 kB": "x" * 10_000,
    }


def refusals(engine: AsyncEngine, redis: Redis | None, text: str) -> dict[str, Trial]:
    """Return the trials in which each strategy refuses a text many times in one session."""
    run = _refuse(text, times=BATCH)
    return {
        name: Trial(run=run, prepare=_open(engine, make), finish=AsyncSession.close)
        for name, make in strategies(redis).items()
    }


async def asks(counting: Counter, text: str) -> dict[str, int]:
    """Return how many statements and commands each strategy sends for one refusal."""
    sent = {}
    for name, make in strategies(counting.redis).items():
        async with AsyncSession(counting.engine, expire_on_commit=False) as session:
            statements, trips = await counting.count(partial(_refuse(text, times=1), (session, make(session))))
        sent[name] = statements + trips
    return sent


def _open(engine: AsyncEngine, make: Make) -> Callable[[], Awaitable[Opened]]:
    async def prepare() -> Opened:
        session = AsyncSession(engine, expire_on_commit=False)
        return session, make(session)

    return prepare


def _refuse(text: str, *, times: int) -> Callable[[Opened], Awaitable[AsyncSession]]:
    async def run(opened: Opened) -> AsyncSession:
        session, strategy = opened
        user_manager = user_manager_on(session)
        for _ in range(times):
            assert await strategy.read_token(text, user_manager) is None
        return session

    return run
