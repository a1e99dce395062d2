"""Measure a purge of many expired tokens on PostgreSQL, and the reads of other requests in the meantime.

The reads are made in the process that purges, by as many clients as the benchmark over HTTP has.
"""

import asyncio
import gc
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta
from itertools import cycle, pairwise
from time import perf_counter, perf_counter_ns
from uuid import uuid4

import uvloop

from benchmarks.filling import Kept, Place, create_users, log_in
from benchmarks.load import CONNECTIONS
from benchmarks.measure import PARTS, Scale, Series, Servers, p99
from benchmarks.models import KnoxToken
from benchmarks.peers import KNOX_SQL, user_manager_of
from benchmarks.setting import database, vacuum

CASE = "purge"
READS = "PostgreSQL: p99 of reads"
PURGE = "PostgreSQL: purge"
ALONE = "without a purge"

_USERS = 1000  # those who have the expired tokens, and of whom each has a live one
_COPY = """
INSERT INTO knox_token (id, digest, user_id, {others})
SELECT gen_random_uuid(), sha256(number::text::bytea), users.id, {others}
FROM generate_series(1, {count}) AS number
JOIN (SELECT id, row_number() OVER () - 1 AS place FROM "user") AS users ON users.place = number % {users}
CROSS JOIN (SELECT {others} FROM knox_token WHERE id = '{id}') AS expired
"""


@dataclass(frozen=True, kw_only=True)
class Purged:
    """The measurements of a purge.

    Attributes:
        alone: The times of the reads without a purge, in milliseconds and in their order.
        meanwhile: The times of the reads during the purge.
        rate: The number of tokens that were purged in a second.
    """

    alone: Sequence[float]
    meanwhile: Sequence[float]
    rate: float


def measure(servers: Servers, scale: Scale) -> Iterator[Series]:
    """Measure on PostgreSQL."""
    url = servers.databases.get("PostgreSQL")
    if url is None:
        return
    purged = uvloop.run(purge(url, scale.expired))
    for subject, took in ((ALONE, purged.alone), (during(scale.expired), purged.meanwhile)):
        yield Series(case=CASE, group=READS, subject=subject, unit="ms", values=_p99_of_parts(took))
    yield Series(case=CASE, group=PURGE, subject=KNOX_SQL, unit="tokens/s", values=(purged.rate,))


def during(count: int) -> str:
    """Return the name of reads during a purge of this many tokens."""
    return f"during a purge of {count:,} tokens"


def _p99_of_parts(took: Sequence[float]) -> tuple[float, ...]:
    bounds = [round(len(took) * part / PARTS) for part in range(PARTS + 1)]
    return tuple(p99(took[start:end]) for start, end in pairwise(bounds))


async def purge(url: str, count: int) -> Purged:
    """Store expired tokens, read for as long as their purge takes, and read while they are purged."""
    async with database(url) as engine:
        place = Place(engine=engine)
        live = [log_in(uuid4()) for _ in range(_USERS)]
        await create_users(engine, [one.record.user_id for one in live])
        await place.keep(live)
        await _expire(place, live[0], count)
        gc.collect()
        async with _reading(place, live):  # This opens the connections.
            await asyncio.sleep(1)
        began = perf_counter()
        async with _reading(place, live) as meanwhile, place.session() as session:
            assert await place.knox(session).purge() == count
        seconds = perf_counter() - began
        async with _reading(place, live) as alone:
            await asyncio.sleep(max(seconds, 1))
        return Purged(alone=alone, meanwhile=meanwhile, rate=count / seconds)


async def _expire(place: Place, live: Kept, count: int) -> None:
    """Store expired tokens of all users, in a moment: the first by the usual means, the others as copies of it."""
    expired = log_in(live.record.user_id, ttl=-timedelta(hours=1), is_known=False)
    await place.keep([expired])
    columns = KnoxToken.__table__.columns.keys()
    others = ", ".join(sorted(set(columns) - {"id", "digest", "user_id"}))
    copy = _COPY.format(others=others, count=count - 1, users=_USERS, id=expired.record.id)
    async with place.engine.begin() as connection:
        await connection.exec_driver_sql(copy)
    await vacuum(place.engine)


@asynccontextmanager
async def _reading(place: Place, live: Sequence[Kept]) -> AsyncIterator[list[float]]:
    """Read tokens during the block, and collect the time of each read."""
    took, tokens, is_over = list[float](), cycle(live), False

    async def read() -> None:
        while not is_over:
            began = perf_counter_ns()
            async with place.session() as session:
                strategy = place.knox(session)
                assert await strategy.read_token(next(tokens).text, user_manager_of(session, strategy)) is not None
            took.append((perf_counter_ns() - began) / 1e6)

    async with asyncio.TaskGroup() as clients:
        for _ in range(CONNECTIONS):
            clients.create_task(read())
        yield took
        is_over = True
