"""Loading the user at a read: in the token's SELECT with FastAPI-Users' own adapter, separately otherwise."""

import uuid
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
from fastapi_users import InvalidID
from fastapi_users.db import BaseUserDatabase
from fastapi_users_db_sqlalchemy import SQLAlchemyUserDatabase
from sqlalchemy import Select
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession

from tests.models import User, UserManager
from tests.strategies import Knox, change_user, sent_to, verbs


class UserDatabase(SQLAlchemyUserDatabase[User, uuid.UUID]):
    """FastAPI-Users' SQLAlchemy adapter with its types."""


class OwnGet(UserManager):
    """A user manager that overrides `get`."""

    async def get(self, id: uuid.UUID) -> User:
        """Load the user as the base class does."""
        return await super().get(id)


class OwnUserDatabase(UserDatabase):
    """A user database that overrides `get`."""

    async def get(self, id: uuid.UUID) -> User | None:
        """Load the user as the base class does."""
        return await super().get(id)


class OwnStatement(UserDatabase):
    """A user database that overrides how its statements are executed."""

    async def _get_user(self, statement: Select[Any]) -> User | None:
        """Execute the statement as the base class does."""
        return await super()._get_user(statement)


class Directory(BaseUserDatabase[User, uuid.UUID]):
    """A user database outside of SQL."""

    def __init__(self, *users: User) -> None:
        self.users = {user.id: user for user in users}

    async def get(self, id: uuid.UUID) -> User | None:
        """Return the user with this id."""
        return self.users.get(id)


class StrictManager(OwnGet):
    """A user manager that accepts no id."""

    def parse_id(self, value: Any) -> uuid.UUID:
        """Raise that the id is invalid."""
        raise InvalidID from ValueError(value)


class Other(User):
    """Another class mapped to the same users."""


@pytest.fixture
async def elsewhere(engine: AsyncEngine) -> AsyncIterator[AsyncSession]:
    """Open another session."""
    async with AsyncSession(engine) as session:
        yield session


Make = Callable[[Knox, AsyncSession], UserManager]

PLAIN: dict[str, Make] = {
    "own": lambda knox, _: knox.user_manager,
    "subclasses": lambda knox, _: UserManager(UserDatabase(knox.session, User)),
}
OTHERS: dict[str, Make] = {
    "own get": lambda knox, _: OwnGet(UserDatabase(knox.session, User)),
    "own user database": lambda knox, _: UserManager(OwnUserDatabase(knox.session, User)),
    "own statement": lambda knox, _: UserManager(OwnStatement(knox.session, User)),
    "another session": lambda _, elsewhere: UserManager(UserDatabase(elsewhere, User)),
    "another class": lambda _, elsewhere: UserManager(UserDatabase(elsewhere, Other)),
}


@pytest.mark.parametrize("make", PLAIN.values(), ids=PLAIN.keys())
async def test_the_usual_users_come_with_the_token(
    knox: Knox, engine: AsyncEngine, elsewhere: AsyncSession, make: Make
) -> None:
    """Where users are loaded by FastAPI-Users' own adapter, a read is one statement."""
    token = await knox.strategy().issue(knox.user)

    with sent_to(engine) as statements:
        user = await knox.strategy().read_token(token, make(knox, elsewhere))

    assert user is knox.user
    assert verbs(statements) == ["SELECT"]


@pytest.mark.parametrize("make", OTHERS.values(), ids=OTHERS.keys())
async def test_other_users_are_loaded_their_way(
    knox: Knox, engine: AsyncEngine, elsewhere: AsyncSession, make: Make
) -> None:
    """Where an application overrides how users are loaded, its way is used after the token is found."""
    token = await knox.strategy().issue(knox.user)

    with sent_to(engine) as statements:
        user = await knox.strategy().read_token(token, make(knox, elsewhere))

    assert user is not None
    assert user.id == knox.user.id
    assert verbs(statements) == ["SELECT", "SELECT"]


@pytest.mark.parametrize("make", (PLAIN | OTHERS).values(), ids=(PLAIN | OTHERS).keys())
async def test_the_inactive_are_refused_however_they_are_loaded(
    knox: Knox, engine: AsyncEngine, elsewhere: AsyncSession, make: Make
) -> None:
    """An inactive user is refused in every way of loading, even if the sessions hold an object that says active."""
    token = await knox.strategy().issue(knox.user)
    await elsewhere.get_one(User, knox.user.id)
    await change_user(engine, knox.user, is_active=False)

    assert await knox.strategy().read_token(token, make(knox, elsewhere)) is None


async def test_users_may_be_outside_of_sql(knox: Knox) -> None:
    """Users may come from any FastAPI-Users user database."""
    token = await knox.strategy().issue(knox.user)

    assert await knox.strategy().read_token(token, UserManager(Directory(knox.user))) is knox.user


async def test_a_user_who_is_inactive_outside_of_sql_is_refused(knox: Knox) -> None:
    """A user is refused if either the user table or the user database says inactive."""
    token = await knox.strategy().issue(knox.user)
    inactive = User(id=knox.user.id, email="", hashed_password="", is_active=False)

    assert await knox.strategy().read_token(token, UserManager(Directory(inactive))) is None


async def test_a_user_who_is_gone_is_refused(knox: Knox) -> None:
    """A token is refused if its user is not in the user database."""
    token = await knox.strategy().issue(knox.user)

    assert await knox.strategy().read_token(token, UserManager(Directory())) is None


async def test_an_invalid_id_is_refused(knox: Knox) -> None:
    """A record whose user id the manager cannot parse authenticates nobody."""
    token = await knox.strategy().issue(knox.user)

    assert await knox.strategy().read_token(token, StrictManager(UserDatabase(knox.session, User))) is None
