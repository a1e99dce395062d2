"""With tokens in Redis, a re-authentication checks the user after the write, and revokes the session of a changed user.

The user database is not SQL's, so each query returns a new object.
"""

import asyncio
import uuid
from typing import Any

import pytest
from anyio.lowlevel import checkpoint
from redis.asyncio import Redis

from fastapi_users_knox import CredentialsChanged, KnoxStrategy, TokenRevoked
from fastapi_users_knox.redis import RedisTokenStore
from tests.backends import DEFAULTS, NOW
from tests.redis.knox import Knox
from tests.redis.people import MemoryUserDatabase, Person
from tests.redis.site import Place
from tests.site import HASHED, OLD_HASH, PASSWORD, bearing, client_of, login
from tests.strategies import HOUR, Clock

pytestmark = pytest.mark.anyio

CHANGES: list[dict[str, Any] | None] = [{"hashed_password": "another hash"}, {"is_active": False}, None]


async def change(knox: Knox[uuid.UUID], changes: dict[str, Any] | None) -> None:
    """Change the user, or delete the user if there are no changes."""
    if changes is None:
        await knox.users.delete(knox.user)
    else:
        await knox.users.update(knox.user, changes)


async def test_an_unchanged_user_re_authenticates(knox: Knox[uuid.UUID]) -> None:
    """The session of an unchanged user gets a new text and a new `authenticated_at`."""
    token = await knox.strategy().issue(knox.user)

    new = await knox.strategy(now=NOW + HOUR).reauthenticate(token, knox.user)

    assert new.record.authenticated_at == NOW + HOUR
    assert await knox.strategy().list_records(knox.user) == [new.record]
    assert [await knox.accepts(text) for text in (token, new)] == [False, True]


@pytest.mark.parametrize("changes", CHANGES, ids=["password", "activity", "deletion"])
async def test_a_user_who_changes_meanwhile_is_logged_out(
    knox: Knox[uuid.UUID], redis: Redis, changes: dict[str, Any] | None
) -> None:
    """If the user was changed or deleted since the proof was checked, the session is revoked, and this is published."""
    token = await knox.strategy().issue(knox.user)
    loaded = await knox.users.get(knox.user.id)
    assert loaded is not None
    await change(knox, changes)
    knox.events.clear()

    with pytest.raises(CredentialsChanged):
        await knox.strategy().reauthenticate(token, loaded)

    assert await redis.dbsize() == 0
    [event] = knox.events
    assert isinstance(event, TokenRevoked)
    assert (event.record.id, event.reason) == (token.record.id, "password_changed")


class Unavailable(MemoryUserDatabase[uuid.UUID]):
    """A user database that cannot be reached."""

    async def get(self, id: uuid.UUID) -> Person[uuid.UUID] | None:
        """Fail."""
        raise ConnectionError(f"the database has gone, so {id} cannot be read")


async def test_a_user_who_cannot_be_checked_is_logged_out(knox: Knox[uuid.UUID], redis: Redis) -> None:
    """If the check of the user fails, its error is raised, and the session is revoked."""
    token = await knox.strategy().issue(knox.user)
    knox.users = Unavailable(uuid.uuid4, knox.users.people)

    with pytest.raises(ConnectionError):
        await knox.strategy().reauthenticate(token, knox.user)

    assert await redis.dbsize() == 0


class Cancelled(MemoryUserDatabase[uuid.UUID]):
    """A user database that cancels the request that asks it."""

    async def get(self, id: uuid.UUID) -> Person[uuid.UUID] | None:
        """Cancel the request."""
        task = asyncio.current_task()
        assert task is not None
        task.cancel()
        await checkpoint()
        return await super().get(id)


async def test_a_request_that_is_cancelled_during_the_check_is_logged_out(knox: Knox[uuid.UUID], redis: Redis) -> None:
    """If the request is cancelled during the check of the user, the session is revoked."""
    token = await knox.strategy().issue(knox.user)
    knox.users = Cancelled(uuid.uuid4, knox.users.people)

    with pytest.raises(asyncio.CancelledError):
        await asyncio.create_task(knox.strategy().reauthenticate(token, knox.user))

    assert await redis.dbsize() == 0


async def test_without_a_user_database_nothing_is_checked(knox: Knox[uuid.UUID]) -> None:
    """With `user_db=None`, a re-authentication does not check whether the user has changed."""
    token = await knox.strategy().issue(knox.user)
    await change(knox, {"hashed_password": "another hash"})
    strategy = KnoxStrategy(knox.store, request=None, user_db=None, clock=lambda: NOW)

    new = await strategy.reauthenticate(token, knox.user)

    assert await knox.accepts(new)


# over HTTP


class SavingDatabase(MemoryUserDatabase[uuid.UUID]):
    """A user database that also changes the object it is called with, as FastAPI-Users' adapters do."""

    async def update(self, user: Person[uuid.UUID], update_dict: dict[str, Any]) -> Person[uuid.UUID]:
        """Change the user."""
        for name, value in update_dict.items():
            setattr(user, name, value)
        return await super().update(user, update_dict)


async def test_an_outdated_hash_is_replaced(redis: Redis) -> None:
    """If the check of the password replaces an outdated hash, the write compares the user with the new hash."""
    user = Person(id=uuid.uuid4(), email="ada@example.org", hashed_password=HASHED)
    users = SavingDatabase(uuid.uuid4, {user.id: user})
    place = Place(settings=DEFAULTS, clock=Clock(), users=users, store=RedisTokenStore(redis))
    async with client_of(place) as http:
        token = await login(http, email=user.email)
        await users.update(user, {"hashed_password": OLD_HASH})

        response = await http.post("/knox/reauthenticate", headers=bearing(token), data={"password": PASSWORD})

    stored = await users.get(user.id)
    assert response.status_code == 200, response.text
    assert stored is not None
    assert stored.hashed_password != OLD_HASH
