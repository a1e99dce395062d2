"""A stored change revokes tokens, even if something raises afterwards; an unstored change revokes no tokens."""

import asyncio
import uuid
from contextlib import nullcontext
from typing import Any

import pytest
from fastapi.security import OAuth2PasswordRequestForm
from fastapi_users import BaseUserManager, IntegerIDMixin
from fastapi_users.schemas import BaseUserUpdate
from fastapi_users_db_sqlalchemy import SQLAlchemyUserDatabase
from pwdlib import PasswordHash
from pwdlib.hashers.argon2 import Argon2Hasher
from redis.asyncio import Redis
from sqlalchemy import text, update
from sqlalchemy.exc import IntegrityError, SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncSession, async_scoped_session, async_sessionmaker, create_async_engine

from fastapi_users_knox import KnoxStrategy, KnoxUserManagerMixin, StoreUnavailable, TokenRecord
from fastapi_users_knox.redis import RedisTokenStore
from tests.backends import NOW, OpenApp
from tests.manager.account import WEB, Account, Manager, Strategy, UserDatabase
from tests.models import User, create_user
from tests.redis.people import MemoryUserDatabase, Person
from tests.redis_servers import RedisServer
from tests.site import PASSWORDS

pytestmark = pytest.mark.anyio

ALL = ["laptop", "phone", "script"]
PASSWORD = BaseUserUpdate(password="another password")
INACTIVE = BaseUserUpdate(is_active=False)
OLD_HASH = PasswordHash((Argon2Hasher(time_cost=2, memory_cost=8, parallelism=1),)).hash("a password")
EMAIL = BaseUserUpdate(email="eve@example.org")


class Strict(Manager):
    """A user manager that revokes tokens when the e-mail address changes."""

    revoke_on_email_change = True


class FailingRefresh(UserDatabase):
    """A user database whose `update` fails after the commit, and leaves a failed transaction behind."""

    async def update(self, user: User, update_dict: dict[str, Any]) -> User:
        """Store the change, and fail in the database."""
        await super().update(user, update_dict)
        await self.session.execute(text("SELECT nothing FROM nowhere"))
        raise AssertionError


class LostAnswer(UserDatabase):
    """A user database whose connection breaks after the commit."""

    async def update(self, user: User, update_dict: dict[str, Any]) -> User:
        """Store the change, invalidate the connection, and use it again."""
        await super().update(user, update_dict)
        await (await self.session.connection()).invalidate()
        return await super().update(user, {})


class Indexing(UserDatabase):
    """A user database whose `update` stores the change and then raises, because its search index is unavailable."""

    async def update(self, user: User, update_dict: dict[str, Any]) -> User:
        """Store the change, and raise."""
        await super().update(user, update_dict)
        raise RuntimeError("the index is down")


class Blind(UserDatabase):
    """A user database that finds no address taken, as if another user registered it a moment later."""

    async def get_by_email(self, email: str) -> User | None:  # noqa: ARG002
        """Return no user."""
        return None


class Unreadable(UserDatabase):
    """A user database whose `update` stores the change and then loses the database, so nothing can be read."""

    async def update(self, user: User, update_dict: dict[str, Any]) -> User:
        """Store the change, lose the database, and raise."""
        await super().update(user, update_dict)
        self.session = AsyncSession(create_async_engine("postgresql+asyncpg://nobody@127.0.0.1:1/nowhere"))
        raise RuntimeError("the database is down")


class Refusing(UserDatabase):
    """A user database whose `update` changes the object but stores nothing."""

    async def update(self, user: User, update_dict: dict[str, Any]) -> User:
        """Change the object, and raise."""
        for field, value in update_dict.items():
            setattr(user, field, value)
        raise RuntimeError("not now")


class Changing(UserDatabase):
    """A user database whose `update` stores the change but does not change the object."""

    async def update(self, user: User, update_dict: dict[str, Any]) -> User:
        """Store the change, and raise."""
        await self.session.execute(update(User).where(User.__table__.c.id == user.id).values(**update_dict))
        await self.session.commit()
        raise RuntimeError("too late")


@pytest.mark.parametrize("users", [FailingRefresh, LostAnswer, Indexing])
@pytest.mark.parametrize(
    ("change", "alive"),
    [(PASSWORD, ["laptop"]), (INACTIVE, []), (EMAIL, ["laptop"])],
    ids=["password", "is_active", "email"],
)
async def test_what_is_stored_before_an_error_counts(
    account: Account, open_app: OpenApp, users: type[UserDatabase], change: BaseUserUpdate, alive: list[str]
) -> None:
    """A change that is committed revokes the tokens even if `update` raises, and the caller gets that error."""
    manager = account.manager(kind=Strict, users=users)

    with pytest.raises((SQLAlchemyError, RuntimeError)):
        await manager.update(change, account.user)

    assert await account.alive_later(open_app) == alive
    assert account.revoke_reasons() == [account.revoke_reasons()[0]] * (3 - len(alive))


async def test_a_reset_that_is_stored_before_an_error_counts(account: Account, open_app: OpenApp) -> None:
    """A reset that is committed revokes all tokens, even if `update` of the user database raises."""
    with pytest.raises(RuntimeError):
        await account.reset(account.manager(users=Indexing))

    assert await account.alive_later(open_app) == []
    assert account.revoke_reasons() == ["password_reset"] * 3


class Auditing(Manager):
    """A user manager whose override of `update` raises after the change is stored."""

    async def update(self, *args: Any, **kwargs: Any) -> User:
        """Store the change, and raise."""
        await super().update(*args, **kwargs)
        raise RuntimeError("the audit log is down")


class AuditingBelow(Manager):
    """A user manager whose override of `_update` raises after the change is stored."""

    async def _update(self, user: User, update_dict: dict[str, Any]) -> User:
        await super()._update(user, update_dict)
        raise RuntimeError("the audit log is down")


@pytest.mark.parametrize("kind", [Auditing, AuditingBelow])
async def test_an_override_that_raises_keeps_no_token(account: Account, kind: type[Manager]) -> None:
    """A new password revokes the tokens, even if the application's override raises afterwards."""
    with pytest.raises(RuntimeError):
        await account.manager(kind=kind).update(PASSWORD, account.user)

    assert await account.alive() == ["laptop"]


@pytest.mark.parametrize("open_app", ["sqlite", "postgresql-asyncpg", "mariadb", "redis-7"], indirect=True)
async def test_what_the_database_refuses_ends_nothing(account: Account, open_app: OpenApp) -> None:
    """An update that breaks a constraint revokes no token, and the database's own error is raised."""
    other = await create_user(account.app.session)
    both = BaseUserUpdate(password="another password", is_active=False, email=other.email)

    with pytest.raises(IntegrityError):
        await account.manager(kind=Strict, users=Blind).update(both, account.user)

    assert await account.alive_later(open_app) == ALL
    assert account.revoke_reasons() == []


async def test_the_object_alone_proves_nothing(account: Account, open_app: OpenApp) -> None:
    """What is stored decides, not the user object: it may be changed without being stored, or stored but unchanged."""
    with pytest.raises(RuntimeError):
        await account.manager(users=Refusing).update(PASSWORD, account.user)
    refused = await account.alive_later(open_app)
    await account.app.session.rollback()
    await account.app.session.refresh(account.user)

    account.user.is_active = False
    with pytest.raises(RuntimeError):
        await account.manager(users=Changing).update(INACTIVE, account.user)

    assert refused == ALL
    assert await account.alive_later(open_app) == []


async def test_what_cannot_be_read_ends_the_tokens(
    account: Account, open_app: OpenApp, caplog: pytest.LogCaptureFixture
) -> None:
    """If an update raises and the database cannot be read afterwards, the tokens are revoked, and the log says why."""
    with pytest.raises(RuntimeError, match="the database is down"):
        await account.manager(users=Unreadable).update(PASSWORD, account.user)

    assert await account.alive_later(open_app) == ["laptop"]
    assert f"Revoking the tokens of user {account.user_id}" in caplog.text


class Vanishing(KnoxStrategy[User, uuid.UUID]):
    """A strategy whose store fails only after the check before the change."""

    async def revoke_all(self, *_: Any, **__: Any) -> list[TokenRecord[uuid.UUID]]:
        """Raise as if the store were unavailable."""
        raise StoreUnavailable


class Broken(KnoxStrategy[User, uuid.UUID]):
    """A strategy whose store has a bug."""

    async def revoke_all(self, *_: Any, **__: Any) -> list[TokenRecord[uuid.UUID]]:
        """Raise an unexpected error."""
        raise KeyError("a mistake")


@pytest.mark.parametrize("kind", [Vanishing, Broken])
async def test_a_failed_revocation_is_an_error_in_the_log(
    account: Account, caplog: pytest.LogCaptureFixture, kind: type[Strategy]
) -> None:
    """If the revocation after a change fails, `StoreUnavailable` is raised, and the log has the user and the reason."""
    failing = kind(account.app.store, WEB, request=None, user_db=None, clock=lambda: NOW)

    with pytest.raises(StoreUnavailable):
        await account.manager(failing).update(INACTIVE, account.user)

    errors = [record.getMessage() for record in caplog.records if record.levelname == "ERROR"]
    assert len(errors) == 1
    assert f"Could not revoke the tokens of user {account.user_id} (deactivated)" in errors[0]


async def test_a_failed_revocation_hides_no_earlier_error(account: Account, caplog: pytest.LogCaptureFixture) -> None:
    """If the update has already raised, a failed revocation is only logged, and the caller gets the first error."""
    failing = Vanishing(account.app.store, WEB, request=None, user_db=None, clock=lambda: NOW)

    with pytest.raises(RuntimeError, match="the index is down"):
        await account.manager(failing, users=Indexing).update(PASSWORD, account.user)

    assert f"Could not revoke the tokens of user {account.user_id} (password_changed)" in caplog.text


async def test_a_users_own_hash_may_be_upgraded_at_login(account: Account) -> None:
    """A login that replaces an outdated password hash with a newer one revokes no token."""
    manager = account.manager()
    await manager.user_db.update(account.user, {"hashed_password": OLD_HASH})
    form = OAuth2PasswordRequestForm(username=account.user.email, password="a password")

    assert await manager.authenticate(form) is account.user
    assert account.user.hashed_password != OLD_HASH
    assert await account.alive() == ALL


async def test_sessions_may_be_scoped_by_the_task(account: Account, open_app: OpenApp) -> None:
    """A scoped session with the current task as its scope is still the request's own while the change is stored."""
    scoped: Any = async_scoped_session(async_sessionmaker(account.app.session.bind), scopefunc=asyncio.current_task)
    user = await scoped().get(User, account.user_id)
    manager = Manager(SQLAlchemyUserDatabase(scoped, User), PASSWORDS, knox=account.strategy())

    await manager.update(PASSWORD, user)
    await scoped.remove()

    assert await account.alive_later(open_app) == []
    assert not scoped.registry.has()


async def test_sessions_may_be_scoped_by_anything(account: Account, open_app: OpenApp) -> None:
    """A scoped session with a scope other than the task works too, and is not removed."""
    scoped: Any = async_scoped_session(async_sessionmaker(account.app.session.bind), scopefunc=lambda: "request")
    user = await scoped().get(User, account.user_id)
    manager = Manager(SQLAlchemyUserDatabase(scoped, User), PASSWORDS, knox=account.strategy())

    await manager.update(PASSWORD, user)

    assert scoped.registry.has()
    await scoped.remove()
    assert await account.alive_later(open_app) == []


@pytest.mark.parametrize("fails", [True, False])
async def test_users_need_no_sqlalchemy(redis_7_server: RedisServer, *, fails: bool) -> None:
    """Users outside of SQLAlchemy are read through their adapter, and a new password revokes their tokens."""
    kind: type[MemoryUserDatabase[int]] = FailingPeople if fails else MemoryUserDatabase
    users = kind(make_id=iter(range(1, 9)).__next__)
    person = await users.create({"email": "ada@example.org"})
    async with Redis.from_url(redis_7_server.url()) as redis:
        strategy = KnoxStrategy[Person[int], int](
            RedisTokenStore(redis, parse_id=int, users="person"), request=None, user_db=None
        )
        token = await strategy.issue(person)
        with pytest.raises(RuntimeError) if fails else nullcontext():
            await PeopleManager(users, PASSWORDS, knox=strategy).update(PASSWORD, person)

        assert await strategy.read_record(token) is None


class FailingPeople(MemoryUserDatabase[int]):
    """A user database without SQLAlchemy whose `update` raises after the change is stored."""

    async def update(self, user: Person[int], update_dict: dict[str, Any]) -> Person[int]:
        """Store the change, and raise."""
        await super().update(user, update_dict)
        raise RuntimeError("the index is down")


class PeopleManager(KnoxUserManagerMixin[Person[int], int], IntegerIDMixin, BaseUserManager[Person[int], int]):
    """A user manager of users without SQLAlchemy."""
