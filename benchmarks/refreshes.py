"""Measure a read that refreshes its token, beside one that does not, without other requests."""

from collections.abc import Iterator, Mapping, Sequence
from datetime import timedelta
from itertools import cycle
from uuid import uuid4

import uvloop

from benchmarks.filling import NOW, Kept, Place, create_users, log_in
from benchmarks.measure import Scale, Series, Servers, Trial, interleave
from benchmarks.peers import SLIDING_SETTINGS, user_manager_of
from benchmarks.setting import client, database
from tests.strategies import Clock

CASE = "read with a refresh"
DUE, NOT_DUE = "refresh due", "no refresh due"
STEP = timedelta(minutes=1, seconds=1)  # more than `min_refresh_interval`

_USERS = 100  # Each of their tokens is read again before it expires.


def measure(servers: Servers, scale: Scale) -> Iterator[Series]:
    """Measure each database, and also Redis with the users in the first database."""
    for store, urls in servers.stores.items():
        for subject, took in uvloop.run(_measure(*urls, scale)).items():
            yield Series(case=CASE, group=store, subject=subject, unit="ms", values=took)


async def _measure(url: str, redis_url: str | None, scale: Scale) -> dict[str, tuple[float, ...]]:
    async with database(url) as engine, client(redis_url) as redis:
        clock = Clock(NOW)
        due, idle = Place(engine=engine, redis=redis, clock=clock), Place(engine=engine, redis=redis)
        return await interleave(await trials(due, idle, clock), rounds=scale.rounds, calls=5 * scale.calls)


async def trials(due: Place, idle: Place, clock: Clock) -> Mapping[str, Trial]:
    """Log users in, and return a trial whose clock moves on before each read, and one whose clock stands still."""
    kept = [log_in(uuid4()) for _ in range(2 * _USERS)]
    await create_users(due.engine, [one.record.user_id for one in kept])
    await due.keep(kept)
    return {DUE: _read(due, kept[:_USERS], clock), NOT_DUE: _read(idle, kept[_USERS:], Clock())}


def _read(place: Place, kept: Sequence[Kept], clock: Clock) -> Trial:
    turns = cycle(kept)

    async def prepare() -> Kept:
        clock.now += STEP
        return next(turns)

    async def run(kept: Kept) -> None:
        async with place.session() as session:
            strategy = place.knox(session, SLIDING_SETTINGS)
            assert await strategy.read_token(kept.text, user_manager_of(session, strategy)) is not None

    return Trial(run=run, prepare=prepare)
