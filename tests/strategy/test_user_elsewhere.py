"""Users whom the token store cannot see: one SELECT by FastAPI-Users' SQL adapter, `get` by any other."""

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
    """A third-party token store with one token, which knows nothing about users but their ids as text."""

    sees_users = True

    def __init__(self, user_id: object, **found: Any) -> None:
        self.token = tokens.generate(tokens.routing_tag(user_id), prefix="knox_")
        self.record: TokenRecord[Any] = TokenRecord(
            id=uuid.uuid4(), user_id=str(user_id), audience="", created_at=NOW, expires_at=NOW + HOUR
        )
        self.found = found

    async def get(self, token: PresentedToken, **_options: object) -> Found[Any, Any] | None:
        """Find the token."""
        kept = tokens.digest(self.token)
        return Found(record=self.record, digest=kept, **self.found) if kept in token.digests else None

    async def read(self, user_manager: BaseUserManager[Any, uuid.UUID]) -> object | None:
        """Present the token to a strategy over this store."""
        store = cast("TokenStore[Any, uuid.UUID]", self)
        return await KnoxStrategy(store, DEFAULTS, clock=lambda: NOW, request=None).read_token(self.token, user_manager)


class UserDatabase(SQLAlchemyUserDatabase[User, uuid.UUID]):
    """FastAPI-Users' adapter, typed."""


class HidingManager(UserManager):
    """A user manager that shows nobody."""

    async def get(self, id: uuid.UUID) -> User:
        """Hide."""
        raise UserNotExists from LookupError(id)


class LaxManager(UserManager):
    """A user manager that returns nobody, instead of raising as it should."""

    async def get(self, id: uuid.UUID) -> Any:
        """Return what there is, nothing."""


class NamingManager(UserManager):
    """A user manager with ids of its own make."""

    def parse_id(self, value: Any) -> uuid.UUID:
        """Take the id out of its name."""
        return super().parse_id(value.removeprefix("user-"))


class HidingDatabase(UserDatabase):
    """A user database that shows nobody by id."""

    async def get(self, id: uuid.UUID) -> User | None:
        """Hide."""


class HidingStatement(UserDatabase):
    """A user database that shows nobody by any statement."""

    async def _get_user(self, statement: Select[Any]) -> User | None:
        """Hide."""


class OwnDatabase(UserDatabase):
    """A user database that loads users in its own way."""

    async def get(self, id: uuid.UUID) -> User | None:
        """Load a user."""
        return await super().get(id)


class Directory(BaseUserDatabase[User, uuid.UUID]):
    """Users that are kept outside of any SQL."""

    def __init__(self, *users: User) -> None:
        self.users = {user.id: user for user in users}

    async def get(self, id: uuid.UUID) -> User | None:
        """Look a user up."""
        return self.users.get(id)


class Base(DeclarativeBase):
    """The metadata of other applications."""


class Member(SQLAlchemyBaseUserTableUUID, Base):
    """A user who is loaded together with accounts elsewhere, as FastAPI-Users' documentation has it."""

    __tablename__ = "member"
    accounts: Mapped[list["Account"]] = relationship(lazy="joined")


class Account(SQLAlchemyBaseOAuthAccountTableUUID, Base):
    """An account elsewhere."""

    @declared_attr
    def user_id(cls) -> Mapped[uuid.UUID]:
        """Refer to the member."""
        return mapped_column(GUID, ForeignKey("member.id"))


class Guest(Base):
    """A user class that computes in Python whether the user is active."""

    __tablename__ = "guest"
    id: Mapped[uuid.UUID] = mapped_column(GUID, primary_key=True)
    left_at: Mapped[datetime | None]

    @property
    def is_active(self) -> bool:
        """Tell whether the guest is still here."""
        return self.left_at is None


class AnyManager(UUIDIDMixin, BaseUserManager[Any, uuid.UUID]):
    """A user manager of any users."""


@pytest.fixture
async def elsewhere(engine: AsyncEngine) -> AsyncIterator[AsyncSession]:
    """Give a session of another application."""
    async with engine.begin() as connection:
        await connection.run_sync(Base.metadata.create_all)
    async with AsyncSession(engine) as session:
        yield session


# FastAPI-Users' own adapter


@pytest.mark.parametrize("database", [SQLAlchemyUserDatabase, UserDatabase])
async def test_the_usual_users_are_loaded_by_one_select(
    knox: Knox, engine: AsyncEngine, database: type[UserDatabase]
) -> None:
    """The user is the session's, and nothing else is sent."""
    vault = Vault(knox.user.id)

    with sent_to(engine) as statements:
        user = await vault.read(UserManager(database(knox.session, User)))

    assert user is knox.user
    assert verbs(statements) == ["SELECT"]


@pytest.mark.parametrize("database", [SQLAlchemyUserDatabase, UserDatabase])
async def test_the_select_is_built_once(knox: Knox, database: type[UserDatabase]) -> None:
    """Any number of requests send the very same statement, as building it is most of its cost."""
    vault = Vault(knox.user.id)
    executed = []
    event.listen(knox.session.sync_session, "do_orm_execute", lambda state: executed.append(state.statement))

    for _ in range(2):
        await vault.read(UserManager(database(knox.session, User)))

    assert len(executed) == 2
    assert executed[0] is executed[1]


async def test_nothing_is_flushed(knox: Knox, engine: AsyncEngine) -> None:
    """What the application has not yet written stays unwritten at a read."""
    pending = User(email="pending@example.org", hashed_password="hash")
    knox.session.add(pending)

    with sent_to(engine) as statements:
        user = await Vault(knox.user.id).read(knox.user_manager)

    assert user is knox.user
    assert verbs(statements) == ["SELECT"]
    assert pending in knox.session.new


async def test_the_row_decides_who_is_active(knox: Knox, engine: AsyncEngine) -> None:
    """Whatever the object says that the session already has: an inactive user is refused, and again let in."""
    vault = Vault(knox.user.id)

    await change_user(engine, knox.user, is_active=False)
    refused = await vault.read(knox.user_manager)
    stale = knox.user.is_active
    await change_user(engine, knox.user, is_active=True)

    assert (refused, stale) == (None, True)
    assert await vault.read(knox.user_manager) is knox.user


async def test_a_deleted_user_is_refused(knox: Knox, engine: AsyncEngine) -> None:
    """Also where the session has the user still."""
    async with engine.begin() as connection:
        await connection.execute(delete(User))

    assert await Vault(knox.user.id).read(knox.user_manager) is None


async def test_joined_accounts_make_no_second_user(elsewhere: AsyncSession) -> None:
    """A user whom an eager join repeats is loaded once, with all of it."""
    accounts = [Account(oauth_name=name, access_token="", account_id=name, account_email="") for name in ("a", "b")]
    member = Member(email="m@example.org", hashed_password="hash", is_active=True, accounts=accounts)
    elsewhere.add(member)
    await elsewhere.flush()
    vault = Vault(member.id)
    await elsewhere.commit()

    user = await vault.read(AnyManager(SQLAlchemyUserDatabase(elsewhere, Member)))

    assert user is member
    assert len(member.accounts) == 2


# any other way


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
async def test_whoever_hides_users_hides_them_here(knox: Knox, make: Callable[[AsyncSession], UserManager]) -> None:
    """Where the loading of users is overridden, that way is gone, and it may find nobody."""
    assert await Vault(knox.user.id).read(make(knox.session)) is None


@pytest.mark.parametrize("is_active", [True, False])
async def test_an_own_way_tells_who_is_active(
    knox: Knox, engine: AsyncEngine, elsewhere: AsyncSession, *, is_active: bool
) -> None:
    """A user who is loaded in a way of the application's own is judged as loaded."""
    await change_user(engine, knox.user, is_active=is_active)

    user = await Vault(knox.user.id).read(UserManager(OwnDatabase(elsewhere, User)))

    assert (user is not None) == is_active


@pytest.mark.parametrize("left_at", [None, datetime(2029, 1, 1)])  # noqa: DTZ001 (as SQLite keeps it)
async def test_activity_may_be_worked_out_in_python(elsewhere: AsyncSession, left_at: datetime | None) -> None:
    """A user class without such a column is loaded as usual, and its attribute decides."""
    guest = Guest(id=uuid.uuid4(), left_at=left_at)
    vault = Vault(guest.id)
    elsewhere.add(guest)
    await elsewhere.commit()

    user = await vault.read(AnyManager(SQLAlchemyUserDatabase(elsewhere, Guest)))

    assert (user is guest) == (left_at is None)


async def test_users_may_be_outside_of_sql(knox: Knox) -> None:
    """Any FastAPI-Users user database will do; who is inactive in it, or is not, is refused."""
    inactive = User(id=uuid.uuid4(), email="", hashed_password="", is_active=False)
    user_manager = UserManager(Directory(knox.user, inactive))

    users = [await Vault(user_id).read(user_manager) for user_id in (knox.user.id, inactive.id, uuid.uuid4())]

    assert users == [knox.user, None, None]


async def test_the_user_manager_makes_the_id(knox: Knox) -> None:
    """The user manager parses the id, in whatever form the store keeps it."""
    assert await Vault(f"user-{knox.user.id}").read(NamingManager(UserDatabase(knox.session, User))) is knox.user


@pytest.mark.parametrize("id", ["", "junk", "0" * 31])
async def test_an_id_that_is_none_is_refused(knox: Knox, engine: AsyncEngine, id: str) -> None:
    """A record with a user id that the manager does not accept authenticates nobody, and no statement is sent."""
    with sent_to(engine) as statements:
        user = await Vault(id).read(knox.user_manager)

    assert user is None
    assert statements == []


async def test_a_user_without_word_of_activity_is_refused(knox: Knox) -> None:
    """A store that returns the user must also return whether the row is active, because the object may be stale."""
    assert await Vault(knox.user.id, user=knox.user).read(knox.user_manager) is None
    assert await Vault(knox.user.id, user=knox.user, is_active=True).read(knox.user_manager) is knox.user


@pytest.mark.unmeasured
def test_users_outside_of_sql_need_no_sqlalchemy() -> None:
    """Where SQLAlchemy is not installed, users are loaded all the same."""
    script = """
import sys
sys.modules["sqlalchemy"] = None  # What makes each import of it fail.

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
