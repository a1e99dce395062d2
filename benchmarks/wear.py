"""Measure how refreshes wear the table on PostgreSQL: updates that touch an index, bytes of WAL, growth of the indexes.

The UPDATE of one refresh is recorded, and repeated for all tokens in random order, each in its own transaction, several
times with a VACUUM in between. Its times differ from token to token, as they do in an application.
"""

import asyncio
import random
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any
from uuid import uuid4

import uvloop
from sqlalchemy import event, text
from sqlalchemy.ext.asyncio import AsyncEngine

from benchmarks.filling import NOW, Kept, Place, create_users, log_in
from benchmarks.measure import Scale, Series, Servers
from benchmarks.models import KnoxToken
from benchmarks.peers import SLIDING_SETTINGS, user_manager_on
from benchmarks.setting import database, vacuum
from tests.strategies import Clock

CASE = "wear"
HOT, WAL = "updates that touch no index (HOT)", "WAL of a refresh"
INDEXES, TABLE = "indexes", "table"
REFRESHES = 5  # of each token
STEP = timedelta(minutes=1, seconds=1)  # just more than `min_refresh_interval`: a token cannot be refreshed more often

_TOKENS_PER_USER = 3
_WRITERS = 4  # connections
_HOUR = 60 * 60 * 1000  # milliseconds


@dataclass(frozen=True, kw_only=True)
class State:
    """What PostgreSQL has counted at a moment.

    Attributes:
        updates: The number of updated rows.
        hot: The number of updates that changed no index.
        wal: The bytes that were written to the write-ahead log.
        indexes: The bytes of the indexes of the table.
        table: The bytes of the table.
    """

    updates: int
    hot: int
    wal: int
    indexes: int
    table: int


_STATE = text("""
SELECT n_tup_upd AS updates, n_tup_hot_upd AS hot, pg_wal_lsn_diff(pg_current_wal_lsn(), '0/0')::bigint AS wal,
    pg_indexes_size(relid) AS indexes, pg_table_size(relid) AS table
FROM pg_stat_user_tables WHERE relname = :name
""")


def measure(servers: Servers, scale: Scale) -> Iterator[Series]:
    """Measure PostgreSQL."""
    url = servers.databases.get("PostgreSQL")
    if url is None:
        return
    states = uvloop.run(wear(url, scale.refreshed))
    pairs = [(states[number], states[number + 1]) for number in range(0, len(states), 2)]
    figures: dict[tuple[str, str], Sequence[float]] = {
        (HOT, "%"): [100 * (after.hot - before.hot) / (after.updates - before.updates) for before, after in pairs],
        (WAL, "bytes"): [(after.wal - before.wal) / (after.updates - before.updates) for before, after in pairs],
        (f"{INDEXES}, after / before", "times"): [states[-1].indexes / states[0].indexes],
        (f"{TABLE}, after / before", "times"): [states[-1].table / states[0].table],
    }
    for (subject, unit), values in figures.items():
        yield Series(case=CASE, group="PostgreSQL", subject=subject, unit=unit, values=tuple(values))


async def wear(url: str, count: int) -> Sequence[State]:
    """Refresh all tokens several times, and return the state before and after each time."""
    async with database(url) as engine:
        users = [uuid4() for _ in range(count // _TOKENS_PER_USER + 1)]
        kept = [log_in(users[number % len(users)]) for number in range(count)]
        await create_users(engine, users)
        await Place(engine=engine).keep(kept)
        statement, parameters = await _recorded(engine, kept[0])
        states, updates = list[State](), 1
        for number in range(REFRESHES):
            await vacuum(engine)
            states.append(await _state(engine, updates=updates))
            calls = [_for_another(parameters, kept[0], one, later=number * STEP) for one in random.sample(kept, count)]
            updates += await _repeat(engine, statement, calls)
            states.append(await _state(engine, updates=updates))
        return states


async def _recorded(engine: AsyncEngine, kept: Kept) -> tuple[str, Sequence[object]]:
    """Return the UPDATE that a refresh sends, which is undone."""
    place = Place(engine=engine, clock=Clock(NOW + STEP))
    with _updates(engine) as updates:
        async with place.session() as session:
            strategy = place.knox(session, SLIDING_SETTINGS)
            assert await strategy.read_token(kept.text, user_manager_on(session)) is not None
    await place.forget(kept.record.user_id, kept.text)
    await place.keep([kept])
    await engine.dispose()  # A connection that is closed reports what it has counted.
    [update] = updates
    return update


@contextmanager
def _updates(engine: AsyncEngine) -> Iterator[list[tuple[str, Sequence[object]]]]:
    """Collect the UPDATEs that are sent during the block, with their parameters."""
    updates: list[tuple[str, Sequence[object]]] = []

    def note(_connection: object, _cursor: object, statement: str, parameters: Any, *_more: object) -> None:
        if "UPDATE knox_token" in statement and "WHERE false" not in statement:
            updates.append((statement, parameters))

    event.listen(engine.sync_engine, "before_cursor_execute", note)
    yield updates
    event.remove(engine.sync_engine, "before_cursor_execute", note)


def _for_another(parameters: Sequence[object], recorded: Kept, kept: Kept, *, later: timedelta) -> Sequence[object]:
    """Return the parameters of the UPDATE of another token, at another time within the same hour or the next one."""
    moved = later + timedelta(milliseconds=kept.record.id.int % _HOUR)
    expires_at = max(value for value in parameters if isinstance(value, datetime))
    others: dict[object, object] = {
        recorded.record.id: kept.record.id,
        recorded.digest: kept.digest,
        recorded.record.user_id: kept.record.user_id,
        _hour_of(expires_at): _hour_of(expires_at + moved),  # The table may have the hour of the expiry as well.
    }
    return [
        value + moved if isinstance(value, datetime) and value not in others else others.get(value, value)
        for value in parameters
    ]


def _hour_of(moment: datetime) -> datetime:
    return moment.replace(minute=0, second=0, microsecond=0)


async def _repeat(engine: AsyncEngine, statement: str, calls: Sequence[Sequence[object]]) -> int:
    """Send the statement with all these parameters, and return their number."""
    waiting = iter(calls)

    async def write() -> None:
        async with engine.connect() as connection:
            driver = (await connection.get_raw_connection()).driver_connection
            assert driver is not None
            for parameters in waiting:
                assert (await driver.execute(statement, *parameters)) == "UPDATE 1"

    await asyncio.gather(*(write() for _ in range(_WRITERS)))
    await engine.dispose()
    return len(calls)


async def _state(engine: AsyncEngine, *, updates: int) -> State:
    """Return the state, once PostgreSQL has counted this many updates, which it does a moment later."""
    while True:
        async with engine.connect() as connection:
            state = State(**(await connection.execute(_STATE, {"name": KnoxToken.__tablename__})).mappings().one())
        if state.updates >= updates:
            return state
        await asyncio.sleep(0.1)
