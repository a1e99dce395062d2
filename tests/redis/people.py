"""Users that are not in SQL but in a dict, with ids of any type."""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any, Generic

from fastapi_users import BaseUserManager
from fastapi_users.db import BaseUserDatabase
from fastapi_users.models import ID

SECRET = "secret-of-the-tests-that-is-long-enough"


@dataclass(kw_only=True)
class Person(Generic[ID]):
    """A user."""

    id: ID
    email: str
    hashed_password: str = "hash"
    is_active: bool = True
    is_superuser: bool = False
    is_verified: bool = True


@dataclass
class MemoryUserDatabase(BaseUserDatabase[Person[ID], ID]):
    """A user database in a dict. Like any database, it returns a new object at each call."""

    make_id: Callable[[], ID]
    people: dict[ID, Person[ID]] = field(default_factory=dict)

    async def get(self, id: ID) -> Person[ID] | None:
        """Return the user with an id."""
        person = self.people.get(id)
        return None if person is None else replace(person)

    async def get_by_email(self, email: str) -> Person[ID] | None:
        """Return the user with an e-mail address."""
        return next((replace(person) for person in self.people.values() if person.email == email), None)

    async def create(self, create_dict: dict[str, Any]) -> Person[ID]:
        """Store a new user."""
        person: Person[ID] = Person(id=self.make_id(), **create_dict)
        self.people[person.id] = person
        return replace(person)

    async def update(self, user: Person[ID], update_dict: dict[str, Any]) -> Person[ID]:
        """Change a user."""
        self.people[user.id] = replace(self.people[user.id], **update_dict)
        return replace(self.people[user.id])

    async def delete(self, user: Person[ID]) -> None:
        """Delete a user."""
        del self.people[user.id]


class PersonManager(BaseUserManager[Person[Any], Any]):
    """A user manager of users with ids of any type."""

    reset_password_token_secret = SECRET
    verification_token_secret = SECRET

    def parse_id(self, value: Any) -> Any:
        """Return the id unchanged."""
        return value
