"""The benchmarks count statements and bytes correctly, and the data that they prepare is the same as logins leave."""

import re
import uuid
from collections.abc import AsyncIterator, Iterator
from dataclasses import replace
from datetime import timedelta
from types import ModuleType
from typing import Any

import pytest
from fastapi_users.password import PasswordHelper
from redis.asyncio import Redis

from benchmarks import growth, holding, imports, junk, logins, memory, reads, refreshes, sliding, statements, steps
from benchmarks.counting import counter
from benchmarks.filling import NOW, TOKENS_PER_USER, Kept, Place, create_users, fill, log_in
from benchmarks.measure import CPU, PARTS, Scale, Servers, Trial
from benchmarks.peers import DATABASE, JWT, KNOX_REDIS, KNOX_SQL, RECORD_ALONE, REDIS, SLIDING, user_manager_on
from benchmarks.setting import client, create_user, database
from fastapi_users_knox import tokens
from tests.redis_servers import redis
from tests.servers import skip_if_unavailable
from tests.strategies import Clock

pytestmark = pytest.mark.unmeasured

TINY = Scale(
    rounds=1,
    calls=1,
    http_rounds=1,
    seconds=0.1,
    tokens=(10, 30),
    tokens_of_one=(1, 5),
    stored=900,
    clients=8,
    users=2,
    expired=30,
    refreshed=30,
)

Figures = dict[tuple[str, str, str], tuple[float, ...]]


@pytest.fixture(scope="module")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Servers]:
    """Start a SQLite database and a Redis; the cases are the same on other databases."""
    path = tmp_path_factory.mktemp("benchmarks") / "benchmark.db"
    with skip_if_unavailable(), redis("any") as server:
        yield Servers(databases={"SQLite": f"sqlite+aiosqlite:///{path}"}, redis=server.url())


@pytest.fixture(params=["SQLite", "Redis"])
async def place(request: pytest.FixtureRequest, servers: Servers) -> AsyncIterator[Place]:
    """Return an empty store of each kind."""
    redis_url = servers.redis if request.param == "Redis" else None
    async with database(servers.databases["SQLite"]) as engine, client(redis_url) as redis:
        yield Place(engine=engine, redis=redis)


def figures(case: ModuleType, servers: Servers) -> Figures:
    """Run a case, and return its figures by group, subject and unit."""
    return {(one.group, one.subject, one.unit): one.values for one in case.measure(servers, TINY)}


async def test_logins_and_logouts_are_what_is_timed(servers: Servers) -> None:
    """Each timed login and logout of each strategy succeeds, with and without the password."""
    async with database(servers.databases["SQLite"]) as engine, client(servers.redis) as redis:
        user = await create_user(engine, hashed_password=PasswordHelper().hash(logins.PASSWORD))

        for trials in (logins.logins, logins.whole_logins, logins.logouts):
            for trial in trials(engine, redis, user).values():
                await _try(trial)


async def test_each_strategy_reads_the_tokens_of_all_users(servers: Servers) -> None:
    """Each timed read of each strategy, and each floor, loads an active user."""
    async with database(servers.databases["SQLite"]) as engine, client(servers.redis) as redis:
        timed = await reads.trials(engine, redis, users=2)

        assert {KNOX_SQL + SLIDING, KNOX_REDIS + RECORD_ALONE, JWT, DATABASE, REDIS, reads.FLOOR} < set(timed)
        for trial in timed.values():
            await _try(trial)


def test_reads_take_wall_time_and_processor_time(servers: Servers) -> None:
    """A read has its time and its processor time in each of three runs."""
    measured = figures(reads, servers)

    assert all(len(measured["SQLite", KNOX_REDIS, unit]) == PARTS for unit in ("ms", CPU))


async def test_each_step_of_a_read_is_timed(servers: Servers) -> None:
    """Each subject that does a part of a read succeeds."""
    async with database(servers.databases["SQLite"]) as engine:
        for trial in (await steps.steps(engine, users=2)).values():
            await _try(trial)


async def test_a_due_refresh_is_written_and_another_is_not(place: Place) -> None:
    """Each read of the trial with a refresh due writes, and the other writes nothing."""
    clock = Clock(NOW)
    due = replace(place, clock=clock)
    timed = await refreshes.trials(due, place, clock)

    for subject, trial in timed.items():
        kept = await trial.prepare()
        await trial.run(kept)

        async with place.session() as session:
            record = await place.knox(session).read_record(kept.text)
        assert record is not None
        assert record.last_used_at == (clock.now if subject == refreshes.DUE else None)


async def test_each_verb_of_a_store_that_grows_is_timed(place: Place) -> None:
    """Each timed verb succeeds, and leaves the number of tokens unchanged."""
    known = await fill(place, TOKENS_PER_USER)

    for trials in (growth.table_trials, growth.user_trials):
        for trial in trials(place, known).values():
            await _try(trial)
            await _try(trial)


async def test_junk_asks_nothing(servers: Servers) -> None:
    """Our strategies refuse malformed tokens without I/O, while FastAPI-Users' own with a store query it."""
    async with database(servers.databases["SQLite"]) as engine, counter(engine, servers.redis) as counting:
        for text in junk.junk(await create_user(engine)).values():
            queries = await junk.asks(counting, text)

            assert queries == {KNOX_SQL: 0, KNOX_REDIS: 0, JWT: 0, DATABASE: 1, REDIS: 1}


def test_no_verb_asks_more_for_more_tokens(servers: Servers) -> None:
    """A read and a logout-all take the same number of statements or round trips, however many tokens there are."""
    counted = figures(statements, servers)

    for store, unit in (("SQLite", "statements"), ("Redis", "round trips")):
        assert counted[store, "read", unit] == (1,)
        assert counted[store, "read of junk", unit] == (0,)
        assert counted[store, "logout-all", unit] == counted[store, statements.LOGOUT_ALL_OF_MANY, unit]
    assert counted["SQLite", "logout-all", "statements"] == (1,)
    assert counted["Redis", "logout-all", "round trips"] == (2,)  # The script, and deleting its stored answer.


def test_one_refresh_is_written_a_deadline(servers: Servers) -> None:
    """Of simultaneous clients with a due refresh one writes and publishes it, or all skip it on a busy machine."""
    counted = figures(sliding, servers)

    for store in ("SQLite", "Redis"):
        (written,), (skipped,) = counted[store, sliding.WRITES, "writes"], counted[store, sliding.SKIPPED, "writes"]
        assert written == 1 or skipped
        assert counted[store, sliding.PUBLISHED, "events"] == (written,)


def test_a_token_in_redis_takes_450_bytes_at_most(servers: Servers) -> None:
    """A token in Redis takes at most 450 bytes, including its index entry and its last use."""
    counted = figures(memory, servers)

    assert counted["Redis", REDIS, "bytes"] < counted["Redis", KNOX_REDIS, "bytes"] <= (450,)


async def test_what_is_filled_in_is_accepted_and_listed(place: Place) -> None:
    """The prepared tokens authenticate their users, and each user has the intended number of them."""
    known = await fill(place, 30)

    async with place.session() as session:
        users = [await place.knox(session).read_token(one.text, user_manager_on(session)) for one in known]
        assert [user and user.id for user in users] == [one.record.user_id for one in known]
        listed = [await place.knox(session).list_records(user) for user in users if user is not None]
    assert {len(records) for records in listed} == {TOKENS_PER_USER}


async def test_what_is_filled_in_is_what_a_login_leaves(servers: Servers) -> None:
    """The prepared keys and values in Redis equal, to the byte, the keys and values that a login writes."""
    async with database(servers.databases["SQLite"]) as engine, client(servers.redis) as redis:
        assert redis is not None
        place, user_id = Place(engine=engine, redis=redis), uuid.uuid4()
        await create_users(engine, [user_id])
        async with place.session() as session:
            issued = await place.knox(session).issue(await user_manager_on(session).get(user_id))
        left = await _dump(redis)

        await redis.flushall()
        await place.keep([Kept(digest=tokens.digest(issued), record=issued.record, text=issued)])

        assert await _dump(redis) == left


async def test_what_is_filled_in_as_used_is_what_a_use_leaves(servers: Servers) -> None:
    """The prepared values of used tokens equal the values that a use writes, except for the use's number."""
    async with database(servers.databases["SQLite"]) as engine, client(servers.redis) as redis:
        assert redis is not None
        later, user_id = NOW + timedelta(hours=1), uuid.uuid4()
        place, kept = Place(engine=engine, redis=redis, clock=lambda: later), log_in(user_id)
        await create_users(engine, [user_id])
        await place.keep([kept])
        async with place.session() as session:
            await place.knox(session).read_token(kept.text, user_manager_on(session))
        left = await _dump(redis)

        await redis.flushall()
        await place.keep([replace(kept, record=replace(kept.record, last_used_at=later))])

        assert _without_number(await _dump(redis)) == _without_number(left)


def test_each_verb_has_a_longest_command(servers: Servers) -> None:
    """The log of Redis shows the longest command of each verb, with few and with many tokens of the user."""
    measured = figures(holding, servers)

    assert len(measured) == len(TINY.tokens_of_one) * len(holding.VERBS)
    assert all(longest > 0 for (longest,) in measured.values())


def test_the_import_of_the_package_imports_no_extra() -> None:
    """SQLAlchemy, redis-py and the testing kit are imported only if the application asks for them."""
    assert imports.unasked() == []


def test_each_import_is_timed(servers: Servers) -> None:
    """Each import succeeds in a new process and takes time."""
    measured = figures(imports, servers)

    assert {subject for _, subject, unit in measured if unit == "ms"} == set(imports.IMPORTS)
    assert all(took > 0 for (_, _, unit), (took,) in measured.items() if unit == "ms")


async def _try(trial: Trial) -> None:
    """Run all phases of a trial."""
    await trial.finish(await trial.run(await trial.prepare()))


async def _dump(redis: Redis) -> dict[str, Any]:
    """Return all keys in Redis with their values."""
    return {
        key: await (redis.zrange(key, 0, -1, withscores=True) if ":user:" in key else redis.get(key))
        async for key in redis.scan_iter()
    }


def _without_number(dump: dict[str, Any]) -> dict[str, Any]:
    """Remove the number of a use, which is the sixth field of a record and has up to ten digits."""
    return {key: re.sub(r",\d{1,10},", ",", value) if isinstance(value, str) else value for key, value in dump.items()}
