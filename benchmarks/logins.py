"""Measure logins, without and with the hashing of the password, and logouts: in process, each in a new session."""

from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import suppress
from functools import partial
from typing import Any

import uvloop
from fastapi.security import OAuth2PasswordRequestForm
from fastapi_users.authentication.strategy import StrategyDestroyNotSupportedError
from fastapi_users.password import PasswordHelper
from redis.asyncio import Redis
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession

from benchmarks.measure import Scale, Series, Servers, Trial, interleave
from benchmarks.models import User
from benchmarks.peers import JWT, KNOX_REDIS, KNOX_SQL, Make, knox_redis, knox_sql, strategies, user_manager_on
from benchmarks.setting import client, create_user, database
from fastapi_users_knox import KnoxSettings

LIMITED = ", limited"
LIMIT = KnoxSettings(token_limit_per_user=100, limit_policy="evict_oldest")  # a limit that is never reached
PASSWORD = "correct horse battery staple"


def measure(servers: Servers, scale: Scale) -> Iterator[Series]:
    """Measure with the users in each database, and the tokens in that database or in Redis."""
    for group, url in servers.databases.items():
        for case, subjects in uvloop.run(_measure(url, servers.redis, scale)).items():
            for subject, values in subjects.items():
                yield Series(case=case, group=group, subject=subject, unit="ms", values=values)


async def _measure(url: str, redis_url: str | None, scale: Scale) -> dict[str, dict[str, tuple[float, ...]]]:
    async with database(url) as engine, client(redis_url) as redis:
        user = await create_user(engine, hashed_password=PasswordHelper().hash(PASSWORD))
        cases = {
            "login": (logins(engine, redis, user), scale.calls),
            "login, password hashing included": (whole_logins(engine, redis, user), max(1, scale.calls // 10)),
            "logout": (logouts(engine, redis, user), scale.calls),
        }
        return {
            case: await interleave(trials, rounds=scale.rounds, calls=calls) for case, (trials, calls) in cases.items()
        }


def logins(engine: AsyncEngine, redis: Redis | None, user: User) -> dict[str, Trial]:
    """Return the trials in which each strategy logs a user in whom the session has just loaded."""
    return {
        name: Trial(run=_write(make), prepare=partial(_load, engine, user), finish=_end(engine, make, user))
        for name, make in {**strategies(redis), **_limited(redis)}.items()
    }


def whole_logins(engine: AsyncEngine, redis: Redis | None, user: User) -> dict[str, Trial]:
    """Return the trials that load a user, check the password with Argon2, and log the user in with each strategy."""
    return {
        name: Trial(run=_authenticate_and_write(engine, make, user), finish=_end(engine, make, user))
        for name, make in strategies(redis).items()
    }


def logouts(engine: AsyncEngine, redis: Redis | None, user: User) -> dict[str, Trial]:
    """Return the trials in which each strategy logs a user out, except `JWTStrategy`, which cannot log out."""
    return {
        name: Trial(run=_destroy(make), prepare=_log_in_and_load(engine, make, user))
        for name, make in strategies(redis).items()
        if name != JWT
    }


def _limited(redis: Redis | None) -> Mapping[str, Make]:
    over_sql: dict[str, Make] = {KNOX_SQL + LIMITED: partial(knox_sql, settings=LIMIT)}
    return over_sql if redis is None else over_sql | {KNOX_REDIS + LIMITED: partial(knox_redis, redis, settings=LIMIT)}


async def _load(engine: AsyncEngine, user: User) -> tuple[AsyncSession, User]:
    """Open a session and load the user, so that the session has an open transaction as in any login request."""
    session = AsyncSession(engine, expire_on_commit=False)
    return session, await user_manager_on(session).get_by_email(user.email)


def _write(make: Make) -> Callable[[Any], Awaitable[str]]:
    async def run(loaded: tuple[AsyncSession, User]) -> str:
        session, user = loaded
        async with session:
            return await make(session).write_token(user)

    return run


def _authenticate_and_write(engine: AsyncEngine, make: Make, user: User) -> Callable[[Any], Awaitable[str]]:
    async def run(_: None) -> str:
        form = OAuth2PasswordRequestForm(username=user.email, password=PASSWORD)
        async with AsyncSession(engine, expire_on_commit=False) as session:
            authenticated = await user_manager_on(session).authenticate(form)
            assert authenticated is not None
            return await make(session).write_token(authenticated)

    return run


def _end(engine: AsyncEngine, make: Make, user: User) -> Callable[[Any], Awaitable[object]]:
    """Revoke the token, so that each login finds the same number of live tokens."""

    async def finish(token: str) -> None:
        async with AsyncSession(engine, expire_on_commit=False) as session:
            with suppress(StrategyDestroyNotSupportedError):
                await make(session).destroy_token(token, user)

    return finish


def _log_in_and_load(engine: AsyncEngine, make: Make, user: User) -> Callable[[], Awaitable[Any]]:
    async def prepare() -> tuple[AsyncSession, User, str]:
        async with AsyncSession(engine, expire_on_commit=False) as session:
            token = await make(session).write_token(user)
        return *await _load(engine, user), token

    return prepare


def _destroy(make: Make) -> Callable[[Any], Awaitable[object]]:
    async def run(prepared: tuple[AsyncSession, User, str]) -> None:
        session, user, token = prepared
        async with session:
            await make(session).destroy_token(token, user)

    return run
