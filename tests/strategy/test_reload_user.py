"""`reload_user`: for stores that cannot see the users, a login looks at its user again after the write."""

from collections.abc import Awaitable, Callable
from typing import Any
from uuid import UUID

import pytest
from sqlalchemy.ext.asyncio import AsyncEngine

from fastapi_users_knox import CredentialsChanged
from tests.models import User
from tests.strategies import Knox, stored


def giving(user: User | None) -> Callable[[UUID], Awaitable[User | None]]:
    """Make a `reload_user` that finds this."""

    async def reload_user(_user_id: UUID) -> User | None:
        return user

    return reload_user


def like(user: User, **changes: Any) -> User:
    """Make the user as it is found later."""
    fields = {"id": user.id, "email": user.email, "hashed_password": user.hashed_password, "is_active": True}
    return User(**(fields | changes))


async def test_an_unchanged_user_logs_in(knox: Knox) -> None:
    """The user is loaded by id, once, after the record is stored."""
    asked = []

    async def reload_user(user_id: UUID) -> User:
        asked.append((user_id, len(await knox.strategy().list_records(knox.user))))
        return like(knox.user)

    token = await knox.strategy(reload_user=reload_user).issue(knox.user)

    assert asked == [(knox.user.id, 1)]
    assert await knox.accepts(token)
    assert knox.told() == [("TokenIssued",)]


@pytest.mark.parametrize("changes", [{"hashed_password": "new"}, {"is_active": False}, None])
async def test_a_changed_user_does_not(knox: Knox, engine: AsyncEngine, changes: dict[str, Any] | None) -> None:
    """If the password or the activity has changed, or the user is gone, the new record ends, and the login fails."""
    found = None if changes is None else like(knox.user, **changes)

    with pytest.raises(CredentialsChanged):
        await knox.strategy(reload_user=giving(found)).issue(knox.user)

    assert await stored(engine) == []
    assert knox.told() == []


async def test_a_user_that_cannot_be_loaded_does_not(knox: Knox, engine: AsyncEngine) -> None:
    """If loading fails, the new record ends, and the error is the caller's."""

    async def reload_user(_user_id: UUID) -> User | None:
        raise ConnectionError("no users today")

    with pytest.raises(ConnectionError, match="no users today"):
        await knox.strategy(reload_user=reload_user).issue(knox.user)

    assert await stored(engine) == []
    assert knox.told() == []
