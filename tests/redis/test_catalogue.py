"""The catalogue of a user with many records: when it exists, when it is made anew, and that it spares Redis work."""

import uuid
from collections.abc import Awaitable, Callable, Mapping
from datetime import datetime
from itertools import pairwise
from typing import Any

import pytest
from redis.asyncio import Redis

from fastapi_users_knox import Found, Roll, StoreUnavailable, TokenLimitReached
from fastapi_users_knox.records import LimitPolicy
from fastapi_users_knox.redis import RedisTokenStore
from fastapi_users_knox.redis.records import text_of
from fastapi_users_knox.testing.contract import HOUR, NOW, SECOND, add, find, new_digest, new_record
from tests.redis.stepping import Interrupted, Store, stepping
from tests.redis_servers import RedisServer

pytestmark = [pytest.mark.anyio, pytest.mark.unmeasured]

STEP = 10
USER_ID = uuid.UUID(int=7)


@pytest.fixture
def store(redis: Redis) -> Store:
    """Return a store for which a user with more than ten records has many."""
    return stepping(STEP)(redis)


async def fill(store: Store, count: int, **options: Any) -> list[Found[Any, Any]]:
    """Store this many records, created one second after the other."""
    return [await add(store, new_record(USER_ID, created_at=NOW + n * SECOND, **options)) for n in range(count)]


async def keys_of(redis: Redis, kind: str) -> list[str]:
    """Return all indexes or all catalogues."""
    return [key async for key in redis.scan_iter(match=f"*:{kind}:*")]


async def catalogue_of(redis: Redis) -> str:
    """Return the key of the only catalogue."""
    [key] = await keys_of(redis, "catalogue")
    return key


# existence


async def test_a_user_with_few_records_has_no_catalogue(redis: Redis) -> None:
    """A hundred records take no more memory than their keys and the index."""
    store: Store = RedisTokenStore(redis)
    await fill(store, 100)
    await store.list(USER_ID, audience="web", now=NOW)

    assert await redis.dbsize() == 101


async def test_a_catalogue_has_what_the_index_has(redis: Redis, store: Store) -> None:
    """The catalogue has one row for each member of the index, and four or five members for each row."""
    await fill(store, 2 * STEP)
    await add(store, new_record(USER_ID, device_id="phone"))

    [index] = await keys_of(redis, "user")
    rows = await redis.zlexcount(await catalogue_of(redis), "[i", "(j")
    assert rows == await redis.zcard(index) == 2 * STEP + 1
    assert await redis.zcard(await catalogue_of(redis)) == 4 * rows + 1


async def test_a_catalogue_with_scopes_is_not_made_anew(redis: Redis, store: Store) -> None:
    """The catalogue counts records with scopes too, so it is complete and stays, with whatever else is in it."""
    await fill(store, STEP, scopes=frozenset({"a"}))
    await fill(store, STEP)
    await redis.zadd(await catalogue_of(redis), {"z": 0})

    await store.list(USER_ID, audience="web", now=NOW)
    await add(store, new_record(USER_ID), limit=3 * STEP)

    assert await redis.zscore(await catalogue_of(redis), "z") == 0


async def test_a_catalogue_is_gone_once_few_records_are_left(redis: Redis, store: Store) -> None:
    """The catalogue is deleted when at most half of the records are left for which it is made."""
    founds = await fill(store, 2 * STEP)
    for found in founds[STEP // 2 + 1 :]:
        await store.remove(USER_ID, found.record.id, audience="web", now=NOW)
    before = await keys_of(redis, "catalogue")
    await store.remove(USER_ID, founds[0].record.id, audience="web", now=NOW)

    assert len(before) == 1
    assert await keys_of(redis, "catalogue") == []
    assert len(await store.list(USER_ID, audience="web", now=NOW)) == STEP // 2


@pytest.mark.parametrize("audience", ["web", None])
async def test_a_logout_all_of_many_leaves_no_key(redis: Redis, store: Store, audience: str | None) -> None:
    """After `remove_all` of a user with many records, Redis is empty."""
    await fill(store, 4 * STEP)

    assert len(await store.remove_all(USER_ID, audience=audience, now=NOW)) == 4 * STEP
    assert await redis.dbsize() == 0


@pytest.mark.parametrize("server", ["redis_7_server"], indirect=True)
async def test_thousands_of_records(redis: Redis) -> None:
    """With the usual number of records for a run, a user with 2500 records can be listed, purged and logged out."""
    store: Store = RedisTokenStore(redis)
    await fill(store, 2500, expires_at=NOW + HOUR)
    new = await add(store, new_record(USER_ID, created_at=NOW, expires_at=NOW + 2 * HOUR), limit=2501)

    assert len(await store.list(USER_ID, audience="web", now=NOW)) == 2501
    assert await store.purge(audience="web", now=NOW + HOUR) == 2500
    assert await store.remove_all(USER_ID, audience="web", now=NOW + HOUR) == [new.record]
    assert await redis.dbsize() == 0


# lifetime


async def test_a_catalogue_expires_with_the_index(redis: Redis, store: Store) -> None:
    """The catalogue has the time to live of the index, whenever that changes."""
    founds = await fill(store, 2 * STEP)
    [index], excess = await keys_of(redis, "user"), []

    async def compare() -> None:
        excess.append(await redis.pttl(await catalogue_of(redis)) - await redis.pttl(index))

    await compare()
    await store.renew(founds[0], now=NOW + HOUR / 2, unused_since=NOW + SECOND, expires_at=NOW + 2 * HOUR)
    await compare()
    endless = await add(store, new_record(USER_ID, expires_at=None))
    await compare()
    is_endless = await redis.pttl(index) == -1
    await store.remove(USER_ID, endless.record.id, audience="web", now=NOW)
    await compare()

    assert is_endless
    assert all(abs(milliseconds) < 1000 for milliseconds in excess)
    assert HOUR / SECOND < await redis.ttl(index) < 2 * HOUR / SECOND + 60


# unconfirmed records


async def log_in_without_answer(server: RedisServer, count: int) -> None:
    """Log in on connections that break before the record is confirmed."""

    async def interrupt(turn: int) -> None:
        if turn == 1:
            raise ConnectionResetError

    for _ in range(count):
        async with Interrupted(port=server.port, before=interrupt) as client:
            with pytest.raises(StoreUnavailable):
                await add(stepping(STEP)(client), new_record(USER_ID, expires_at=NOW + 2 * HOUR))


async def pass_ten_seconds(redis: Redis) -> None:
    """Delete each key that would expire within ten seconds."""
    for key in [key async for key in redis.scan_iter()]:
        if await redis.pttl(key) <= 10_000:
            await redis.delete(key)


async def test_an_index_of_many_outlives_unconfirmed_records(server: RedisServer, redis: Redis, store: Store) -> None:
    """If the records that expire last are unconfirmed, a removal does not shorten the life of the index to theirs."""
    founds = await fill(store, STEP)
    await log_in_without_answer(server, STEP + 1)
    await store.remove(USER_ID, founds[0].record.id, audience="web", now=NOW)
    await pass_ten_seconds(redis)

    assert await find(store, founds[1].record, founds[1].digest) is not None


@pytest.mark.parametrize("count", [STEP // 2, 3 * STEP])
async def test_unconfirmed_records_count_for_ten_seconds(
    server: RedisServer, redis: Redis, store: Store, count: int
) -> None:
    """An unconfirmed record counts for the limit until Redis expires its key, and is never listed."""
    founds = await fill(store, 2 * STEP)
    await log_in_without_answer(server, count)

    with pytest.raises(TokenLimitReached):
        await add(store, new_record(USER_ID), limit=2 * STEP + count)
    await pass_ten_seconds(redis)
    for _ in range(count // STEP):  # Each of these finds that some of the records are gone.
        with pytest.raises(TokenLimitReached):
            await add(store, new_record(USER_ID), limit=2 * STEP)
    new = await add(store, new_record(USER_ID), limit=2 * STEP + 1)

    listed = await store.list(USER_ID, audience="web", now=NOW)
    assert {record.id for record in listed} == {found.record.id for found in (*founds, new)}


async def test_a_logout_all_removes_unconfirmed_records(server: RedisServer, redis: Redis, store: Store) -> None:
    """`remove_all` removes unconfirmed records too, so that they cannot be confirmed afterwards."""
    await fill(store, 2 * STEP)
    await log_in_without_answer(server, 2 * STEP)

    await store.remove_all(USER_ID, audience="web", now=NOW)

    assert await redis.dbsize() == 0


# records that are not live


@pytest.mark.parametrize("limit_policy", ["reject", "evict_oldest", "evict_least_recently_used"])
@pytest.mark.parametrize("created_since", [None, NOW + 2 * STEP * SECOND])
async def test_the_limit_is_exact_among_many_dead_records(
    store: Store, limit_policy: LimitPolicy, created_since: datetime | None
) -> None:
    """Records that have expired or are too old, however many, neither count for the limit nor are evicted."""
    await fill(store, 3 * STEP, expires_at=NOW + HOUR)
    await fill(store, 2 * STEP, expires_at=NOW + 3 * HOUR)
    live = [await add(store, new_record(USER_ID, created_at=NOW + HOUR / 2, expires_at=None)) for _ in range(STEP)]
    count = STEP + (0 if created_since else 2 * STEP)
    new = [new_record(USER_ID, created_at=NOW + HOUR, expires_at=None) for _ in range(2)]

    options: Any = {"now": NOW + HOUR, "created_since": created_since, "limit": count + 1, "limit_policy": limit_policy}
    first = await store.add(new[0], new_digest(), **options)
    try:
        second = await store.add(new[1], new_digest(), **options)
    except TokenLimitReached:
        evicted: list[Any] = []
    else:
        evicted = list(second.evicted)

    listed = await store.list(USER_ID, audience="web", now=NOW + HOUR, created_since=created_since)
    assert len(listed) == count + 1
    assert first.evicted == ()
    assert len(evicted) == (0 if limit_policy == "reject" else 1)
    assert all(record.is_live(NOW + HOUR, created_since=created_since) for record in evicted)
    assert {found.record.id for found in live} <= {record.id for record in (*listed, *evicted)}


async def test_a_rolled_record_counts_until_it_expires(store: Store) -> None:
    """The catalogue knows the new expiry of a record that was rolled, so the record does not count for longer."""
    *_, last = await fill(store, 2 * STEP)
    until = last.record.created_at + SECOND
    new = new_record(USER_ID, created_at=last.record.created_at)
    await add(store, new, roll=Roll(record=last.record, until=until))

    await add(store, new_record(USER_ID, created_at=until), limit=2 * STEP + 1)

    assert len(await store.list(USER_ID, audience="web", now=until)) == 2 * STEP + 1


async def test_evicting_among_many_that_have_expired(store: Store) -> None:
    """If the oldest records have expired, a login evicts those that follow."""
    await fill(store, 4 * STEP, expires_at=NOW + HOUR)
    live = [
        await add(store, new_record(USER_ID, created_at=NOW + HOUR / 2 + n * SECOND, expires_at=None))
        for n in range(2 * STEP)
    ]
    new = new_record(USER_ID, created_at=NOW + HOUR, expires_at=None)

    added = await store.add(new, new_digest(), now=NOW + HOUR, limit=2, limit_policy="evict_oldest")

    assert [record.id for record in added.evicted] == [found.record.id for found in live[:-1]]
    assert len(await store.list(USER_ID, audience="web", now=NOW + HOUR)) == 2


async def test_records_that_redis_has_expired(redis: Redis, store: Store) -> None:
    """What Redis has expired is neither listed nor returned, and logins and removals delete what is left of it."""
    founds = await fill(store, 4 * STEP, expires_at=NOW + HOUR)
    endless = await add(store, new_record(USER_ID, expires_at=None))
    for key in [key async for key in redis.scan_iter() if await redis.type(key) == "string"]:
        if await redis.pttl(key) != -1:
            await redis.delete(key)

    listed = await store.list(USER_ID, audience="web", now=NOW)
    removed = await store.remove(USER_ID, founds[0].record.id, audience="web", now=NOW)
    new = new_record(USER_ID, created_at=NOW + HOUR, expires_at=None)
    await store.add(new, new_digest(), now=NOW + HOUR, limit=2)
    left = len(await redis.zrange((await keys_of(redis, "user"))[0], 0, -1))
    purged = await store.purge(audience="web", now=NOW + HOUR)

    assert list(listed) == [endless.record]
    assert removed is None
    assert left == 4 * STEP + 2 - 1 - STEP // 2
    assert purged == 0
    assert await redis.zcard((await keys_of(redis, "user"))[0]) == 2
    assert await keys_of(redis, "catalogue") == []


@pytest.mark.parametrize("audience", ["web", None])
async def test_a_logout_all_of_records_that_redis_has_expired(redis: Redis, store: Store, audience: str | None) -> None:
    """`remove_all` returns the records that still exist, and leaves nothing of those that Redis has expired."""
    founds = await fill(store, 4 * STEP)
    gone = founds[::2]
    await redis.delete(*[key async for key in redis.scan_iter() if any(text_of(f.digest) in key for f in gone)])

    removed = await store.remove_all(USER_ID, audience=audience, now=NOW)

    assert {record.id for record in removed} == {found.record.id for found in founds[1::2]}
    assert await redis.dbsize() == 0


# keys that are lost


async def test_an_index_that_is_lost_ends_all_in_the_catalogue(redis: Redis, store: Store) -> None:
    """If Redis has evicted the index, the records of the catalogue do not count any more, nor later."""
    await fill(store, 2 * STEP)
    await redis.delete(*await keys_of(redis, "user"))

    listed = await store.list(USER_ID, audience="web", now=NOW)
    new = [await add(store, new_record(USER_ID), limit=STEP + 2) for _ in range(STEP + 2)]

    assert listed == []
    assert len(await store.list(USER_ID, audience="web", now=NOW)) == len(new)
    assert len(await store.remove_all(USER_ID, audience="web", now=NOW)) == len(new)


async def test_an_index_that_something_else_has_changed(redis: Redis, store: Store) -> None:
    """If the index has changed without the catalogue, the next verb makes the catalogue anew."""
    founds = await fill(store, 3 * STEP)
    [index] = await keys_of(redis, "user")
    await redis.zrem(index, *(await redis.zrange(index, 0, 0)))

    await add(store, new_record(USER_ID), limit=3 * STEP)
    with pytest.raises(TokenLimitReached):
        await add(store, new_record(USER_ID), limit=3 * STEP)

    assert len(await store.list(USER_ID, audience="web", now=NOW)) == len(founds)


# work


VERBS: Mapping[str, Callable[[Store, list[Found[Any, Any]]], Awaitable[Any]]] = {
    "a login": lambda store, _: add(store, new_record(USER_ID)),
    "a limited login": lambda store, _: add(store, new_record(USER_ID), limit=1000),
    "a login that evicts": lambda store, founds: add(
        store, new_record(USER_ID), limit=len(founds), limit_policy="evict_least_recently_used"
    ),
    "a login from a device": lambda store, _: add(store, new_record(USER_ID, device_id="phone")),
    "a login after a kill switch": lambda store, _: add(store, new_record(USER_ID), created_since=NOW),
    "a token by another": lambda store, founds: add(store, new_record(USER_ID), by=founds[0].record.id),
    "a rotation": lambda store, founds: store.rotate(founds[0], new_digest(), now=NOW),
    "a renewal": lambda store, founds: store.renew(founds[-1], now=NOW + HOUR / 2, unused_since=NOW + HOUR / 3),
    "a logout": lambda store, founds: store.remove(USER_ID, founds[0].record.id, audience="web", now=NOW),
    "a list": lambda store, _: store.list(USER_ID, audience="web", now=NOW),
    "a logout-all": lambda store, _: store.remove_all(USER_ID, audience="web", now=NOW),
    "a logout-all of all audiences": lambda store, _: store.remove_all(USER_ID, audience=None, now=NOW),
    "a purge": lambda store, _: store.purge(audience="web", now=NOW + 2 * HOUR),
}
CONSTANT = [
    verb for verb in VERBS if verb not in {"a list", "a logout-all", "a logout-all of all audiences", "a purge"}
]


async def work(server: RedisServer, redis: Redis, verb: str, count: int) -> list[int]:
    """Return how many commands each script of a verb runs inside Redis for a user with this number of records."""
    await redis.flushall()
    founds = await fill(stepping(STEP)(redis), count)
    totals: list[int] = []

    async def note(_turn: int) -> None:
        commands = await redis.info("commandstats")
        totals.append(sum(stats["calls"] for name, stats in commands.items() if name != "cmdstat_info"))

    async with Interrupted(port=server.port, before=note) as client:
        await VERBS[verb](stepping(STEP)(client), founds)
        await note(0)
    return [after - before for before, after in pairwise(totals)]


@pytest.mark.parametrize("verb", CONSTANT)
async def test_a_verb_takes_no_more_work_for_more_records(server: RedisServer, redis: Redis, verb: str) -> None:
    """Inside Redis, a verb about one record runs as many commands for a user with 30 as for one with 100 records."""
    _, few, many = [await work(server, redis, verb, count) for count in (30, 30, 100)]  # The first loads the scripts.

    assert len(many) == len(few)
    assert sum(many) < sum(few) + 10  # The times to live of the index and of a record may differ by a millisecond.


@pytest.mark.parametrize("verb", VERBS)
async def test_no_script_works_for_long(server: RedisServer, redis: Redis, verb: str) -> None:
    """Each script runs only as many commands as befits the number of records that it may read."""
    runs = await work(server, redis, verb, 100)

    assert max(runs) < 10 * STEP
