"""The keys in Redis: what they contain, when they expire, and that no key is left behind."""

import json
import uuid
from datetime import timedelta
from typing import Any, cast

import pytest
from pydantic import SecretStr
from redis import Redis as SyncRedis
from redis.asyncio import Redis, RedisCluster

from fastapi_users_knox import KnoxError, KnoxSettings
from fastapi_users_knox.redis import RedisTokenStore
from fastapi_users_knox.testing.contract import new_digest, new_record, presented
from fastapi_users_knox.tokens import routing_tag
from tests.backends import NOW
from tests.redis.knox import Knox
from tests.redis.people import MemoryUserDatabase, Person
from tests.redis_servers import ClusterServers

pytestmark = pytest.mark.anyio

HOUR = timedelta(hours=1)
MINUTE = timedelta(minutes=1)
HOURS = 3_600_000
GRACE = 60_000
REFRESHING = KnoxSettings(auto_refresh=True, token_ttl=10 * HOUR)


async def index_of(knox: Knox[uuid.UUID]) -> str:
    """Return the key of the user's index."""
    [index] = [key for key in await knox.keys() if ":user:" in key]
    return index


async def records_of(knox: Knox[uuid.UUID]) -> list[str]:
    """Return the keys of the user's records."""
    return [key for key in await knox.keys() if ":user:" not in key]


async def excess_of_index(knox: Knox[uuid.UUID]) -> int:
    """Return by how many milliseconds the index expires later than the last of its records."""
    longest = max([await knox.redis.pttl(key) for key in await records_of(knox)])
    return int(await knox.redis.pttl(await index_of(knox)) - longest)


# no keys are left behind


async def test_logout_of_every_token_leaves_no_key(knox: Knox[uuid.UUID], redis: Redis) -> None:
    """After logins, a refresh, a rotation, a re-authentication and a logout with each token, Redis is empty."""
    strategy, later = knox.strategy(REFRESHING), knox.strategy(REFRESHING, now=NOW + HOUR)
    first, second, endless = [await strategy.issue(knox.user, token_ttl=ttl) for ttl in (HOUR * 2, HOUR, None)]
    await later.read_token(first, knox.user_manager)
    rotated = await strategy.rotate_token(second, knox.user)

    proven = await strategy.reauthenticate(endless, knox.user)
    for token in (first, rotated, proven):
        await strategy.destroy_token(token, knox.user)

    assert await redis.dbsize() == 0


async def test_logout_all_leaves_no_key(knox: Knox[uuid.UUID], redis: Redis) -> None:
    """After a logout-all, Redis is empty."""
    for _ in range(3):
        await knox.strategy().write_token(knox.user)

    assert await knox.strategy().logout_all(knox.user) == 3
    assert await redis.dbsize() == 0


async def test_what_a_login_ends_is_gone(knox: Knox[uuid.UUID]) -> None:
    """A login deletes all keys of the records that it evicts or that have expired, and its own temporary key."""
    settings = KnoxSettings(token_limit_per_user=1, limit_policy="evict_oldest")
    await knox.strategy(settings).issue(knox.user, token_ttl=MINUTE)
    await knox.strategy(settings, now=NOW + HOUR).write_token(knox.user)

    await knox.strategy(settings, now=NOW + HOUR).write_token(knox.user)

    assert len(await knox.keys()) == 2


async def test_purge_leaves_no_key_of_the_expired(knox: Knox[uuid.UUID], redis: Redis) -> None:
    """A purge deletes the keys of records that have expired by the strategy's clock, not by Redis's own."""
    await knox.strategy().write_token(knox.user)

    purged = await knox.strategy(now=NOW + 11 * HOUR).purge()

    assert purged == 1
    assert await redis.dbsize() == 0


# lifetimes


async def test_keys_live_as_long_as_their_record_and_the_grace(knox: Knox[uuid.UUID], redis: Redis) -> None:
    """Each key expires after its record, by at most the grace period, and a refresh moves its expiry."""
    token = await knox.strategy(REFRESHING).issue(knox.user, token_ttl=2 * HOUR)
    at_login = [await redis.pttl(key) for key in await knox.keys()]

    await knox.strategy(REFRESHING, now=NOW + HOUR).read_token(token, knox.user_manager)

    refreshed = [await redis.pttl(key) for key in await knox.keys()]
    assert all(2 * HOURS < ttl <= 2 * HOURS + GRACE for ttl in at_login)
    assert all(2 * HOURS < ttl <= 2 * HOURS + GRACE for ttl in refreshed)
    [key] = await records_of(knox)
    assert await redis.zscore(await index_of(knox), key.rpartition(":")[2]) == (NOW + 3 * HOUR).timestamp()


async def test_a_re_authentication_keeps_the_lifetime_of_the_keys(knox: Knox[uuid.UUID], redis: Redis) -> None:
    """The key of a record whose user has authenticated again expires as before, or never if it did not expire."""
    token = await knox.strategy().issue(knox.user)
    await knox.strategy().reauthenticate(token, knox.user)
    ttls = [await redis.pttl(key) for key in await knox.keys()]
    await knox.strategy().logout_all(knox.user)
    endless = await knox.strategy().issue(knox.user, token_ttl=None)
    await knox.strategy().reauthenticate(endless, knox.user)

    assert all(9 * HOURS < ttl <= 10 * HOURS + GRACE for ttl in ttls)
    assert [await redis.pttl(key) for key in await knox.keys()] == [-1, -1]


async def test_a_record_that_never_expires_has_keys_that_do_not_either(knox: Knox[uuid.UUID], redis: Redis) -> None:
    """A record that never expires keeps its user's index from expiring, until the record is removed."""
    await knox.strategy().write_token(knox.user)
    endless = await knox.strategy().issue(knox.user, token_ttl=None)
    await knox.strategy().write_token(knox.user)
    index = await index_of(knox)
    before = await redis.pttl(index)

    await knox.strategy().destroy_token(endless, knox.user)

    assert before == -1
    assert 0 < await redis.pttl(index) <= 10 * HOURS + GRACE


@pytest.mark.parametrize("first", [3 * HOUR, 10 * HOUR])
async def test_an_index_outlives_its_longest_record(knox: Knox[uuid.UUID], first: timedelta) -> None:
    """The index expires together with the last of its records, in any order of added and removed records."""
    strategy, later = knox.strategy(), knox.strategy(now=NOW + 2 * HOUR)
    short = await strategy.issue(knox.user, token_ttl=first)
    await strategy.issue(knox.user, token_ttl=5 * HOUR)
    await later.issue(knox.user, token_ttl=MINUTE)
    await later.issue(knox.user, token_ttl=4 * HOUR)
    before = await excess_of_index(knox)

    await strategy.destroy_token(short, knox.user)

    assert abs(before) < 1000
    assert abs(await excess_of_index(knox)) < 1000


# the index


async def test_the_index_keeps_nothing_of_what_is_gone(knox: Knox[uuid.UUID], redis: Redis) -> None:
    """The next login removes records from the index that Redis has expired or evicted (crudauth #35)."""
    await knox.strategy().write_token(knox.user)
    [gone] = await records_of(knox)
    await redis.delete(gone)

    await knox.strategy().write_token(knox.user)

    [record] = await records_of(knox)
    assert await redis.zrange(await index_of(knox), 0, -1) == [record.rpartition(":")[2]]


async def test_the_index_follows_a_token_that_changes(knox: Knox[uuid.UUID], redis: Redis) -> None:
    """After a rotation or a re-keying, the index has only the new digest, and the old key is deleted."""
    keyed = KnoxSettings(digest_keys=(SecretStr("k" * 32),), accept_unkeyed_until=NOW + 2 * HOUR)
    token = await knox.strategy().write_token(knox.user)
    before = await records_of(knox)

    rotated = await knox.strategy().rotate_token(token, knox.user)
    between = await records_of(knox)
    await knox.strategy(keyed, now=NOW + HOUR).read_token(rotated, knox.user_manager)

    [record] = after = await records_of(knox)
    assert len({*before, *between, *after}) == 3
    assert await redis.zrange(await index_of(knox), 0, -1) == [record.rpartition(":")[2]]


async def test_a_re_authentication_lets_a_record_expire_as_before(knox: Knox[uuid.UUID], redis: Redis) -> None:
    """A re-authentication keeps the time after which Redis deletes the record, and leaves only the new key."""
    token = await knox.strategy().write_token(knox.user)
    [before] = await records_of(knox)
    left = await redis.pttl(before)

    await knox.strategy().reauthenticate(token, knox.user, data={"factors": ["password"]})

    [after] = await records_of(knox)
    assert after != before
    assert left - HOURS < await redis.pttl(after) <= left
    assert await redis.zrange(await index_of(knox), 0, -1) == [after.rpartition(":")[2]]


async def test_a_user_whose_index_is_lost_is_logged_out(knox: Knox[uuid.UUID], redis: Redis) -> None:
    """Records whose index is lost are refused for good; they do not count for the limit of a new login."""
    settings = KnoxSettings(token_limit_per_user=2, auto_refresh=True)
    lost = [await knox.strategy(settings).write_token(knox.user) for _ in range(2)]
    await redis.delete(await index_of(knox))

    found = [await knox.strategy(settings, now=NOW + HOUR).read_token(token, knox.user_manager) for token in lost]
    new = await knox.strategy(settings).write_token(knox.user)

    assert found == [None, None]
    assert await knox.accepts(new)
    assert not any([await knox.accepts(token) for token in lost])
    assert [record.id for record in await knox.strategy().list_records(knox.user)] == [new.record.id]


async def test_a_record_without_index_is_not_written_to(knox: Knox[uuid.UUID], redis: Redis) -> None:
    """A record whose index is lost is neither renewed nor rotated, and the index is not created again."""
    record, key = new_record(knox.user.id), new_digest()
    await knox.store.add(record, key, now=NOW)
    found = await knox.store.get(presented(knox.user.id, key), audience="web")
    assert found is not None
    await redis.delete(await index_of(knox))

    renewed = await knox.store.renew(found, now=NOW + HOUR / 2, unused_since=NOW + MINUTE, expires_at=NOW + 2 * HOUR)
    rotated = await knox.store.rotate(found, new_digest(), now=NOW)

    assert (renewed, rotated) == (False, False)
    assert len(await knox.keys()) == 1


# where the keys are


async def test_all_keys_of_a_user_are_in_one_slot(redis_cluster_servers: ClusterServers) -> None:
    """In a cluster, all keys of one user share a slot, and different users have different slots (crudauth PR #24)."""
    slots = set()
    async with RedisCluster.from_url(redis_cluster_servers.url()) as redis:
        for _ in range(5):
            await redis.flushall()
            user = Person(id=uuid.uuid4(), email="ada@example.org")
            knox = Knox(redis=redis, users=MemoryUserDatabase(uuid.uuid4, {user.id: user}), user=user)
            for _ in range(3):
                await knox.strategy().write_token(user)
            [slot] = {redis.keyslot(key) async for key in redis.scan_iter()}
            slots.add(slot)

    assert len(slots) > 1


async def test_no_command_leaves_the_prefix(knox: Knox[uuid.UUID], redis: Redis) -> None:
    """Applications with different key prefixes can share a Redis: each reads, purges and revokes its own tokens."""
    other = Knox(redis=redis, users=knox.users, user=knox.user, key_prefix="other:")
    mine, theirs = await knox.strategy().write_token(knox.user), await other.strategy().write_token(knox.user)

    assert not await knox.accepts(theirs)
    assert not await other.accepts(mine)
    assert await knox.strategy(now=NOW + 11 * HOUR).purge() == 1
    assert await other.strategy().logout_all(knox.user) == 1


async def test_a_prefix_may_have_the_marks_of_a_pattern(knox: Knox[uuid.UUID], redis: Redis) -> None:
    """A purge takes the special characters of a pattern in the key prefix literally."""
    knox.key_prefix = r"a*b?[c]\d^-"
    await knox.strategy().write_token(knox.user)

    assert await knox.strategy(now=NOW + 11 * HOUR).purge() == 1
    assert await redis.dbsize() == 0


@pytest.mark.parametrize("prefix", ["{knox}:", "{}", "knox}"])
async def test_a_prefix_with_braces_is_refused(redis: Redis, prefix: str) -> None:
    """Braces in the key prefix are refused, because a cluster would choose the slot by them."""
    with pytest.raises(ValueError, match="braces"):
        RedisTokenStore(redis, key_prefix=prefix)


# what is stored


@pytest.mark.parametrize("user_id", [7, "507f1f77bcf86cd799439011"])
async def test_a_wrong_parse_id_shows_at_the_first_login(redis: Redis, user_id: Any) -> None:
    """If `parse_id` does not fit the user ids, the first login raises an error that names it, and stores nothing."""
    store: RedisTokenStore[Any, Any] = RedisTokenStore(redis)

    with pytest.raises(KnoxError, match="parse_id"):
        await store.add(new_record(user_id), new_digest(), now=NOW)

    assert await redis.dbsize() == 0


async def test_ids_of_another_kind_are_not_ours(knox: Knox[uuid.UUID], redis: Redis) -> None:
    """A record for another kind of user id, by an application with the same key prefix, is not found."""
    record, key = new_record(7), new_digest()
    knox.users_name = "customer"
    store: RedisTokenStore[Any, Any] = RedisTokenStore(redis, parse_id=int, users="customer")
    await store.add(record, key, now=NOW)

    assert await knox.store.get(presented(7, key), audience="web") is None


# several user tables


async def test_two_user_tables_have_nothing_in_common(redis: Redis) -> None:
    """Stores of two user tables do not see each other's records, even if the users have the same id."""
    customers: RedisTokenStore[Any, int] = RedisTokenStore(redis, parse_id=int, users="customer")
    staff: RedisTokenStore[Any, int] = RedisTokenStore(redis, parse_id=int, users="staff")
    record, key = new_record(1), new_digest()
    await customers.add(record, key, now=NOW, limit=1)

    assert await staff.get(presented(1, key), audience="web") is None
    assert await staff.list(1, audience="web", now=NOW) == []
    assert await staff.remove_all(1, audience=None, now=NOW) == []
    assert await staff.remove(1, record.id, audience="web", now=NOW) is None
    assert await staff.purge(audience="web", now=NOW + 11 * HOUR) == 0
    await staff.add(new_record(1), new_digest(), now=NOW, limit=1)
    assert await customers.list(1, audience="web", now=NOW) == [record]
    assert await customers.purge(audience="web", now=NOW + 11 * HOUR) == 1


@pytest.mark.parametrize("parse_id", [int, str, uuid.uuid3])
async def test_other_ids_than_uuids_need_the_name_of_their_table(redis: Redis, parse_id: Any) -> None:
    """A `parse_id` other than `UUID` needs `users=`, because otherwise two user tables would share their keys."""
    with pytest.raises(TypeError, match=r"users is missing: .*users='customer'"):
        cast("Any", RedisTokenStore)(redis, parse_id=parse_id)


@pytest.mark.parametrize("users", ["a:b", "{a}", "a b", "a" * 65, "ä"])
async def test_the_name_of_a_table_is_plain(redis: Redis, users: str) -> None:
    """A `users` name that is too long, or has colons, braces or other special characters, is refused."""
    with pytest.raises(ValueError, match="users must be"):
        RedisTokenStore(redis, users=users)


async def test_something_else_than_a_client_is_refused() -> None:
    """A synchronous client or a URL instead of an asynchronous client is refused at construction."""
    for client in (SyncRedis(port=1), "redis://127.0.0.1"):
        with pytest.raises(TypeError, match=r"redis must be a client of redis\.asyncio"):
            RedisTokenStore(cast("Any", client))


async def test_records_of_today_are_read_for_ever(knox: Knox[uuid.UUID], redis: Redis) -> None:
    """A record in exactly the format that version 0.1 stores can be listed and removed."""
    user_id = uuid.UUID("3f9c1b52-6f6e-4a51-9a3d-5b0b5b7e3d10")
    base = f"knox:{{{routing_tag(user_id)}}}:"
    name = "QAiIU6xJZz7wJYv3h5fR0Qb2aT1c9d8e7f6g5h4i3jk"
    created_at, expires_at = 1893499200000, 1893535200000
    fields = ["AAECAwQFBgcICQoLDA0ODw", str(user_id), created_at, expires_at, None, None, "web", "phone", "Käthe"]
    await redis.set(f"{base}{name}", json.dumps(fields))
    await redis.zadd(f"{base}user:{user_id}", {name: expires_at // 1000})

    [record] = await knox.store.list(user_id, audience="web", now=NOW)

    assert record.id == uuid.UUID("00010203-0405-0607-0809-0a0b0c0d0e0f")
    assert (record.user_id, record.created_at, record.expires_at) == (user_id, NOW, NOW + 10 * HOUR)
    assert (record.device_id, record.name, record.last_used_at, record.ip_address) == ("phone", "Käthe", None, None)
    assert await knox.store.remove(user_id, record.id, audience="web", now=NOW) == record
