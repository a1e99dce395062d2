"""If the network loses a reply after Redis has executed the command, the outcome of each verb is still the same."""

import uuid
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import pytest
from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff

from fastapi_users_knox import (
    Credentials,
    Found,
    InvalidToken,
    KnoxSettings,
    Proof,
    Roll,
    StoreUnavailable,
    TokenLimitReached,
    TokenRecord,
)
from fastapi_users_knox.redis import RedisTokenStore
from fastapi_users_knox.redis.records import fields_of, milliseconds, text_of
from fastapi_users_knox.redis.scripts import run
from fastapi_users_knox.testing.contract import new_record, presented
from fastapi_users_knox.tokens import routing_tag
from tests.backends import NOW
from tests.proxy import Proxy
from tests.redis.clients import Patience
from tests.redis.knox import Knox
from tests.redis.stepping import Interrupted, stepping
from tests.redis_servers import RedisServer

pytestmark = [pytest.mark.anyio, pytest.mark.unmeasured]

SECOND = timedelta(seconds=1)
HOUR = timedelta(hours=1)

Store = RedisTokenStore[Any, Any]

USER_ID = uuid.UUID(int=7)


@dataclass(frozen=True, kw_only=True)
class Scene:
    """A user with three records, and the ids and digests that the verbs use."""

    user_id: uuid.UUID = USER_ID
    ids: tuple[uuid.UUID, ...] = tuple(uuid.UUID(int=number) for number in range(4))
    digests: tuple[bytes, ...] = tuple(bytes([number]) * 32 for number in range(4))

    def record(self, number: int, **fields: Any) -> TokenRecord[Any]:
        """Return the record with this number, which is always the same."""
        return new_record(self.user_id, id=self.ids[number], **fields)

    @property
    def phone(self) -> Found[Any, Any]:
        """The record that most verbs act on."""
        return Found(record=self.record(0, device_id="phone"), digest=self.digests[0])

    @property
    def dead(self) -> Found[Any, Any]:
        """The record that expires after one second."""
        return Found(record=self.record(2, expires_at=NOW + SECOND), digest=self.digests[2])

    @property
    def proof(self) -> Proof:
        """The proof of the user, which changes the data too."""
        credentials = Credentials(hashed_password="hash", is_active=True)
        return Proof(authenticated_at=NOW + SECOND, credentials=credentials, data={"factors": ["password"]})

    async def set(self, store: Store) -> None:
        """Store the three records."""
        await store.add(self.phone.record, self.phone.digest, now=NOW)
        await store.add(self.record(1, created_at=NOW + SECOND / 2), self.digests[1], now=NOW)
        await store.add(self.dead.record, self.dead.digest, now=NOW)

    async def seen(self, store: Store) -> list[Any]:
        """Return everything that a store returns about the user's tokens."""
        found = [await store.get(presented(self.user_id, key), audience="web") for key in self.digests]
        return [*found, *await store.list(self.user_id, audience="web", now=NOW)]


Verb = Callable[[Store, Scene], Awaitable[Any]]
LATER = NOW + HOUR / 2
VERBS: dict[str, Verb] = {
    "add": lambda store, scene: store.add(scene.record(3), scene.digests[3], now=NOW),
    "add, ending the dead": lambda store, scene: store.add(scene.record(3), scene.digests[3], now=NOW + SECOND),
    "add, replacing": lambda store, scene: store.add(
        scene.record(3, device_id="phone"), scene.digests[3], now=NOW, replaces=[scene.digests[1]]
    ),
    "add, into the last free place": lambda store, scene: store.add(
        scene.record(3), scene.digests[3], now=NOW, limit=4
    ),
    "add, evicting": lambda store, scene: store.add(
        scene.record(3), scene.digests[3], now=NOW, limit=2, limit_policy="evict_oldest"
    ),
    "add, rolling": lambda store, scene: store.add(
        scene.record(3), scene.digests[3], now=NOW, roll=Roll(record=scene.phone.record, until=NOW + SECOND)
    ),
    "add, rolling within the limit": lambda store, scene: store.add(
        scene.record(3), scene.digests[3], now=NOW, roll=Roll(record=scene.phone.record, until=NOW), limit=3
    ),
    "get": lambda store, scene: store.get(presented(scene.user_id, scene.digests[0]), audience="web"),
    "renew": lambda store, scene: store.renew(
        scene.phone, now=LATER, unused_since=NOW + SECOND, expires_at=LATER + HOUR
    ),
    "renew under another key": lambda store, scene: store.renew(
        scene.phone, now=LATER, unused_since=NOW + SECOND, digest=scene.digests[3]
    ),
    "rotate": lambda store, scene: store.rotate(scene.phone, scene.digests[3], now=NOW),
    "rotate with a proof": lambda store, scene: store.rotate(scene.phone, scene.digests[3], now=NOW, proof=scene.proof),
    "remove": lambda store, scene: store.remove(scene.user_id, scene.ids[0], audience="web", now=NOW),
    "remove_all": lambda store, scene: store.remove_all(scene.user_id, audience="web", now=NOW),
    "remove_all but one": lambda store, scene: store.remove_all(
        scene.user_id, audience=None, now=NOW, keep=scene.ids[0]
    ),
    "list": lambda store, scene: store.list(scene.user_id, audience="web", now=NOW),
    "purge": lambda store, _scene: store.purge(audience="web", now=NOW + SECOND),
    "purge of one": lambda store, scene: store.purge(
        audience="web", now=NOW + SECOND, seen=scene.dead, tried_since=NOW
    ),
}


@pytest.fixture
async def proxy(server: RedisServer, redis: Redis) -> AsyncIterator[Proxy]:
    """Run a proxy in front of the server."""
    await redis.ping()
    async with Proxy("127.0.0.1", server.port) as proxy:
        yield proxy


@pytest.mark.parametrize("step", [100, 1])
@pytest.mark.parametrize("verb", VERBS)
async def test_the_outcome_is_that_of_a_call_whose_answers_all_came(
    proxy: Proxy, redis: Redis, verb: str, step: int
) -> None:
    """With a client that retries, a verb returns and stores the same, even if any one of its replies is lost."""
    scene, outcomes, lost, open_store = Scene(), [], 0, stepping(step)
    await scene.set(open_store(redis))
    await VERBS[verb](open_store(redis), scene)  # Now the server has the script.
    while lost <= proxy.commands:
        await redis.flushall()
        async with Redis.from_url(proxy.url(), retry=Retry(NoBackoff(), 1)) as client:
            store = open_store(client)
            await scene.set(store)
            proxy.drop(lost)
            outcome = await VERBS[verb](store, scene)
        outcomes.append((outcome, await scene.seen(RedisTokenStore(redis))))
        lost += 1

    assert len(outcomes) > 1
    assert all(outcome == outcomes[0] for outcome in outcomes)
    assert not [key async for key in redis.scan_iter(match="*:answer:*")]


async def test_a_login_without_an_answer_leaves_nothing(proxy: Proxy, redis: Redis, knox: Knox[uuid.UUID]) -> None:
    """With a client that does not retry, a login whose reply is lost leaves nothing that counts for the limit."""
    settings = KnoxSettings(token_limit_per_user=1)
    await knox.strategy(settings).write_token(knox.user)
    await knox.strategy(settings).logout_all(knox.user)
    async with Redis.from_url(proxy.url(), retry=Retry(NoBackoff(), 0)) as client:
        cut_off = Knox(redis=client, users=knox.users, user=knox.user)
        proxy.drop(1)
        with pytest.raises(StoreUnavailable):
            await cut_off.strategy(settings).write_token(knox.user)

    assert await redis.dbsize() == 0
    assert await knox.strategy(settings).write_token(knox.user)


@pytest.mark.parametrize("overlap", [timedelta(0), SECOND])
async def test_a_roll_without_an_answer_changes_nothing(proxy: Proxy, redis: Redis, overlap: timedelta) -> None:
    """If the reply to the first command of a roll is lost, the old token stays as it is, and can be rolled again."""
    scene, roll = Scene(), Roll(record=Scene().phone.record, until=NOW + overlap)
    await scene.set(RedisTokenStore(redis))
    before = await scene.seen(RedisTokenStore(redis))
    async with Redis.from_url(proxy.url(), retry=Retry(NoBackoff(), 0)) as client:
        proxy.drop(1)
        with pytest.raises(StoreUnavailable):
            await RedisTokenStore[Any, Any](client).add(scene.record(3), scene.digests[3], now=NOW, roll=roll)

    assert await scene.seen(RedisTokenStore(redis)) == before
    await RedisTokenStore[Any, Any](redis).add(scene.record(3), scene.digests[3], now=NOW, roll=roll)


async def test_a_roll_that_is_refused_is_refused_when_the_answer_is_lost(proxy: Proxy, redis: Redis) -> None:
    """If a token changes between the two commands of a roll, and the reply to the second is lost, the roll fails."""
    scene, roll = Scene(), Roll(record=Scene().phone.record, until=NOW + SECOND)
    store: Store = RedisTokenStore(redis)
    await scene.set(store)

    async def change(turn: int) -> None:
        if turn == 1:
            await store.renew(scene.phone, now=LATER, unused_since=NOW + SECOND, expires_at=LATER + HOUR)
            proxy.drop(1)

    retry = Retry(NoBackoff(), 1)
    async with Interrupted(host="127.0.0.1", port=proxy.port, retry=retry, before=change) as client:
        with pytest.raises(InvalidToken):
            await RedisTokenStore[Any, Any](client).add(scene.record(3), scene.digests[3], now=NOW, roll=roll)

    assert len(await store.list(USER_ID, audience="web", now=NOW)) == 3


async def test_a_roll_restores_no_record_that_its_index_has_lost(server: RedisServer, redis: Redis) -> None:
    """If the index loses the old token between the two commands of a roll, the roll fails and restores nothing."""
    scene, store = Scene(), RedisTokenStore[Any, Any](redis)
    await scene.set(store)
    index = f"knox:{{{routing_tag(USER_ID)}}}:user:{USER_ID}"

    async def lose(turn: int) -> None:
        if turn == 1:
            await redis.zrem(index, text_of(scene.phone.digest))

    roll = Roll(record=scene.phone.record, until=NOW + SECOND)
    async with Interrupted(port=server.port, before=lose) as client:
        with pytest.raises(InvalidToken):
            await RedisTokenStore[Any, Any](client).add(scene.record(3), scene.digests[3], now=NOW, roll=roll)

    assert await store.get(presented(USER_ID, scene.phone.digest), audience="web") is None


async def test_a_full_account_is_still_full_when_an_answer_is_lost(
    proxy: Proxy, redis: Redis, knox: Knox[uuid.UUID]
) -> None:
    """If the reply to a login that the limit refuses is lost, the retry is refused too, and nothing is changed."""
    settings = KnoxSettings(token_limit_per_user=1)
    token = await knox.strategy(settings).write_token(knox.user)
    async with Redis.from_url(proxy.url(), retry=Retry(NoBackoff(), 1)) as client:
        cut_off = Knox(redis=client, users=knox.users, user=knox.user)
        proxy.drop(1)
        with pytest.raises(TokenLimitReached):
            await cut_off.strategy(settings).write_token(knox.user)

    assert await knox.accepts(token)
    assert await redis.dbsize() == 2


async def test_a_login_that_redis_obeys_too_late_takes_no_place_for_long(server: RedisServer, redis: Redis) -> None:
    """If Redis executes a login only after the client has given up, all of its keys expire within ten seconds."""
    scene, patience = Scene(), Patience()
    async with Redis.from_url(server.url(), **patience.options()) as client:
        store: Store = RedisTokenStore(client)
        await store.add(scene.record(0), scene.digests[0], now=NOW)
        await store.remove(USER_ID, scene.ids[0], audience="web", now=NOW)
        with server.paused(), patience.lost(), pytest.raises(StoreUnavailable):
            await store.add(scene.record(1), scene.digests[1], now=NOW)

    assert all([0 < await redis.pttl(key) <= 10_000 async for key in redis.scan_iter()])


async def test_a_late_copy_of_a_login_lets_nobody_in(redis: Redis) -> None:
    """A command of a retried login that reaches Redis only after a logout-all does not restore the token.

    Neither does one that uses or rotates the token, if it comes late too.
    """
    scene = Scene()
    store: Store = RedisTokenStore(redis)
    record, digest = scene.record(0), scene.digests[0]
    await store.add(record, digest, now=NOW)
    await store.remove_all(USER_ID, audience="web", now=NOW)

    base = f"knox:{{{routing_tag(USER_ID)}}}:"
    keys = [f"{base}{key}" for key in (f"user:{USER_ID}", f"catalogue:{USER_ID}", "answer:late", text_of(digest))]
    arguments = {"record": fields_of(record), "now": milliseconds(NOW), "replaces": [], "unconfirmed": 10_000}
    await run(redis, "add", keys, **arguments, step=100, part=0)

    found: Found[Any, Any] = Found(record=record, digest=digest)
    renewed = await store.renew(found, now=LATER, unused_since=NOW + SECOND)
    rotated = await store.rotate(found, scene.digests[1], now=NOW)
    assert (renewed, rotated) == (False, False)
    for each in (digest, scene.digests[1]):
        assert await store.get(presented(USER_ID, each), audience="web") is None
    assert await store.list(USER_ID, audience="web", now=NOW) == []


class ForgettingProxy(Proxy):
    """A proxy in front of a server that loses all data before it executes the second command."""

    def __init__(self, server: RedisServer) -> None:
        super().__init__("127.0.0.1", server.port)
        self._server = server

    def _is_doomed(self, command: bytes) -> bool:
        is_doomed = super()._is_doomed(command)
        if self.commands == 2:
            self._server.ask("FLUSHALL")
        return is_doomed


async def test_a_login_is_no_success_if_redis_has_forgotten_it(server: RedisServer, redis: Redis) -> None:
    """If Redis loses its data during a login, `StoreUnavailable` is raised instead of issuing a token that fails."""
    scene = Scene()
    await scene.set(RedisTokenStore(redis))
    async with ForgettingProxy(server) as proxy, Redis.from_url(proxy.url()) as client:
        with pytest.raises(StoreUnavailable):
            await RedisTokenStore[Any, Any](client).add(scene.record(3), scene.digests[3], now=NOW)

    assert await redis.dbsize() == 0
