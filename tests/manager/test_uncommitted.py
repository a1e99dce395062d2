"""A change that is refused before its commit revokes no token, and no revocation commits it by accident."""

import uuid
from collections.abc import AsyncIterator
from typing import Any

import pytest
from fastapi import HTTPException, Request
from fastapi_users.schemas import BaseUserUpdate
from sqlalchemy import delete, select, update
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncSession, create_async_engine

from fastapi_users_knox import KnoxError, KnoxStrategy
from tests.backends import NOW, App, OpenApp
from tests.manager.account import WEB, Account, Manager, Strategy, UserDatabase
from tests.models import KnoxToken, User, create_empty_tables, create_user, store_on

pytestmark = pytest.mark.anyio

ALL = ["laptop", "phone", "script"]
DATABASES = ["sqlite", "postgresql-asyncpg", "mariadb", "mariadb-serializable", "redis-7"]
PASSWORD = BaseUserUpdate(password="another password")
USERS = User.__table__.c


class Raw(Manager):
    """A user manager that lets the test update any fields."""

    async def change(self, user: User, fields: dict[str, Any]) -> User:
        """Update fields of a user."""
        return await self._update(user, fields)


def raw(account: Account, **options: Any) -> Raw:
    """Return a user manager that lets the test update any fields."""
    manager = account.manager(kind=Raw, **options)
    assert isinstance(manager, Raw)
    return manager


class RefusingLate(Manager):
    """A user manager that flushes a deletion to the database and then refuses it."""

    async def delete(self, user: User, request: Request | None = None) -> None:  # noqa: ARG002
        """Delete the user, flush, and raise."""
        assert isinstance(self.user_db, UserDatabase)
        await self.user_db.session.execute(delete(KnoxToken).where(KnoxToken.__table__.c.user_id == user.id))
        await self.user_db.session.delete(user)
        await self.user_db.session.flush()
        raise HTTPException(409)


class RefusingUpdate(UserDatabase):
    """A user database that flushes an update to the database and then refuses it."""

    async def update(self, user: User, update_dict: dict[str, Any]) -> User:
        """Flush the change, and raise."""
        for name, value in update_dict.items():
            setattr(user, name, value)
        await self.session.flush()
        raise HTTPException(409)


class Deferring(UserDatabase):
    """A user database that flushes changes and leaves the commit to the end of the request."""

    async def update(self, user: User, update_dict: dict[str, Any]) -> User:
        """Flush the change."""
        for name, value in update_dict.items():
            setattr(user, name, value)
        await self.session.flush()
        return user

    async def delete(self, user: User) -> None:
        """Flush the deletion."""
        await self.session.delete(user)
        await self.session.flush()


class DeferringAll(UserDatabase):
    """A user database that only changes the object, and leaves the flush and the commit to the end of the request."""

    async def update(self, user: User, update_dict: dict[str, Any]) -> User:
        """Change the object."""
        for name, value in update_dict.items():
            setattr(user, name, value)
        return user


@pytest.fixture
async def in_memory() -> AsyncIterator[Account]:
    """Return a user who is logged in, in a database that has only one connection."""
    engine = create_async_engine("sqlite+aiosqlite://")
    await create_empty_tables(engine)
    async with AsyncSession(engine, expire_on_commit=False) as session:
        account = Account(app=App(session=session, store=store_on(session)), user=await create_user(session))
        await account.log_in()
        yield account
    await engine.dispose()


async def hash_of(session: AsyncSession, user_id: uuid.UUID) -> str:
    """Return the password hash that is stored for a user."""
    found = await session.execute(select(USERS.hashed_password).where(USERS.id == user_id))
    return str(found.scalar_one())


@pytest.mark.parametrize("open_app", DATABASES, indirect=True)
async def test_a_deletion_that_is_refused_once_flushed_is_not_stored(account: Account, open_app: OpenApp) -> None:
    """An override that deletes, flushes and raises leaves the user and the tokens; its own error is raised."""
    with pytest.raises(HTTPException, match="409"):
        await account.manager(kind=RefusingLate).delete(account.user)
    email = account.user.email
    await account.app.session.commit()

    assert email
    assert await account.alive_later(open_app) == ALL
    assert account.revoke_reasons() == []


@pytest.mark.parametrize("open_app", DATABASES, indirect=True)
async def test_an_update_that_is_refused_once_flushed_is_not_stored(account: Account, open_app: OpenApp) -> None:
    """A user database that sets, flushes and raises leaves the password and the tokens; its own error is raised."""
    with pytest.raises(HTTPException, match="409"):
        await account.manager(users=RefusingUpdate).update(PASSWORD, account.user)
    hashed_password = account.user.hashed_password
    await account.app.session.commit()

    assert hashed_password == "hash"
    assert await account.alive_later(open_app) == ALL
    assert await hash_of(account.app.session, account.user_id) == "hash"


async def test_a_refused_change_leaves_the_callers_own_work(account: Account, open_app: OpenApp) -> None:
    """After a refused change, the caller can still commit its earlier flushed changes."""
    session = account.app.session
    session.add(User(email="newcomer@example.org", hashed_password="hash"))
    await session.flush()
    manager = account.manager()
    manager.refuses_deletion = True
    with pytest.raises(HTTPException, match="409"):
        await manager.delete(account.user)
    await session.commit()

    async with open_app() as app:
        emails = (await app.session.execute(select(USERS.email))).scalars().all()
    assert "newcomer@example.org" in emails
    assert await account.alive_later(open_app) == ALL


async def test_a_refused_deletion_is_rolled_back_on_the_only_connection(in_memory: Account) -> None:
    """A refused deletion is rolled back even if no second connection can check it, and the user object is usable."""
    with pytest.raises(HTTPException, match="409"):
        await in_memory.manager(kind=RefusingLate).delete(in_memory.user)

    assert in_memory.user.email
    assert await in_memory.alive() == ALL


async def test_a_refused_update_is_rolled_back_on_the_only_connection(in_memory: Account) -> None:
    """A refused update is rolled back even if no second connection can check it, and the user object is usable."""
    with pytest.raises(HTTPException, match="409"):
        await in_memory.manager(users=RefusingUpdate).update(PASSWORD, in_memory.user)

    assert in_memory.user.email
    assert await in_memory.alive() == ALL
    assert await hash_of(in_memory.app.session, in_memory.user_id) == "hash"


class CommittingElsewhere(UserDatabase):
    """A user database whose update is stored by another session, while its own session is refused."""

    async def update(self, user: User, update_dict: dict[str, Any]) -> User:
        """Store the change in another session, change something else in this one, and raise."""
        async with AsyncSession(self.session.bind) as other:
            await other.execute(update(User).where(USERS.id == user.id).values(**update_dict))
            await other.commit()
        user.email = "never@example.org"
        raise HTTPException(409)


async def test_a_revocation_commits_nothing_that_was_raised_out_of(account: Account, open_app: OpenApp) -> None:
    """If an update has raised but is stored, its tokens are revoked, and other pending changes are rolled back."""
    with pytest.raises(HTTPException, match="409"):
        await account.manager(users=CommittingElsewhere).update(PASSWORD, account.user)
    await account.app.session.commit()

    assert await account.alive_later(open_app) == ["laptop"]
    async with open_app() as app:
        assert "never@example.org" not in (await app.session.execute(select(USERS.email))).scalars().all()


@pytest.mark.parametrize("open_app", ["sqlite", "postgresql-asyncpg", "mariadb", "redis-7"], indirect=True)
@pytest.mark.parametrize("users", [Deferring, DeferringAll])
async def test_a_change_that_returns_is_stored_along_with_its_revocation(
    account: Account, open_app: OpenApp, users: type[UserDatabase]
) -> None:
    """A change that the request would commit later is committed before its tokens are revoked in another session."""
    async with open_app() as tokens:
        strategy: Strategy = KnoxStrategy(tokens.store, WEB, request=None, user_db=None, clock=lambda: NOW)
        await account.manager(strategy, users=users).update(PASSWORD, account.user)

    async with open_app() as app:
        assert await hash_of(app.session, account.user_id) != "hash"
    assert await account.alive_later(open_app) == []


@pytest.mark.parametrize("open_app", ["sqlite", "postgresql-asyncpg", "mariadb", "redis-7"], indirect=True)
async def test_a_deletion_that_returns_is_stored_along_with_its_revocation(account: Account, open_app: OpenApp) -> None:
    """A deletion that the request would commit later is committed before its tokens are revoked in another session."""
    async with open_app() as tokens:
        strategy: Strategy = KnoxStrategy(tokens.store, WEB, request=None, user_db=None, clock=lambda: NOW)
        await account.manager(strategy, users=Deferring).delete(account.user)

    async with open_app() as app:
        assert (await app.session.execute(select(USERS.id))).all() == []
        assert await app.store.remove_all(account.user_id, audience=None, now=NOW) == []


async def test_a_change_that_cannot_be_committed_ends_nothing(account: Account, open_app: OpenApp) -> None:
    """A change that the database refuses at the flush raises the database's own error and revokes no token."""
    change = {"password": "another password", "is_superuser": None}

    with pytest.raises(IntegrityError):
        await raw(account, users=DeferringAll).change(account.user, change)

    assert await account.alive_later(open_app) == ALL


@pytest.mark.parametrize("open_app", ["sqlite", "postgresql-asyncpg"], indirect=True)
async def test_a_store_inside_of_begin_is_refused_before_the_change(account: Account, open_app: OpenApp) -> None:
    """If the session of the token store is inside `begin()`, a change of the user is refused before it is made."""
    async with open_app() as tokens, tokens.session.begin():
        strategy: Strategy = KnoxStrategy(tokens.store, WEB, request=None, user_db=None, clock=lambda: NOW)
        with pytest.raises(KnoxError, match="begin"):
            await account.manager(strategy).update(PASSWORD, account.user)
        with pytest.raises(KnoxError, match="begin"):
            await account.manager(strategy).delete(account.user)

    assert await hash_of(account.app.session, account.user_id) == "hash"
    assert await account.alive_later(open_app) == ALL


@pytest.mark.parametrize("change", [{"is_verified": True}, {"password": "another password"}, {"is_active": False}])
async def test_an_expired_user_can_be_updated(account: Account, change: dict[str, Any]) -> None:
    """An update reads no expired attribute of the user object that FastAPI-Users itself would not read."""
    account.app.session.expire(account.user)

    updated = await raw(account, presented="").change(account.user, change)

    assert updated is account.user
    assert await account.alive() == ([] if "is_verified" not in change else ALL)


class Elsewhere(UserDatabase):
    """A user database that refuses an update while another session changes another column."""

    async def update(self, user: User, update_dict: dict[str, Any]) -> User:  # noqa: ARG002
        """Store a change of another column in another session, and raise."""
        await verify_elsewhere(self.session, user)
        raise HTTPException(409)


class Late(Manager):
    """A user manager that refuses a deletion while another session changes a column of the user."""

    async def on_before_delete(self, user: User, request: Request | None = None) -> None:  # noqa: ARG002
        """Store a change of another column in another session, and refuse."""
        assert isinstance(self.user_db, UserDatabase)
        await verify_elsewhere(self.user_db.session, user)
        raise HTTPException(409)


async def verify_elsewhere(session: AsyncSession, user: User) -> None:
    """Change `is_verified`, which does not concern tokens, in another session."""
    async with AsyncSession(session.bind) as other:
        await other.execute(update(User).where(USERS.id == user.id).values(is_verified=True))
        await other.commit()


async def test_what_another_session_changes_proves_nothing(account: Account, open_app: OpenApp) -> None:
    """A refused update or deletion revokes no token, even if another session changes the user at that moment."""
    with pytest.raises(HTTPException):
        await account.manager(users=Elsewhere).update(PASSWORD, account.user)
    await account.app.session.rollback()
    await account.app.session.refresh(account.user)
    with pytest.raises(HTTPException):
        await account.manager(kind=Late).delete(account.user)

    assert await account.alive_later(open_app) == ALL


class Relaxed(Manager):
    """A user manager whose deletions revoke no tokens."""

    revoke_on_deletion = False

    async def delete(self, user: User, request: Request | None = None) -> None:
        """Run the hook after a deletion, without deleting the user."""
        await self.on_after_delete(user, request)


class Nesting(Manager):
    """A user manager whose hook lets another manager delete the user, and then refuses the deletion."""

    async def on_before_delete(self, user: User, request: Request | None = None) -> None:  # noqa: ARG002
        """Delete by another manager, and refuse."""
        assert isinstance(self.user_db, UserDatabase)
        await Relaxed(self.user_db, self.password_helper, knox=self._knox).delete(user)
        raise HTTPException(409)


async def test_another_managers_deletion_is_its_own(account: Account) -> None:
    """The hook of another manager's deletion does not revoke tokens for this manager's deletion, which is refused."""
    with pytest.raises(HTTPException):
        await account.manager(kind=Nesting).delete(account.user)

    assert await account.alive() == ALL


@pytest.mark.parametrize("users", [UserDatabase, Deferring, DeferringAll])
@pytest.mark.parametrize("inactive", [False, 0])
async def test_whatever_is_stored_as_inactive_is_a_deactivation(
    account: Account, open_app: OpenApp, users: type[UserDatabase], inactive: object
) -> None:
    """An update revokes the tokens if it leaves the user inactive in the database, whatever false value it passes."""
    await raw(account, users=users).change(account.user, {"is_active": inactive})

    assert await account.alive_later(open_app) == []
    assert account.revoke_reasons() == ["deactivated"] * 3


class Indifferent(Raw):
    """A user manager whose updates revoke no tokens."""

    revoke_on_deactivation = False
    revoke_on_password_change = False


async def test_updates_may_end_nothing(account: Account, open_app: OpenApp) -> None:
    """With the switches for updates off, a deactivation revokes no token."""
    manager = account.manager(kind=Indifferent)
    assert isinstance(manager, Indifferent)

    await manager.change(account.user, {"is_active": False})

    assert await account.alive_later(open_app) == ALL
