"""The verbs do the same for a user with many records, whom they find by the catalogue, as for one with few."""

import uuid
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

import pytest
from redis.asyncio import Redis

from fastapi_users_knox import Added, Credentials, Found, InvalidToken, Proof, Roll, TokenLimitReached
from fastapi_users_knox.testing.contract import HOUR, NOW, SECOND, new_record, presented
from tests.redis.stepping import WALKING, Store, stepping
from tests.redis_servers import RedisServer

pytestmark = [pytest.mark.anyio, pytest.mark.unmeasured]

STEP = 10
USER_ID = uuid.UUID(int=7)
LATER = NOW + HOUR / 2
MINUTE = timedelta(minutes=1)
CREDENTIALS = Credentials(hashed_password="hash", is_active=True)
AUDIENCES = ("web", "api", "")


def found(number: int) -> Found[Any, Any]:
    """Return the record with this number, which is always the same; some have expired at `LATER`, or have a device."""
    fields: dict[str, Any] = {"id": uuid.UUID(int=number), "created_at": NOW + number * SECOND}
    match number % 20:
        case 1:
            fields |= {"expires_at": NOW + MINUTE * 10}
        case 2:
            fields |= {"expires_at": None, "last_used_at": NOW + MINUTE * 5}
        case 3:
            fields |= {"device_id": f"device {number}"}
        case 4 | 5 | 6:
            fields |= {"audience": "api", "device_id": f"device {number - 1}"}
        case 7:
            fields |= {"audience": "", "expires_at": NOW + HOUR + MINUTE * number}
        case _:
            fields |= {"expires_at": NOW + HOUR + SECOND * number}
    if number % 3 == 0:
        fields |= {"scopes": frozenset({"reports:read"}), "data": {"number": number}}
    return Found(record=new_record(USER_ID, **fields), digest=bytes([number]) * 32)


MANY = [found(number) for number in range(75)]
NEW = replace(found(100), record=replace(found(100).record, created_at=LATER, expires_at=LATER + HOUR))


async def fill(store: Store) -> None:
    """Store the records, and use one of them."""
    for each in MANY:
        await store.add(each.record, each.digest, now=NOW)
    await store.renew(MANY[10], now=NOW + MINUTE * 3, unused_since=NOW + MINUTE, expires_at=NOW + 3 * HOUR)


async def add(store: Store, *, device_id: str | None = None, **options: Any) -> Any:
    """Log in."""
    return await store.add(replace(NEW.record, device_id=device_id), NEW.digest, now=LATER, **options)


def roll(old: Found[Any, Any], *, until: datetime = LATER + MINUTE) -> Roll[Any]:
    """Return a roll of a record."""
    return Roll(record=old.record, until=until)


Verb = Callable[[Store], Awaitable[Any]]
VERBS: Mapping[str, Verb] = {
    "add": add,
    "add into the last free place": lambda store: add(store, limit=56),
    "add to a full account": lambda store: add(store, limit=55),
    "add after a kill switch": lambda store: add(store, limit=53, created_since=NOW + SECOND * 4),
    "add to a full account after a kill switch": lambda store: add(store, limit=52, created_since=NOW + SECOND * 4),
    "add, evicting the oldest": lambda store: add(store, limit=50, limit_policy="evict_oldest"),
    "add by the oldest, evicting it with nearly all": lambda store: add(
        store, limit=2, limit_policy="evict_oldest", by=MANY[0].record.id
    ),
    "add by a record that it replaces, evicting nearly all": lambda store: add(
        store, limit=2, limit_policy="evict_oldest", by=MANY[8].record.id, replaces=[MANY[8].digest]
    ),
    "add, evicting nearly all": lambda store: add(store, limit=2, limit_policy="evict_oldest"),
    "add, evicting those not used": lambda store: add(store, limit=20, limit_policy="evict_least_recently_used"),
    "add, evicting after a kill switch": lambda store: add(
        store, limit=50, limit_policy="evict_least_recently_used", created_since=NOW + SECOND * 4
    ),
    "add from a known device": lambda store: add(store, device_id="device 43"),
    "add from another device": lambda store: add(store, device_id="device 4"),
    "add, replacing": lambda store: add(store, replaces=[MANY[8].digest, MANY[44].digest, MANY[9].digest]),
    "add, replacing within the limit": lambda store: add(store, limit=55, replaces=[MANY[8].digest]),
    "add by another": lambda store: add(store, by=MANY[44].record.id),
    "add by an expired one": lambda store: add(store, by=MANY[41].record.id),
    "add by an unknown one": lambda store: add(store, by=NEW.record.id),
    "roll": lambda store: add(store, roll=roll(MANY[9])),
    "roll at once into the last free place": lambda store: add(store, roll=roll(MANY[9], until=LATER), limit=55),
    "roll in a full account": lambda store: add(store, roll=roll(MANY[9]), limit=55),
    "roll, evicting the record with nearly all": lambda store: add(
        store, roll=roll(MANY[9]), limit=2, limit_policy="evict_oldest"
    ),
    "roll, evicting nearly all but the record": lambda store: add(
        store, roll=roll(MANY[74]), limit=2, limit_policy="evict_oldest"
    ),
    "roll of one that never expires, by itself": lambda store: add(store, roll=roll(MANY[2]), by=MANY[2].record.id),
    "roll of an expired one": lambda store: add(store, roll=roll(MANY[41])),
    "roll of one that was renewed": lambda store: add(store, roll=roll(MANY[10])),
    "roll of another audience": lambda store: add(store, roll=roll(MANY[4])),
    "roll of an unknown one": lambda store: add(store, roll=roll(NEW)),
    "renew": lambda store: store.renew(MANY[8], now=LATER, unused_since=NOW + HOUR / 3, expires_at=LATER + HOUR),
    "renew under another key": lambda store: store.renew(
        MANY[8], now=LATER, unused_since=NOW + HOUR / 3, digest=NEW.digest
    ),
    "rotate": lambda store: store.rotate(MANY[8], NEW.digest, now=LATER),
    "rotate with a proof": lambda store: store.rotate(
        MANY[8], NEW.digest, now=LATER, proof=Proof(authenticated_at=LATER, credentials=CREDENTIALS, data={"a": [1.5]})
    ),
    "remove": lambda store: store.remove(USER_ID, MANY[8].record.id, audience="web", now=LATER),
    "remove an expired one": lambda store: store.remove(USER_ID, MANY[1].record.id, audience="web", now=LATER),
    "remove of another audience": lambda store: store.remove(USER_ID, MANY[4].record.id, audience="web", now=LATER),
    "remove what is unknown": lambda store: store.remove(USER_ID, NEW.record.id, audience="web", now=LATER),
    "remove_all": lambda store: store.remove_all(USER_ID, audience="web", now=LATER),
    "remove_all of few": lambda store: store.remove_all(USER_ID, audience="", now=LATER),
    "remove_all but one": lambda store: store.remove_all(USER_ID, audience="web", now=LATER, keep=MANY[8].record.id),
    "remove_all of all audiences": lambda store: store.remove_all(USER_ID, audience=None, now=LATER),
    "remove_all of all audiences but one": lambda store: store.remove_all(
        USER_ID, audience=None, now=LATER, keep=MANY[4].record.id
    ),
    "remove_all but those with scopes": lambda store: store.remove_all(
        USER_ID, audience=None, now=LATER, keep_scoped=True
    ),
    "remove_all but those with scopes and one": lambda store: store.remove_all(
        USER_ID, audience=None, now=LATER, keep=MANY[4].record.id, keep_scoped=True
    ),
    "list": lambda store: store.list(USER_ID, audience="web", now=LATER),
    "list after a kill switch": lambda store: store.list(
        USER_ID, audience="web", now=LATER, created_since=NOW + SECOND * 40
    ),
    "purge": lambda store: store.purge(audience="web", now=NOW + HOUR + SECOND * 40),
    "purge after a kill switch": lambda store: store.purge(audience="web", now=LATER, created_since=NOW + SECOND * 40),
    "purge of one": lambda store: store.purge(audience="web", now=LATER, seen=MANY[1], tried_since=NOW),
}


async def outcome(server: RedisServer, step: int, verb: Verb) -> list[Any]:
    """Return what a verb returns or raises, and what a store that reads all records then returns about the user."""
    async with Redis.from_url(server.url()) as redis:  # A client remembers which writes it has tried.
        await redis.flushall()
        store = stepping(step)(redis)
        await fill(store)
        try:
            result = await verb(store)
        except (InvalidToken, TokenLimitReached) as refusal:
            result = type(refusal)
        return [in_any_order(result), *await seen(stepping(WALKING)(redis))]


def in_any_order(result: Any) -> Any:
    """Replace the collections of records that a verb returns by sets."""
    match result:
        case Added():
            return [frozenset(records) for records in (result.expired, result.replaced, result.evicted)]
        case list():
            return frozenset(result)
        case _:
            return result


async def seen(store: Store) -> list[Any]:
    """Return everything that a store returns about the user's tokens."""
    tokens = [presented(USER_ID, each.digest) for each in (*MANY, NEW)]
    read = [await store.get(token, audience=audience) for token in tokens for audience in AUDIENCES]
    return [read, *[await store.list(USER_ID, audience=audience, now=NOW) for audience in AUDIENCES]]


@pytest.mark.parametrize("verb", VERBS)
async def test_a_catalogue_makes_no_difference(server: RedisServer, verb: str) -> None:
    """Each verb returns, stores and removes the same whether it reads all records or searches the catalogue."""
    expected = await outcome(server, WALKING, VERBS[verb])

    assert await outcome(server, STEP, VERBS[verb]) == expected
