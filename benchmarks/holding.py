"""Measure how long the commands of each verb hold Redis, which serves nobody else in the meantime."""

from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from contextlib import asynccontextmanager
from functools import partial
from uuid import UUID, uuid4

import uvloop
from redis.asyncio import Redis

from benchmarks.filling import Kept, Place, create_users, log_in
from benchmarks.growth import of_user, user_trials
from benchmarks.measure import Scale, Series, Servers, Trial
from benchmarks.peers import user_manager_on
from benchmarks.setting import client, database

CASE = "longest command of a verb"
VERBS = ("read", "login", "login, limited", "list", "logout", "revocation by id", "rotation", "logout-all")


def measure(servers: Servers, scale: Scale) -> Iterator[Series]:
    """Measure users with few and with many tokens, with the users in any database."""
    if servers.redis is None:
        return
    some = next(iter(servers.databases.values()))
    for (verb, subject), longest in uvloop.run(_measure(some, servers.redis, scale)).items():
        yield Series(case=CASE, group=f"Redis: {verb}", subject=subject, unit="ms", values=longest)


async def _measure(url: str, redis_url: str, scale: Scale) -> dict[tuple[str, str], tuple[float, ...]]:
    longest = {}
    async with database(url) as engine, client(redis_url) as redis:
        assert redis is not None
        place = Place(engine=engine, redis=redis)
        async with _all_logged(redis):
            for count in scale.tokens_of_one:
                for verb, trial in (await trials(place, count)).items():
                    await _longest(redis, trial)  # Redis then has the scripts.
                    longest[verb, of_user(count)] = tuple([await _longest(redis, trial) for _ in range(scale.rounds)])
    return longest


@asynccontextmanager
async def _all_logged(redis: Redis) -> AsyncIterator[None]:
    """Make Redis log all commands as slow ones during the block."""
    await redis.config_set("slowlog-log-slower-than", 0)
    await redis.config_set("slowlog-max-len", 100_000)
    yield
    await redis.config_set("slowlog-log-slower-than", -1)
    await redis.slowlog_reset()


async def trials(place: Place, count: int) -> Mapping[str, Trial]:
    """Return the trials with a user who has this many tokens, by verb."""
    user_id = uuid4()
    kept = [log_in(user_id) for _ in range(count)]
    await create_users(place.engine, [user_id])
    await place.keep(kept)
    some = {
        **user_trials(place, kept),
        "revocation by id": Trial(run=_revoke(place, user_id), prepare=partial(_log_in, place, user_id)),
        "rotation": Trial(
            run=_rotate(place, user_id),
            prepare=partial(_log_in, place, user_id),
            finish=partial(place.forget, user_id),
        ),
    }
    return {verb: some[verb] for verb in VERBS}


async def _log_in(place: Place, user_id: UUID) -> Kept:
    kept = log_in(user_id)
    await place.keep([kept])
    return kept


def _revoke(place: Place, user_id: UUID) -> Callable[[Kept], Awaitable[None]]:
    async def run(kept: Kept) -> None:
        async with place.session() as session:
            user = await user_manager_on(session).get(user_id)
            assert await place.knox(session).revoke(user, kept.record.id)

    return run


def _rotate(place: Place, user_id: UUID) -> Callable[[Kept], Awaitable[str]]:
    async def run(kept: Kept) -> str:
        async with place.session() as session:
            user = await user_manager_on(session).get(user_id)
            return await place.knox(session).rotate_token(kept.text, user)

    return run


async def _longest(redis: Redis, trial: Trial) -> float:
    """Return the time of the longest command that one act sends, in milliseconds, as Redis logs it."""
    prepared = await trial.prepare()
    await redis.slowlog_reset()
    left = await trial.run(prepared)
    commands = [command for command in await redis.slowlog_get(-1) if "SLOWLOG" not in str(command["command"])]
    await trial.finish(left)
    return float(max(command["duration"] for command in commands)) / 1000
