"""Tokens in Redis work for users of any user database, with ids of any type."""

import uuid
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from redis.asyncio import Redis

from fastapi_users_knox import CredentialsChanged, InvalidToken, KnoxSettings
from tests.redis.knox import Knox
from tests.redis.people import MemoryUserDatabase, Person

pytestmark = pytest.mark.anyio

REFRESHING = KnoxSettings(auto_refresh=True, token_limit_per_user=2)
IDS: dict[str, tuple[Any, Any, Callable[[str], Any]]] = {
    "UUID": (uuid.UUID(int=7), uuid.UUID(int=8), uuid.UUID),
    "int": (7, 8, int),
    "ObjectId": ("507f1f77bcf86cd799439011", "507f191e810c19729de860ea", str),
}
OTHERS = {user_id: other_id for user_id, other_id, _ in IDS.values()}


@pytest.fixture(params=IDS)
def anyones(request: pytest.FixtureRequest, redis: Redis) -> Knox[Any]:
    """Return a user for each type of id."""
    user_id, _, parse_id = IDS[request.param]
    user = Person(id=user_id, email="ada@example.org")
    users: MemoryUserDatabase[Any] = MemoryUserDatabase(lambda: user_id, {user_id: user})
    return Knox(redis=redis, users=users, user=user, parse_id=parse_id, users_name="person")


async def test_a_whole_life(anyones: Knox[Any]) -> None:
    """A user logs in twice, rotates one token, logs out with the other, and then revokes all tokens."""
    strategy, user, manager = anyones.strategy(REFRESHING), anyones.user, anyones.user_manager
    first, second = await strategy.write_token(user), await strategy.write_token(user)

    rotated = await strategy.rotate_token(first, user)
    found = await strategy.authenticate(rotated, manager)
    await strategy.destroy_token(second, user)
    left = await strategy.list_records(user)
    ended = await strategy.logout_all(user)

    assert found is not None
    assert (found[0], found[1].user_id) == (user, user.id)
    assert left == [rotated.record]
    assert ended == 1
    assert await strategy.read_token(rotated, manager) is None


async def test_an_inactive_or_deleted_user_is_refused(anyones: Knox[Any]) -> None:
    """A token of an inactive or deleted user is refused at the next read."""
    token = await anyones.strategy().write_token(anyones.user)

    await anyones.users.update(anyones.user, {"is_active": False})
    inactive = await anyones.accepts(token)
    await anyones.users.delete(anyones.user)

    assert not inactive
    assert not await anyones.accepts(token)


async def test_a_login_whose_user_changes_meanwhile_fails(anyones: Knox[Any], redis: Redis) -> None:
    """A login raises `CredentialsChanged` if the password has changed since the user was loaded, and stores nothing."""
    loaded = await anyones.users.get(anyones.user.id)
    assert loaded is not None
    await anyones.users.update(anyones.user, {"hashed_password": "another"})

    with pytest.raises(CredentialsChanged):
        await anyones.strategy().write_token(loaded)

    assert await redis.dbsize() == 0


async def test_a_reused_id_inherits_nothing(anyones: Knox[Any]) -> None:
    """After a logout-all, a new user with the id of a deleted one has no tokens."""
    token = await anyones.strategy().write_token(anyones.user)
    await anyones.strategy().logout_all(anyones.user)
    await anyones.users.delete(anyones.user)

    await anyones.users.create({"email": "eve@example.org"})

    assert not await anyones.accepts(token)
    assert await anyones.strategy().list_records(anyones.user) == []


async def test_another_users_token_is_not_ended(anyones: Knox[Any]) -> None:
    """A logout of one user with the token of another user is refused, and the token stays valid."""
    token = await anyones.strategy().write_token(anyones.user)
    other = replace(anyones.user, id=OTHERS[anyones.user.id])

    with pytest.raises(InvalidToken):
        await anyones.strategy().destroy_token(token, other)

    assert await anyones.accepts(token)


async def test_scripts_survive_a_flush(anyones: Knox[Any], redis: Redis) -> None:
    """Each act works if Redis has lost the scripts just before it."""
    strategy, user = anyones.strategy(REFRESHING), anyones.user

    async def forget() -> None:
        await redis.script_flush()

    await forget()
    token = await strategy.write_token(user)
    await forget()
    rotated = await strategy.rotate_token(token, user)
    await forget()
    found = await strategy.read_token(rotated, anyones.user_manager)
    await forget()
    records = await strategy.list_records(user)
    await forget()
    await strategy.destroy_token(rotated, user)
    await forget()

    assert found == user
    assert len(records) == 1
    assert await strategy.purge() == 0
