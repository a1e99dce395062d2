"""Measure how many refreshes are written, and how long reads take, when many clients share one token."""

import asyncio
import gc
import logging
import random
import uuid
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta
from math import ceil
from statistics import median
from time import perf_counter_ns
from typing import Any

import uvloop
from redis.asyncio import Redis
from sqlalchemy import event
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine

from benchmarks.filling import NOW, Kept, Place, create_users, log_in
from benchmarks.measure import Scale, Series, Servers, p99
from benchmarks.peers import user_manager_on
from benchmarks.setting import client, collected_log, database
from fastapi_users_knox import KnoxEvent, KnoxSettings, TokenRefreshed
from tests.strategies import Clock

CASE = "sliding sessions"
WRITES = "refresh writes per deadline"
PUBLISHED = "refresh events per deadline"
SKIPPED = "skipped writes per deadline"

WORKERS = 4  # the processes of an application, each with its own engine and client of Redis
READS = 5  # the reads of each client in a turn
SETTINGS = KnoxSettings(auto_refresh=True, min_refresh_interval=timedelta(minutes=1))
STEP = timedelta(minutes=1, seconds=1)  # the time from one due refresh to the next


def measure(servers: Servers, scale: Scale) -> Iterator[Series]:
    """Measure each database, and also Redis with the users in the first database."""
    for store, urls in servers.stores.items():
        yield from uvloop.run(_measure(store, *urls, scale))


@dataclass(frozen=True, kw_only=True)
class Turn:
    """The measurements of one turn, in which all clients read.

    Attributes:
        took: The time of each read, in milliseconds.
        writes: The number of writes to the record.
        refreshed: The number of refreshes that were published to the listeners.
        skipped: The number of processes that have skipped a write because the database made them wait, as their logs
            show.
    """

    took: Sequence[float]
    writes: int
    refreshed: int
    skipped: int

    @property
    def p50(self) -> float:
        """The median of the times."""
        return median(self.took)

    @property
    def p99(self) -> float:
        """The time that one read in a hundred exceeds."""
        return p99(self.took)


@dataclass(frozen=True, kw_only=True)
class Sharing:
    """One token, the processes that read it, and the traces of their writes.

    Attributes:
        kept: The token.
        workers: The access of each process to the stores.
        clock: The common clock of the processes.
        events: The events that they publish.
        log: The messages that they log.
        written: The numbers of rows that their UPDATEs have changed.
        redis: The client of Redis, if the token is in Redis.
    """

    kept: Kept
    workers: Sequence[Place]
    clock: Clock
    events: list[KnoxEvent[Any]]
    log: list[logging.LogRecord]
    written: list[int]
    redis: Redis | None

    async def turn(self, clients: int, *, is_due: bool) -> Turn:
        """Make all clients read at once, several times each, with or without a due refresh."""
        if is_due:
            self.clock.now += STEP
        self.events.clear()
        self.log.clear()
        gc.collect()
        before = await self._writes()
        reading = (self._read(self.workers[number % WORKERS]) for number in range(clients))
        took = [one for reads in await asyncio.gather(*reading) for one in reads]
        refreshed = sum(isinstance(event, TokenRefreshed) for event in self.events)
        return Turn(took=took, writes=await self._writes() - before, refreshed=refreshed, skipped=len(self.log))

    async def _read(self, worker: Place) -> list[float]:
        took = []
        for _ in range(READS):
            began = perf_counter_ns()
            async with worker.session() as session:
                user = await worker.knox(session, SETTINGS).read_token(self.kept.text, user_manager_on(session))
            took.append((perf_counter_ns() - began) / 1e6)
            assert user is not None
        return took

    async def _writes(self) -> int:
        """Return the number of writes so far: changed rows in SQL, or SETs in Redis, which only refreshes send."""
        if self.redis is None:
            return sum(self.written)
        return int((await self.redis.info("commandstats")).get("cmdstat_set", {}).get("calls", 0))


async def _measure(store: str, url: str, redis_url: str | None, scale: Scale) -> list[Series]:
    async with sharing(url, redis_url, scale.clients) as shared:
        turns: dict[bool, list[Turn]] = {True: [], False: []}
        for is_due in (True, False):  # These turns open all connections.
            await shared.turn(scale.clients, is_due=is_due)
        for _ in range(scale.rounds):
            for is_due in random.sample((True, False), 2):
                turns[is_due].append(await shared.turn(scale.clients, is_due=is_due))
    due, idle = turns[True], turns[False]
    figures: dict[tuple[str, str], list[float]] = {
        ("p50 with refresh", "ms"): [turn.p50 for turn in due],
        ("p50 without", "ms"): [turn.p50 for turn in idle],
        ("p99 with refresh", "ms"): [turn.p99 for turn in due],
        ("p99 without", "ms"): [turn.p99 for turn in idle],
        (WRITES, "writes"): [turn.writes for turn in due],
        (PUBLISHED, "events"): [turn.refreshed for turn in due],
        (SKIPPED, "writes"): [turn.skipped for turn in due],
    }
    return [
        Series(case=CASE, group=store, subject=subject, unit=unit, values=tuple(values))
        for (subject, unit), values in figures.items()
    ]


@asynccontextmanager
async def sharing(url: str, redis_url: str | None, clients: int) -> AsyncIterator[Sharing]:
    """Log a user in, and create the processes, each with enough connections for its share of the clients."""
    kept, events, clock = log_in(uuid.uuid4()), list[KnoxEvent[Any]](), Clock(NOW)
    async with database(url) as engine, client(redis_url) as redis, AsyncExitStack() as stack:
        log = stack.enter_context(collected_log())
        await create_users(engine, [kept.record.user_id])
        await Place(engine=engine, redis=redis).keep([kept])
        workers, written = [], list[int]()
        for _ in range(WORKERS):
            own = create_async_engine(url, pool_size=ceil(clients / WORKERS) + 1)
            stack.push_async_callback(own.dispose)
            _count_changed_rows(own, written)
            own_redis = None if redis_url is None else Redis.from_url(redis_url, decode_responses=True)
            if own_redis is not None:
                await stack.enter_async_context(own_redis)
            workers.append(Place(engine=own, redis=own_redis, clock=clock, listeners=[events.append]))
        yield Sharing(kept=kept, workers=workers, clock=clock, events=events, log=log, written=written, redis=redis)


def _count_changed_rows(engine: AsyncEngine, written: list[int]) -> None:
    """Append the number of rows that each UPDATE changes: none, if another one has refreshed the token."""

    def note(_connection: object, cursor: Any, statement: str, *_more: object) -> None:
        if statement.startswith("UPDATE"):
            written.append(cursor.rowcount)

    event.listen(engine.sync_engine, "after_cursor_execute", note)
