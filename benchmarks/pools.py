"""Measure what refreshes cost the other requests when many connections share a small pool of the database's.

Each of 64 clients has its own token, and sends one request after the other. A request reads the token, and then sends a
statement that takes the database ten milliseconds, so the pool is always in use. The clients share one event loop.
"""

import asyncio
import gc
import random
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from time import perf_counter, perf_counter_ns
from uuid import uuid4

import uvloop
from sqlalchemy import text
from sqlalchemy.exc import TimeoutError as PoolTimeout
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine

from benchmarks.filling import NOW, Kept, Place, create_users, log_in
from benchmarks.measure import Scale, Series, Servers, p99
from benchmarks.peers import SLIDING_SETTINGS, user_manager_of
from benchmarks.refreshes import STEP
from benchmarks.setting import collected_log, database
from fastapi_users_knox import StoreUnavailable
from tests.strategies import Clock

CASE = "shared pool"
CLIENTS = 64
LARGE, SMALL = "pool of 15", "pool of 2, and 0.3 s to wait for it"
NONE_DUE, SOME_DUE, ALL_DUE = "no refresh due", "a refresh due at one read in ten", "a refresh due at each read"
SHARES: Mapping[str, float] = {NONE_DUE: 0, SOME_DUE: 0.1, ALL_DUE: 1}
"""By how much of the time between two refreshes each read moves the clock of its client."""

_WORK = text("SELECT pg_sleep(0.01)")


@dataclass(frozen=True, kw_only=True)
class Turn:
    """The measurements of one turn.

    Attributes:
        took: The time of each request that was answered, in milliseconds.
        refused: The number of requests that were refused, because they got no connection to the database in time.
    """

    took: Sequence[float]
    refused: int

    @property
    def share(self) -> float:
        """The share of the refused requests, in per cent; at least half a request, so that a ratio always exists."""
        return 100 * max(self.refused, 0.5) / (len(self.took) + self.refused)


def measure(servers: Servers, scale: Scale) -> Iterator[Series]:
    """Measure on PostgreSQL."""
    url = servers.databases.get("PostgreSQL")
    if url is None:
        return
    large, small = uvloop.run(_measure(url, scale))
    for subject in SHARES:
        tails, shares = tuple(p99(turn.took) for turn in large[subject]), tuple(turn.share for turn in small[subject])
        yield Series(case=CASE, group=LARGE, subject=subject, unit="ms, p99", values=tails)
        yield Series(case=CASE, group=SMALL, subject=subject, unit="% refused with 503", values=shares)


async def _measure(url: str, scale: Scale) -> tuple[Mapping[str, Sequence[Turn]], Mapping[str, Sequence[Turn]]]:
    async with database(url) as engine, AsyncExitStack() as stack:
        stack.enter_context(collected_log())  # The store logs each request that gets no connection.
        kept = [log_in(uuid4()) for _ in range(CLIENTS)]
        await create_users(engine, [one.record.user_id for one in kept])
        await Place(engine=engine).keep(kept)
        large = create_async_engine(url, pool_size=15, max_overflow=0)
        small = create_async_engine(url, pool_size=2, max_overflow=0, pool_timeout=0.3)
        stack.push_async_callback(large.dispose)
        stack.push_async_callback(small.dispose)
        clocks = [Clock(NOW) for _ in kept]
        return await _take_turns(large, kept, clocks, scale), await _take_turns(small, kept, clocks, scale)


async def _take_turns(
    engine: AsyncEngine, kept: Sequence[Kept], clocks: Sequence[Clock], scale: Scale
) -> Mapping[str, Sequence[Turn]]:
    turns: dict[str, list[Turn]] = {subject: [] for subject in SHARES}
    await turn(engine, kept, clocks, share=1, seconds=scale.seconds)  # This opens the connections.
    for _ in range(scale.http_rounds):
        for subject in random.sample(sorted(SHARES), len(SHARES)):
            turns[subject].append(await turn(engine, kept, clocks, share=SHARES[subject], seconds=scale.seconds))
    return turns


async def turn(
    engine: AsyncEngine, kept: Sequence[Kept], clocks: Sequence[Clock], *, share: float, seconds: float
) -> Turn:
    """Let all clients send requests for this long."""
    gc.collect()
    end, took, refused = perf_counter() + seconds, list[float](), 0

    async def send_requests(request: Callable[[], Awaitable[None]], clock: Clock) -> None:
        nonlocal refused
        while perf_counter() < end:
            clock.now += share * STEP
            began = perf_counter_ns()
            try:
                await request()
            except (StoreUnavailable, PoolTimeout):
                refused += 1
            else:
                took.append((perf_counter_ns() - began) / 1e6)

    await asyncio.gather(
        *(
            send_requests(_request(Place(engine=engine, clock=clock), one), clock)
            for one, clock in zip(kept, clocks, strict=True)
        )
    )
    return Turn(took=took, refused=refused)


def _request(place: Place, kept: Kept) -> Callable[[], Awaitable[None]]:
    async def request() -> None:
        async with place.session() as session:
            strategy = place.knox(session, SLIDING_SETTINGS)
            assert await strategy.read_token(kept.text, user_manager_of(session, strategy)) is not None
            await session.execute(_WORK)

    return request
