"""What is not committed is not stored: a refused change ends nothing, and no revocation commits it."""

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
    """A user manager of an application that updates users by fields of its own."""

    async def change(self, user: User, fields: dict[str, Any]) -> User:
        """Update a user."""
        return await self._update(user, fields)


def raw(account: Account, **options: Any) -> Raw:
    """Make that user manager."""
    manager = account.manager(kind=Raw, **options)
    assert isinstance(manager, Raw)
    return manager


class RefusingLate(Manager):
    """A user manager that refuses a deletion which it has sent to the database."""

    async def delete(self, user: User, request: Request | None = None) -> None:  # noqa: ARG002
        """Delete a user, and think better of it."""
        assert isinstance(self.user_db, UserDatabase)
        await self.user_db.session.execute(delete(KnoxToken).where(KnoxToken.__table__.c.user_id == user.id))
        await self.user_db.session.delete(user)
        await self.user_db.session.flush()
        raise HTTPException(409)


class RefusingUpdate(UserDatabase):
    """Users whose update is refused when it was sent to the database."""

    async def update(self, user: User, update_dict: dict[str, Any]) -> User:
        """Send a change, and think better of it."""
        for name, value in update_dict.items():
            setattr(user, name, value)
        await self.session.flush()
        raise HTTPException(409)


class Deferring(UserDatabase):
    """Users whose changes are committed by the request, once it is over."""

    async def update(self, user: User, update_dict: dict[str, Any]) -> User:
        """Send a change."""
        for name, value in update_dict.items():
            setattr(user, name, value)
        await self.session.flush()
        return user

    async def delete(self, user: User) -> None:
        """Send a deletion."""
        await self.session.delete(user)
        await self.session.flush()


class DeferringAll(UserDatabase):
    """Users whose changes are not even sent before that."""

    async def update(self, user: User, update_dict: dict[str, Any]) -> User:
        """Take note of a change."""
        for name, value in update_dict.items():
            setattr(user, name, value)
        return user


@pytest.fixture
async def in_memory() -> AsyncIterator[Account]:
    """Give a user who is logged in, in a database that has one connection."""
    engine = create_async_engine("sqlite+aiosqlite://")
    await create_empty_tables(engine)
    async with AsyncSession(engine, expire_on_commit=False) as session:
        account = Account(app=App(session=session, store=store_on(session)), user=await create_user(session))
        await account.log_in()
        yield account
    await engine.dispose()


async def hash_of(session: AsyncSession, user_id: uuid.UUID) -> str:
    """Return the hash that is stored of a user's password."""
    found = await session.execute(select(USERS.hashed_password).where(USERS.id == user_id))
    return str(found.scalar_one())


@pytest.mark.parametrize("open_app", DATABASES, indirect=True)
async def test_a_deletion_that_is_refused_once_flushed_is_not_stored(account: Account, open_app: OpenApp) -> None:
    """An override that deletes, flushes and raises leaves the user, the tokens, and its own error."""
    with pytest.raises(HTTPException, match="409"):
        await account.manager(kind=RefusingLate).delete(account.user)
    email = account.user.email
    await account.app.session.commit()

    assert email
    assert await account.alive_later(open_app) == ALL
    assert account.told() == []


@pytest.mark.parametrize("open_app", DATABASES, indirect=True)
async def test_an_update_that_is_refused_once_flushed_is_not_stored(account: Account, open_app: OpenApp) -> None:
    """A user database that sets, flushes and raises leaves the password, the tokens, and its own error."""
    with pytest.raises(HTTPException, match="409"):
        await account.manager(users=RefusingUpdate).update(PASSWORD, account.user)
    hashed_password = account.user.hashed_password
    await account.app.session.commit()

    assert hashed_password == "hash"
    assert await account.alive_later(open_app) == ALL
    assert await hash_of(account.app.session, account.user_id) == "hash"


async def test_a_refused_change_leaves_the_callers_own_work(account: Account, open_app: OpenApp) -> None:
    """What the caller had sent before is still theirs to commit when they have handled the refusal."""
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
    """Where no second connection can see what is committed, nothing of the deletion stays, and the object is loaded."""
    with pytest.raises(HTTPException, match="409"):
        await in_memory.manager(kind=RefusingLate).delete(in_memory.user)

    assert in_memory.user.email
    assert await in_memory.alive() == ALL


async def test_a_refused_update_is_rolled_back_on_the_only_connection(in_memory: Account) -> None:
    """The same holds for an update."""
    with pytest.raises(HTTPException, match="409"):
        await in_memory.manager(users=RefusingUpdate).update(PASSWORD, in_memory.user)

    assert in_memory.user.email
    assert await in_memory.alive() == ALL
    assert await hash_of(in_memory.app.session, in_memory.user_id) == "hash"


class CommittingElsewhere(UserDatabase):
    """Users whose update another session stores, while this one's is refused."""

    async def update(self, user: User, update_dict: dict[str, Any]) -> User:
        """Store a change, and send another that is refused."""
        async with AsyncSession(self.session.bind) as other:
            await other.execute(update(User).where(USERS.id == user.id).values(**update_dict))
            await other.commit()
        user.email = "never@example.org"
        raise HTTPException(409)


async def test_a_revocation_commits_nothing_that_was_raised_out_of(account: Account, open_app: OpenApp) -> None:
    """Where a change is stored and its tokens end, what the session has besides is rolled back."""
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
    """Where the request would commit later, the change is committed first, on whichever session the tokens are."""
    async with open_app() as tokens:
        strategy: Strategy = KnoxStrategy(tokens.store, WEB, request=None, user_db=None, clock=lambda: NOW)
        await account.manager(strategy, users=users).update(PASSWORD, account.user)

    async with open_app() as app:
        assert await hash_of(app.session, account.user_id) != "hash"
    assert await account.alive_later(open_app) == []


@pytest.mark.parametrize("open_app", ["sqlite", "postgresql-asyncpg", "mariadb", "redis-7"], indirect=True)
async def test_a_deletion_that_returns_is_stored_along_with_its_revocation(account: Account, open_app: OpenApp) -> None:
    """The same holds for a deletion."""
    async with open_app() as tokens:
        strategy: Strategy = KnoxStrategy(tokens.store, WEB, request=None, user_db=None, clock=lambda: NOW)
        await account.manager(strategy, users=Deferring).delete(account.user)

    async with open_app() as app:
        assert (await app.session.execute(select(USERS.id))).all() == []
        assert await app.store.remove_all(account.user_id, audience=None, now=NOW) == []


async def test_a_change_that_cannot_be_committed_ends_nothing(account: Account, open_app: OpenApp) -> None:
    """The database refuses it when it is sent: its own error is raised, and the tokens stay."""
    change = {"password": "another password", "is_superuser": None}

    with pytest.raises(IntegrityError):
        await raw(account, users=DeferringAll).change(account.user, change)

    assert await account.alive_later(open_app) == ALL


@pytest.mark.parametrize("open_app", ["sqlite", "postgresql-asyncpg"], indirect=True)
async def test_a_store_inside_of_begin_is_refused_before_the_change(account: Account, open_app: OpenApp) -> None:
    """Tokens that could not be ended after the change keep it from being made, on whichever session they are."""
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
    """Nothing of the object is read that FastAPI-Users itself would not read."""
    account.app.session.expire(account.user)

    updated = await raw(account, presented="").change(account.user, change)

    assert updated is account.user
    assert await account.alive() == ([] if "is_verified" not in change else ALL)


class Elsewhere(UserDatabase):
    """Users of whom another session changes something while this one's update is refused."""

    async def update(self, user: User, update_dict: dict[str, Any]) -> User:  # noqa: ARG002
        """Store something else."""
        await verify_elsewhere(self.session, user)
        raise HTTPException(409)


class Late(Manager):
    """A user manager that refuses a deletion while another session changes something."""

    async def on_before_delete(self, user: User, request: Request | None = None) -> None:  # noqa: ARG002
        """Refuse."""
        assert isinstance(self.user_db, UserDatabase)
        await verify_elsewhere(self.user_db.session, user)
        raise HTTPException(409)


async def verify_elsewhere(session: AsyncSession, user: User) -> None:
    """Change a column that has nothing to do with tokens."""
    async with AsyncSession(session.bind) as other:
        await other.execute(update(User).where(USERS.id == user.id).values(is_verified=True))
        await other.commit()


async def test_what_another_session_changes_proves_nothing(account: Account, open_app: OpenApp) -> None:
    """A refused update or deletion ends nothing, whatever else of the user is stored at that moment."""
    with pytest.raises(HTTPException):
        await account.manager(users=Elsewhere).update(PASSWORD, account.user)
    await account.app.session.rollback()
    await account.app.session.refresh(account.user)
    with pytest.raises(HTTPException):
        await account.manager(kind=Late).delete(account.user)

    assert await account.alive_later(open_app) == ALL


class Relaxed(Manager):
    """A user manager whose deletions end nothing."""

    revoke_on_deletion = False

    async def delete(self, user: User, request: Request | None = None) -> None:
        """Run the hook of a deletion that never takes place."""
        await self.on_after_delete(user, request)


class Nesting(Manager):
    """A user manager that has another one delete, and then refuses."""

    async def on_before_delete(self, user: User, request: Request | None = None) -> None:  # noqa: ARG002
        """Refuse."""
        assert isinstance(self.user_db, UserDatabase)
        await Relaxed(self.user_db, self.password_helper, knox=self._knox).delete(user)
        raise HTTPException(409)


async def test_another_managers_deletion_is_its_own(account: Account) -> None:
    """The hook of one manager's deletion does not end the tokens of another's, which is then refused."""
    with pytest.raises(HTTPException):
        await account.manager(kind=Nesting).delete(account.user)

    assert await account.alive() == ALL


@pytest.mark.parametrize("users", [UserDatabase, Deferring, DeferringAll])
@pytest.mark.parametrize("inactive", [False, 0])
async def test_whatever_is_stored_as_inactive_is_a_deactivation(
    account: Account, open_app: OpenApp, users: type[UserDatabase], inactive: object
) -> None:
    """The activity that is stored decides, and not how the update spells it."""
    await raw(account, users=users).change(account.user, {"is_active": inactive})

    assert await account.alive_later(open_app) == []
    assert account.told() == ["deactivated"] * 3


class Indifferent(Raw):
    """A user manager to whom no update matters."""

    revoke_on_deactivation = False
    revoke_on_password_change = False


async def test_updates_may_end_nothing(account: Account, open_app: OpenApp) -> None:
    """With all switches off, an update is FastAPI-Users' own."""
    manager = account.manager(kind=Indifferent)
    assert isinstance(manager, Indifferent)

    await manager.change(account.user, {"is_active": False})

    assert await account.alive_later(open_app) == ALL
