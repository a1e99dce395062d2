"""Measure what a read over SQL consists of: each subject does a little more than another one.

The difference between two subjects is what the step between them takes, such as BEGIN and ROLLBACK.
"""

from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence

import uvloop
from sqlalchemy import select, text
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession

from benchmarks.measure import CPU, Scale, Series, Servers, Trial, Turn, time_turns
from benchmarks.models import User
from benchmarks.peers import JWT, KNOX_SQL, RECORD_ALONE, knox_sql, request, user_manager_of
from benchmarks.reads import FLOOR, Run, floor, trials
from benchmarks.setting import database

CASE = "what a read consists of"
NO_BEGIN = ", without BEGIN and ROLLBACK"
SESSION = "a session without a statement"
OBJECTS = "and the store, the strategy and the user manager"
TRIP, SELECT = "SELECT 1", "the user's SELECT"

_ONE = text("SELECT 1")

Act = Callable[[AsyncSession], Awaitable[None]]


def measure(servers: Servers, scale: Scale) -> Iterator[Series]:
    """Measure each database."""
    for group, url in servers.databases.items():
        for subject, turns in uvloop.run(_measure(url, scale)).items():
            took, cpu = tuple(turn.took for turn in turns), tuple(turn.cpu for turn in turns)
            yield Series(case=CASE, group=group, subject=subject, unit="ms", values=took)
            yield Series(case=CASE, group=group, subject=subject, unit=CPU, values=cpu)


async def _measure(url: str, scale: Scale) -> Mapping[str, Sequence[Turn]]:
    async with database(url) as engine:
        return await time_turns(await steps(engine, users=scale.users), rounds=scale.rounds, calls=5 * scale.calls)


async def steps(engine: AsyncEngine, *, users: int) -> Mapping[str, Trial]:
    """Log users in, and return the trials in the order of what they do."""
    no_begin = engine.execution_options(isolation_level="AUTOCOMMIT")
    reads = await trials(engine, None, users=users)
    async with AsyncSession(engine) as session:
        ids = (await session.scalars(select(User.__table__.c.id))).all()
    return {
        SESSION: Trial(run=_in_session(engine, _nothing)),
        OBJECTS: Trial(run=_in_session(engine, _create_objects)),
        TRIP + NO_BEGIN: Trial(run=_in_session(no_begin, _select_one)),
        TRIP: Trial(run=_in_session(engine, _select_one)),
        SELECT + NO_BEGIN: Trial(run=floor(no_begin, ids)),
        FLOOR: reads[FLOOR],
        **{subject: reads[subject] for subject in (KNOX_SQL + RECORD_ALONE, KNOX_SQL, JWT)},
    }


def _in_session(engine: AsyncEngine, act: Act) -> Run:
    async def run(_: None) -> None:
        async with AsyncSession(engine, expire_on_commit=False) as session:
            request()
            await act(session)

    return run


async def _nothing(_session: AsyncSession) -> None:
    pass


async def _create_objects(session: AsyncSession) -> None:
    user_manager_of(session, knox_sql(session))


async def _select_one(session: AsyncSession) -> None:
    await session.execute(_ONE)
