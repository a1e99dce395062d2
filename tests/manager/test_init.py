"""User managers that have an `__init__` of their own, in the class itself or in a base class, work with the mix-in."""

import uuid
from typing import Any

import pytest
from fastapi_users import BaseUserManager, UUIDIDMixin
from fastapi_users.db import BaseUserDatabase
from fastapi_users.password import PasswordHelperProtocol
from fastapi_users.schemas import BaseUserUpdate

from fastapi_users_knox import KnoxStrategy, KnoxUserManagerMixin
from tests.manager.account import SECRET, Account, UserDatabase
from tests.models import User
from tests.site import PASSWORDS

# What is tested here is the same on all stores.
pytestmark = [pytest.mark.anyio, pytest.mark.parametrize("open_app", ["sqlite"], indirect=True)]

Users = BaseUserDatabase[User, uuid.UUID]
Mixin = KnoxUserManagerMixin[User, uuid.UUID]


class Base(UUIDIDMixin, BaseUserManager[User, uuid.UUID]):
    """A base class of an application, without an `__init__`."""

    reset_password_token_secret = SECRET
    verification_token_secret = SECRET


class ByKeyword(Base):
    """A base class with an additional keyword argument."""

    def __init__(self, user_db: Users, password_helper: PasswordHelperProtocol | None = None, *, mailer: str) -> None:
        super().__init__(user_db, password_helper)
        self.mailer = mailer


class ByPosition(Base):
    """A base class with another positional argument in place of the password helper."""

    def __init__(self, user_db: Users, mailer: str) -> None:
        super().__init__(user_db, PASSWORDS)
        self.mailer = mailer


class First(Base):
    """A base class whose own argument comes first and whose password helper comes last."""

    def __init__(self, mailer: str, user_db: Users, password_helper: PasswordHelperProtocol | None = None) -> None:
        super().__init__(user_db, password_helper)
        self.mailer = mailer


class OnlyUsers(Base):
    """A base class that takes only the user database."""

    mailer = "smtp"

    def __init__(self, user_db: Users) -> None:
        super().__init__(user_db, PASSWORDS)


class WithKeyword(Mixin, ByKeyword):
    """The mix-in with a base class that takes a keyword argument."""


class WithPosition(Mixin, ByPosition):
    """The mix-in with a base class that takes another positional argument."""


class WithFirst(Mixin, First):
    """The mix-in with a base class whose own argument comes first."""


class WithOnlyUsers(Mixin, OnlyUsers):
    """The mix-in with a base class that takes only the user database."""


class Own(Mixin, Base):
    """A user manager with an additional argument of its own."""

    def __init__(self, user_db: Users, mailer: str, *, knox: KnoxStrategy[User, uuid.UUID]) -> None:
        super().__init__(user_db, PASSWORDS, knox=knox)
        self.mailer = mailer


class PassingOn(Mixin, ByKeyword):
    """A user manager with an additional argument, over a base class with a different additional argument."""

    def __init__(self, *args: Any, sender: str, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.sender = sender


WAYS: list[tuple[Any, Any]] = [
    (WithKeyword, lambda users, knox: ((users,), {"knox": knox, "mailer": "smtp"})),
    (WithKeyword, lambda users, knox: ((users, PASSWORDS), {"knox": knox, "mailer": "smtp"})),
    (WithKeyword, lambda users, knox: ((users,), {"knox": knox, "mailer": "smtp", "password_helper": PASSWORDS})),
    (WithKeyword, lambda users, knox: ((), {"user_db": users, "knox": knox, "mailer": "smtp"})),
    (WithPosition, lambda users, knox: ((users, "smtp"), {"knox": knox})),
    (WithPosition, lambda users, knox: ((users,), {"mailer": "smtp", "knox": knox})),
    (WithFirst, lambda users, knox: (("smtp", users, PASSWORDS), {"knox": [knox]})),
    (WithFirst, lambda users, knox: (("smtp",), {"user_db": users, "knox": knox, "password_helper": PASSWORDS})),
    (WithOnlyUsers, lambda users, knox: ((users,), {"knox": knox})),
    (Own, lambda users, knox: ((users, "smtp"), {"knox": knox})),
    (PassingOn, lambda users, knox: ((users,), {"knox": knox, "mailer": "smtp", "sender": "me"})),
]


@pytest.mark.parametrize(("kind", "arguments"), WAYS)
async def test_an_init_of_ones_own_works(account: Account, kind: Any, arguments: Any) -> None:
    """Each argument reaches the application's own `__init__` unchanged, and a new password revokes the tokens."""
    positional, named = arguments(UserDatabase(account.app.session, User), account.strategy())

    manager = kind(*positional, **named)
    await manager.update(BaseUserUpdate(password="another password"), account.user)

    assert manager.mailer == "smtp"
    assert await account.alive() == []


class Forgetful(Mixin, Base):
    """A user manager whose `__init__` calls FastAPI-Users' own, and so passes over the mix-in's."""

    def __init__(self, user_db: Users, knox: KnoxStrategy[User, uuid.UUID]) -> None:  # noqa: ARG002
        BaseUserManager.__init__(self, user_db)


class Dropping(Mixin, Base):
    """A user manager whose `__init__` does not pass `knox=` to the `__init__` of the mix-in."""

    def __init__(self, user_db: Users, **_kwargs: object) -> None:
        forgotten: dict[str, Any] = {}
        super().__init__(user_db, **forgotten)


async def test_a_strategy_that_is_not_passed_on_is_missed(account: Account) -> None:
    """A manager that does not pass `knox=` on fails at construction, with an error that shows the correct call."""
    with pytest.raises(TypeError, match=r"knox= must be .*KnoxStrategy.*super\(\).__init__\(user_db, knox=strategy\)"):
        Dropping(UserDatabase(account.app.session, User), knox=account.strategy())


async def test_an_init_that_is_passed_over_is_missed(account: Account) -> None:
    """If the mix-in's `__init__` has not run, a change raises a `TypeError` that names `knox=`, and stores nothing."""
    manager = Forgetful(UserDatabase(account.app.session, User), account.strategy())
    change = BaseUserUpdate(password="another password")

    with pytest.raises(TypeError, match="knox="):
        await manager.update(change, account.user)
    with pytest.raises(TypeError, match="knox="):
        await manager.delete(account.user)

    assert await account.alive() == ["laptop", "phone", "script"]
    assert account.user.hashed_password == "hash"
