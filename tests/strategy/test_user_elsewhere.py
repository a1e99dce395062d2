"""Loading users for a store that cannot see them: one SELECT with FastAPI-Users' SQL adapter, else `get`."""

import subprocess
import sys
import uuid
from collections.abc import AsyncIterator, Callable
from datetime import datetime
from typing import Any, cast

import pytest
from fastapi_users import BaseUserManager, UUIDIDMixin
from fastapi_users.db import BaseUserDatabase
from fastapi_users.exceptions import UserNotExists
from fastapi_users_db_sqlalchemy import (
    SQLAlchemyBaseOAuthAccountTableUUID,
    SQLAlchemyBaseUserTableUUID,
    SQLAlchemyUserDatabase,
)
from fastapi_users_db_sqlalchemy.generics import GUID
from sqlalchemy import ForeignKey, Select, delete, event
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession
from sqlalchemy.orm import DeclarativeBase, Mapped, declared_attr, mapped_column, relationship

from fastapi_users_knox import Found, KnoxStrategy, PresentedToken, TokenRecord, TokenStore, tokens
from tests.models import User, UserManager
from tests.strategies import DEFAULTS, HOUR, NOW, Knox, change_user, sent_to, verbs


class Vault:
    """A third-party store of one token that knows only the user's id, as text."""

    sees_users = True

    def __init__(self, user_id: object, **found: Any) -> None:
        self.token = tokens.generate(tokens.routing_tag(user_id), prefix="knox_")
        self.record: TokenRecord[Any] = TokenRecord(
            id=uuid.uuid4(), user_id=str(user_id), audience="", created_at=NOW, expires_at=NOW + HOUR
        )
        self.found = found

    async def get(self, token: PresentedToken, **_options: object) -> Found[Any, Any] | None:
        """Return the record if the token presented is the stored one."""
        kept = tokens.digest(self.token)
        return Found(record=self.record, digest=kept, **self.found) if kept in token.digests else None

    async def read(self, user_manager: BaseUserManager[Any, uuid.UUID]) -> object | None:
        """Present the token to a strategy over this store."""
        store = cast("TokenStore[Any, uuid.UUID]", self)
        return await KnoxStrategy(store, DEFAULTS, clock=lambda: NOW, request=None).read_token(self.token, user_manager)


class UserDatabase(SQLAlchemyUserDatabase[User, uuid.UUID]):
    """FastAPI-Users' SQLAlchemy adapter with its types."""


class HidingManager(UserManager):
    """A user manager that finds no user."""

    async def get(self, id: uuid.UUID) -> User:
        """Raise that the user does not exist."""
        raise UserNotExists from LookupError(id)


class LaxManager(UserManager):
    """A user manager that returns None for an unknown user instead of raising."""

    async def get(self, id: uuid.UUID) -> Any:
        """Return None."""


class NamingManager(UserManager):
    """A user manager that parses ids such as "user-1"."""

    def parse_id(self, value: Any) -> uuid.UUID:
        """Parse the id behind the prefix."""
        return super().parse_id(value.removeprefix("user-"))


class HidingDatabase(UserDatabase):
    """A user database whose `get` finds no user."""

    async def get(self, id: uuid.UUID) -> User | None:
        """Return None."""


class HidingStatement(UserDatabase):
    """A user database whose statements find no user."""

    async def _get_user(self, statement: Select[Any]) -> User | None:
        """Return None."""


class OwnDatabase(UserDatabase):
    """A user database that overrides `get`."""

    async def get(self, id: uuid.UUID) -> User | None:
        """Load the user as the base class does."""
        return await super().get(id)


class Directory(BaseUserDatabase[User, uuid.UUID]):
    """A user database outside of SQL."""

    def __init__(self, *users: User) -> None:
        self.users = {user.id: user for user in users}

    async def get(self, id: uuid.UUID) -> User | None:
        """Return the user with this id."""
        return self.users.get(id)


class Base(DeclarativeBase):
    """The metadata of the other applications' tables."""


class Member(SQLAlchemyBaseUserTableUUID, Base):
    """A user whose OAuth accounts are loaded by an eager join, as in FastAPI-Users' documentation."""

    __tablename__ = "member"
    accounts: Mapped[list["Account"]] = relationship(lazy="joined")


class Account(SQLAlchemyBaseOAuthAccountTableUUID, Base):
    """An OAuth account of a member."""

    @declared_attr
    def user_id(cls) -> Mapped[uuid.UUID]:
        """Refer to the member."""
        return mapped_column(GUID, ForeignKey("member.id"))


class Guest(Base):
    """A user class whose `is_active` is computed in Python and has no column."""

    __tablename__ = "guest"
    id: Mapped[uuid.UUID] = mapped_column(GUID, primary_key=True)
    left_at: Mapped[datetime | None]

    @property
    def is_active(self) -> bool:
        """Return whether the guest has not left yet."""
        return self.left_at is None


class AnyManager(UUIDIDMixin, BaseUserManager[Any, uuid.UUID]):
    """A user manager for any user class."""


@pytest.fixture
async def elsewhere(engine: AsyncEngine) -> AsyncIterator[AsyncSession]:
    """Open a session on the other applications' tables."""
    async with engine.begin() as connection:
        await connection.run_sync(Base.metadata.create_all)
    async with AsyncSession(engine) as session:
        yield session


# FastAPI-Users' own adapter


@pytest.mark.parametrize("database", [SQLAlchemyUserDatabase, UserDatabase])
async def test_the_usual_users_are_loaded_by_one_select(
    knox: Knox, engine: AsyncEngine, database: type[UserDatabase]
) -> None:
    """With FastAPI-Users' own adapter one SELECT loads the user into the session, and nothing else is sent."""
    vault = Vault(knox.user.id)

    with sent_to(engine) as statements:
        user = await vault.read(UserManager(database(knox.session, User)))

    assert user is knox.user
    assert verbs(statements) == ["SELECT"]


@pytest.mark.parametrize("database", [SQLAlchemyUserDatabase, UserDatabase])
async def test_the_select_is_built_once(knox: Knox, database: type[UserDatabase]) -> None:
    """Every request executes the same statement object, because building a statement is most of its cost."""
    vault = Vault(knox.user.id)
    executed = []
    event.listen(knox.session.sync_session, "do_orm_execute", lambda state: executed.append(state.statement))

    for _ in range(2):
        await vault.read(UserManager(database(knox.session, User)))

    assert len(executed) == 2
    assert executed[0] is executed[1]


async def test_nothing_is_flushed(knox: Knox, engine: AsyncEngine) -> None:
    """Loading the user does not flush what the application has added to the session."""
    pending = User(email="pending@example.org", hashed_password="hash")
    knox.session.add(pending)

    with sent_to(engine) as statements:
        user = await Vault(knox.user.id).read(knox.user_manager)

    assert user is knox.user
    assert verbs(statements) == ["SELECT"]
    assert pending in knox.session.new


async def test_the_row_decides_who_is_active(knox: Knox, engine: AsyncEngine) -> None:
    """The stored row decides whether the user is active, even if the session holds an older object."""
    vault = Vault(knox.user.id)

    await change_user(engine, knox.user, is_active=False)
    refused = await vault.read(knox.user_manager)
    stale = knox.user.is_active
    await change_user(engine, knox.user, is_active=True)

    assert (refused, stale) == (None, True)
    assert await vault.read(knox.user_manager) is knox.user


async def test_a_deleted_user_is_refused(knox: Knox, engine: AsyncEngine) -> None:
    """A deleted user is refused even if the session still holds the object."""
    async with engine.begin() as connection:
        await connection.execute(delete(User))

    assert await Vault(knox.user.id).read(knox.user_manager) is None


async def test_joined_accounts_make_no_second_user(elsewhere: AsyncSession) -> None:
    """A user whose rows are multiplied by an eager join is loaded once, with all accounts."""
    accounts = [Account(oauth_name=name, access_token="", account_id=name, account_email="") for name in ("a", "b")]
    member = Member(email="m@example.org", hashed_password="hash", is_active=True, accounts=accounts)
    elsewhere.add(member)
    await elsewhere.flush()
    vault = Vault(member.id)
    await elsewhere.commit()

    user = await vault.read(AnyManager(SQLAlchemyUserDatabase(elsewhere, Member)))

    assert user is member
    assert len(member.accounts) == 2


# any other way of loading users


@pytest.mark.parametrize(
    "make",
    [
        lambda session: HidingManager(UserDatabase(session, User)),
        lambda session: LaxManager(UserDatabase(session, User)),
        lambda session: UserManager(HidingDatabase(session, User)),
        lambda session: UserManager(HidingStatement(session, User)),
    ],
    ids=["manager", "lax manager", "database", "statement"],
)
async def test_overridden_loading_is_used(knox: Knox, make: Callable[[AsyncSession], UserManager]) -> None:
    """An application that overrides how users are loaded can hide a user from the strategy."""
    assert await Vault(knox.user.id).read(make(knox.session)) is None


@pytest.mark.parametrize("is_active", [True, False])
async def test_an_overridden_get_decides_who_is_active(
    knox: Knox, engine: AsyncEngine, elsewhere: AsyncSession, *, is_active: bool
) -> None:
    """A user loaded by an overridden `get` is active if the object it returns is."""
    await change_user(engine, knox.user, is_active=is_active)

    user = await Vault(knox.user.id).read(UserManager(OwnDatabase(elsewhere, User)))

    assert (user is not None) == is_active


@pytest.mark.parametrize("left_at", [None, datetime(2029, 1, 1)])  # noqa: DTZ001 (SQLite stores no time zone)
async def test_activity_may_be_worked_out_in_python(elsewhere: AsyncSession, left_at: datetime | None) -> None:
    """A user class without an `is_active` column is judged by its attribute."""
    guest = Guest(id=uuid.uuid4(), left_at=left_at)
    vault = Vault(guest.id)
    elsewhere.add(guest)
    await elsewhere.commit()

    user = await vault.read(AnyManager(SQLAlchemyUserDatabase(elsewhere, Guest)))

    assert (user is guest) == (left_at is None)


async def test_users_may_be_outside_of_sql(knox: Knox) -> None:
    """Users may come from any FastAPI-Users user database; inactive and unknown users are refused."""
    inactive = User(id=uuid.uuid4(), email="", hashed_password="", is_active=False)
    user_manager = UserManager(Directory(knox.user, inactive))

    users = [await Vault(user_id).read(user_manager) for user_id in (knox.user.id, inactive.id, uuid.uuid4())]

    assert users == [knox.user, None, None]


async def test_the_user_manager_parses_the_id(knox: Knox) -> None:
    """The user manager parses the id that the store returns, in any form in which the id is stored."""
    assert await Vault(f"user-{knox.user.id}").read(NamingManager(UserDatabase(knox.session, User))) is knox.user


@pytest.mark.parametrize("id", ["", "junk", "0" * 31])
async def test_an_invalid_id_is_refused(knox: Knox, engine: AsyncEngine, id: str) -> None:
    """A record whose user id the manager cannot parse authenticates nobody, and no statement is sent."""
    with sent_to(engine) as statements:
        user = await Vault(id).read(knox.user_manager)

    assert user is None
    assert statements == []


async def test_a_user_without_is_active_is_refused(knox: Knox) -> None:
    """A store that returns the user must also return `is_active`, because the object may be stale."""
    assert await Vault(knox.user.id, user=knox.user).read(knox.user_manager) is None
    assert await Vault(knox.user.id, user=knox.user, is_active=True).read(knox.user_manager) is knox.user


def test_users_outside_of_sql_need_no_sqlalchemy() -> None:
    """Users outside of SQL are loaded even where SQLAlchemy is not installed."""
    script = """
import sys
sys.modules["sqlalchemy"] = None  # This makes every import of it fail.

import asyncio
from types import SimpleNamespace
from fastapi_users import BaseUserManager, IntegerIDMixin
from fastapi_users.db import BaseUserDatabase
from fastapi_users_knox.users import load_user, users_of

class Directory(BaseUserDatabase):
    async def get(self, id):
        return SimpleNamespace(id=id, is_active=True)

class Manager(IntegerIDMixin, BaseUserManager):
    pass

user, is_active = asyncio.run(load_user(Manager(Directory()), "7"))
with users_of(Directory()).sharing_session():
    stored = asyncio.run(users_of(Directory()).stored(7))
print(user.id, is_active, stored["id"], stored["is_active"])
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)

    assert done.stdout.split() == ["7", "True", "7", "True"]
