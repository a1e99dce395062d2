"""The users behind a database that is not FastAPI-Users' adapter for SQLAlchemy, and so has no session."""

from dataclasses import dataclass
from typing import Any

import pytest
from fastapi_users.db import BaseUserDatabase

from fastapi_users_knox import Credentials
from fastapi_users_knox.users import users_of

pytestmark = pytest.mark.anyio


@dataclass
class Person:
    """A user of an application without SQLAlchemy."""

    id: int
    hashed_password: str = "hash"
    is_active: bool = True


class Directory(BaseUserDatabase[Any, int]):
    """A user database in memory, with one user."""

    def __init__(self) -> None:
        self.person = Person(7)

    async def get(self, id: int) -> Person | None:
        """Return the user of this id."""
        return self.person if id == self.person.id else None


async def test_what_is_stored_is_what_the_database_returns() -> None:
    """Stored and committed fields are the fields of the returned object; without a user there are no fields."""
    directory = Directory()
    users = users_of(directory)
    fields = {"id": 7, "hashed_password": "hash", "is_active": True}

    assert await users.stored(7) == fields
    assert await users.committed(directory.person, 7) == fields
    assert await users.stored(8) == {}


async def test_credentials_are_those_of_the_returned_object() -> None:
    """The credentials are the object's password hash and activity; `None` without a user."""
    users = users_of(Directory())

    assert await users.credentials(7, latest=True) == Credentials(hashed_password="hash", is_active=True)
    assert await users.credentials(8) is None


async def test_there_is_no_session() -> None:
    """Nothing waits for a flush or a commit, and nothing prevents one."""
    directory = Directory()
    users = users_of(directory)

    with users.sharing_session(), users.noting_commits() as commits:
        await users.flush()
        await users.commit()
        await users.roll_back(directory.person)
        users.refuse_transaction_block()

    assert users.id_of(directory.person) == 7
    assert not users.is_pending(directory.person)
    assert not users.derives_activity
    assert list(commits) == []
