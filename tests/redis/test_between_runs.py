"""Verbs that run a script several times keep their promises, whatever other verbs do between two of these runs."""

import uuid
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Any, Literal

import pytest
from redis.asyncio import Redis

from fastapi_users_knox import Found, InvalidToken, Roll, TokenRecord
from fastapi_users_knox.testing.contract import HOUR, NOW, SECOND, add, new_digest, new_record
from tests.redis.stepping import Interrupted, Store, stepping
from tests.redis_servers import RedisServer

pytestmark = [pytest.mark.anyio, pytest.mark.unmeasured]

STEP = 6
COUNT = 20
COMPACT = "zset-max-listpack-entries"
USER_ID = uuid.UUID(int=7)
LATER = NOW + HOUR / 2
MINUTE = timedelta(minutes=1)

Catalogue = Literal["complete", "missing"]
CATALOGUE: Sequence[Catalogue] = ("complete", "missing")
Founds = Sequence[Found[Any, Any]]
Ids = set[uuid.UUID]


@pytest.fixture
def server(redis_7_server: RedisServer) -> RedisServer:
    """Return one kind of server: the others run the same scripts in the same order."""
    return redis_7_server


@pytest.fixture
async def redis(redis: Redis) -> AsyncIterator[Redis]:
    """Make Redis store small sorted sets as large ones, so that a script reads only a part of the index at a time."""
    before = int((await redis.config_get(COMPACT))[COMPACT] or 0)
    await redis.config_set(COMPACT, 0)
    yield redis
    await redis.config_set(COMPACT, before)


async def fill(store: Store) -> Founds:
    """Store records, each of which is created at another time and expires at another time."""
    return [
        await add(store, new_record(USER_ID, created_at=NOW + number * SECOND, expires_at=NOW + HOUR + number * SECOND))
        for number in range(COUNT)
    ]


# Each act returns the ids of the records that it has removed.


async def rotate(store: Store, founds: Founds) -> Ids:
    """Rotate all tokens, after which the index has only other digests."""
    for found in founds:
        await store.rotate(found, new_digest(), now=LATER)
    return set()


async def renew(store: Store, founds: Founds) -> Ids:
    """Use all tokens, the oldest last, after which the index has another order and other digests."""
    for number, found in enumerate(reversed(founds)):
        expires_at = LATER + 2 * HOUR + number * SECOND
        await store.renew(found, now=LATER, unused_since=NOW + MINUTE, expires_at=expires_at, digest=new_digest())
    return set()


async def issue_by_each(store: Store, founds: Founds) -> Ids:
    """Issue a token by each token that is still accepted."""
    for found in founds:
        try:
            await add(store, new_record(USER_ID, created_at=LATER), by=found.record.id)
        except InvalidToken:
            continue
    return set()


async def log_in(store: Store, _founds: Founds) -> Ids:
    """Log in a few times."""
    for _ in range(3):
        await add(store, new_record(USER_ID, created_at=LATER))
    return set()


async def log_in_within_a_limit(store: Store, _founds: Founds) -> Ids:
    """Log in, which evicts most records."""
    new = new_record(USER_ID, created_at=LATER)
    added = await store.add(new, new_digest(), now=LATER, limit=2, limit_policy="evict_oldest")
    return {record.id for record in added.evicted}


async def log_out_everywhere(store: Store, _founds: Founds) -> Ids:
    """Remove all records."""
    return {record.id for record in await store.remove_all(USER_ID, audience=None, now=LATER)}


Act = Callable[[Store, Founds], Awaitable[Ids]]
ACTS: Mapping[str, Act] = {
    "rotations": rotate,
    "renewals": renew,
    "tokens by others": issue_by_each,
    "logins": log_in,
    "a limited login": log_in_within_a_limit,
    "a logout-all": log_out_everywhere,
}


class Scene:
    """A user with many records, and an act that takes place before one of the scripts of a verb.

    Attributes:
        founds: The records.
        store: A store through which the verb is called.
        removed: The ids of the records that the act has removed; `None` if it has not taken place.
    """

    def __init__(self, redis: Redis, act: Act, *, turn: int) -> None:
        self.founds: Founds = ()
        self.removed: Ids | None = None
        self._others = stepping(STEP)(redis)
        self._act, self._turn = act, turn

    @property
    def ids(self) -> Ids:
        """The ids of the user's first records."""
        return {found.record.id for found in self.founds}

    @asynccontextmanager
    async def set(self, server: RedisServer, redis: Redis, catalogue: Catalogue) -> AsyncIterator[Store]:
        """Store the records, and open the store of the verb."""
        await redis.flushall()
        self.founds = await fill(self._others)
        if catalogue == "missing":
            await redis.delete(*[key async for key in redis.scan_iter(match="*:catalogue:*")])
        async with Interrupted(port=server.port, before=self._before) as client:
            yield stepping(STEP)(client)

    async def add(self, **fields: Any) -> TokenRecord[Any]:
        """Store one more record, in which no act takes part."""
        return (await add(self._others, new_record(USER_ID, **fields))).record

    async def records(self) -> Sequence[TokenRecord[Any]]:
        """Return the records that are live after the verb."""
        return await self._others.list(USER_ID, audience="web", now=LATER)

    async def left(self) -> Ids:
        """Return the ids of the records that are live after the verb."""
        return {record.id for record in await self.records()}

    async def _before(self, turn: int) -> None:
        if turn == self._turn:
            self.removed = await self._act(self._others, self.founds)


async def scenes(redis: Redis, act: str) -> AsyncIterator[Scene]:
    """Return scenes in which the act takes place before the first script, the second and so on, until there is none."""
    turn, scene = 0, Scene(redis, ACTS[act], turn=0)
    yield scene
    while scene.removed is not None:
        turn += 1
        scene = Scene(redis, ACTS[act], turn=turn)
        yield scene
    assert turn > COUNT / STEP


@pytest.mark.parametrize("catalogue", CATALOGUE)
@pytest.mark.parametrize("act", ACTS)
async def test_remove_all_is_complete(server: RedisServer, redis: Redis, act: str, catalogue: Catalogue) -> None:
    """`remove_all` removes and returns each record once, also what is stored, renewed or rotated between two runs."""
    async for scene in scenes(redis, act):
        async with scene.set(server, redis, catalogue) as store:
            removed = [record.id for record in await store.remove_all(USER_ID, audience="web", now=LATER)]

        by_act = scene.removed or set()
        assert await scene.left() == set()
        assert max(Counter(removed).values(), default=1) == 1
        assert not by_act & set(removed)
        assert scene.ids <= by_act | set(removed)


@pytest.mark.parametrize("act", ["rotations", "renewals", "tokens by others", "logins"])
async def test_remove_all_keeps_the_one_to_keep(server: RedisServer, redis: Redis, act: str) -> None:
    """`remove_all` keeps the one record that it is to keep, even if that is renewed or rotated between two runs."""
    async for scene in scenes(redis, act):
        async with scene.set(server, redis, "complete") as store:
            kept = scene.founds[COUNT // 2].record.id
            removed = {record.id for record in await store.remove_all(USER_ID, audience="web", now=LATER, keep=kept)}

        assert await scene.left() == {kept}
        assert scene.ids - removed == {kept}


@pytest.mark.parametrize("act", ACTS)
async def test_remove_all_keeps_those_with_scopes(server: RedisServer, redis: Redis, act: str) -> None:
    """`remove_all` can keep the records with scopes, of which there may be more than one run removes."""
    async for scene in scenes(redis, act):
        async with scene.set(server, redis, "complete") as store:
            scoped = [await scene.add(scopes=frozenset({"a"})) for _ in range(2 * STEP)]
            gone = await store.remove_all(USER_ID, audience=None, now=LATER, keep_scoped=True)

        by_act, kept, removed = scene.removed or set(), {each.id for each in scoped}, {record.id for record in gone}
        assert await scene.left() == kept - by_act
        assert not removed & kept
        assert scene.ids <= removed | by_act


@pytest.mark.parametrize("act", ["rotations", "renewals", "a limited login", "a logout-all"])
async def test_a_roll_that_takes_several_runs(server: RedisServer, redis: Redis, act: str) -> None:
    """A roll that evicts many records changes its record if it stores the new one, and only then."""
    until = LATER + MINUTE
    async for scene in scenes(redis, act):
        async with scene.set(server, redis, "complete") as store:
            new, old = new_record(USER_ID, created_at=LATER), scene.founds[-1].record
            roll, is_refused = Roll(record=old, until=until), False
            try:
                await store.add(new, new_digest(), now=LATER, limit=2, limit_policy="evict_oldest", roll=roll)
            except InvalidToken:
                is_refused = True

        left = {record.id: record.expires_at for record in await scene.records()}
        by_act = scene.removed or set()
        assert not is_refused or by_act or act in {"renewals", "rotations"}
        assert is_refused or len(left) <= 2
        assert (new.id in left) == (not is_refused and new.id not in by_act)
        assert (left.get(old.id, until) == until) == (old.id not in left or not is_refused)


@pytest.mark.parametrize("catalogue", CATALOGUE)
@pytest.mark.parametrize("act", ACTS)
async def test_a_list_has_each_record_once(server: RedisServer, redis: Redis, act: str, catalogue: Catalogue) -> None:
    """`list` returns each record once, also if all are renewed or rotated between two runs."""
    async for scene in scenes(redis, act):
        async with scene.set(server, redis, catalogue) as store:
            listed = [record.id for record in await store.list(USER_ID, audience="web", now=LATER)]

        assert max(Counter(listed).values(), default=1) == 1
        assert scene.ids - (scene.removed or set()) <= set(listed)


@pytest.mark.parametrize("catalogue", CATALOGUE)
@pytest.mark.parametrize("act", ["rotations", "renewals", "a limited login"])
async def test_the_limit_is_exact(server: RedisServer, redis: Redis, act: str, catalogue: Catalogue) -> None:
    """A login that evicts many records in several runs keeps the limit, whatever happens between two of them."""
    async for scene in scenes(redis, act):
        async with scene.set(server, redis, catalogue) as store:
            added = await store.add(
                new_record(USER_ID, created_at=LATER), new_digest(), now=LATER, limit=2, limit_policy="evict_oldest"
            )

        evicted = {record.id for record in added.evicted}
        assert len(await scene.left()) == 2
        assert not evicted & (scene.removed or set())


async def test_a_purge_spares_what_was_renewed(server: RedisServer, redis: Redis) -> None:
    """`purge` removes no record that was renewed between two of its runs."""
    now = NOW + HOUR + MINUTE
    async for scene in scenes(redis, "renewals"):
        async with scene.set(server, redis, "complete") as store:
            purged = await store.purge(audience="web", now=now)

        left = await store_of(redis).list(USER_ID, audience="web", now=now)
        assert purged + len(left) == COUNT
        assert all(record.last_used_at for record in left)


def store_of(redis: Redis) -> Store:
    """Return a store on a client."""
    return stepping(STEP)(redis)
