"""Deletions of every kind end the user's tokens, before a hook runs; one that is refused ends none."""

import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from fastapi import HTTPException, Request
from fastapi_users import BaseUserManager, UUIDIDMixin
from sqlalchemy import Column, ForeignKey, MetaData, Table, insert, select, text
from sqlalchemy.exc import IntegrityError, SQLAlchemyError

from fastapi_users_knox import KnoxStrategy, KnoxUserManagerMixin, StoreUnavailable, TokenRecord
from tests.backends import NOW, OpenApp
from tests.manager.account import API, SECRET, WEB, Account, Manager, UserDatabase
from tests.models import User, create_user

pytestmark = pytest.mark.anyio

ALL = ["laptop", "phone", "script"]


class Soft(Manager):
    """A user manager that keeps deleted users, active ones, under another address."""

    async def delete(self, user: User, request: Request | None = None) -> None:
        """Delete a user softly."""
        await self.on_before_delete(user, request)
        await self.user_db.update(user, {"email": f"{user.id}@deleted.example.org"})
        await self.on_after_delete(user, request)


class SoftByUpdate(Manager):
    """One that deletes by an update of its own."""

    async def delete(self, user: User, request: Request | None = None) -> None:  # noqa: ARG002
        """Delete a user softly."""
        await self._update(user, {"is_verified": True})


class SoftBase(BaseUserManager[User, uuid.UUID]):
    """A soft deletion in an application's own base class."""

    reset_password_token_secret = SECRET
    verification_token_secret = SECRET

    async def delete(self, user: User, request: Request | None = None) -> None:  # noqa: ARG002
        """Delete a user softly."""
        await self.user_db.update(user, {"is_verified": True})


class SoftAfter(KnoxUserManagerMixin[User, uuid.UUID], UUIDIDMixin, SoftBase):
    """That base class after the mixin."""


class SoftBefore(UUIDIDMixin, SoftBase, KnoxUserManagerMixin[User, uuid.UUID]):
    """That base class before the mixin."""


class SoftInherited(Soft):
    """A class below that overrides nothing."""


class SoftOverridden(Soft):
    """A class below that overrides it once more, with an argument of its own."""

    async def delete(self, user: User, request: Request | None = None, *, why: str = "") -> None:  # noqa: ARG002
        """Delete a user softly."""
        await super().delete(user, request)


KINDS: list[Any] = [Soft, SoftByUpdate, SoftAfter, SoftBefore, SoftInherited, SoftOverridden]


@pytest.mark.parametrize("kind", KINDS)
async def test_a_soft_deletion_ends_all(account: Account, kind: Any) -> None:
    """Whichever class deletes softly, and in whichever way: once it has returned, all tokens have ended."""
    await account.manager(account.strategy(WEB), account.strategy(API), kind=kind).delete(account.user)

    assert await account.alive() == []
    assert account.told() == ["deleted"] * 3


@pytest.mark.parametrize("kind", [Soft, SoftOverridden])
async def test_a_soft_deletion_that_a_hook_refuses_ends_nothing(account: Account, kind: type[Manager]) -> None:
    """Nothing was stored, so the user stays logged in."""
    manager = account.manager(kind=kind)
    manager.refuses_deletion = True

    with pytest.raises(HTTPException):
        await manager.delete(account.user)

    assert await account.alive() == ALL


@pytest.mark.parametrize("kind", [Soft, SoftOverridden])
async def test_a_soft_deletion_that_raises_once_it_is_stored_ends_all(account: Account, kind: type[Manager]) -> None:
    """What was stored decides, whatever raises afterwards."""
    manager = account.manager(kind=kind)
    manager.fails_afterwards = True

    with pytest.raises(RuntimeError):
        await manager.delete(account.user)

    assert await account.alive() == []
    assert account.told() == ["deleted"] * 3


class Relaxed(Soft):
    """A user manager whose deletions end nothing."""

    revoke_on_deletion = False


async def test_a_soft_deletion_can_be_told_to_end_nothing(account: Account) -> None:
    """The switch holds for overrides too."""
    await account.manager(kind=Relaxed).delete(account.user)

    assert await account.alive() == ALL


class Reusing(Manager):
    """A user manager during whose hook somebody registers, is given the same id, and logs in."""

    account: Account
    new_token: str
    alive_in_hook: list[str]

    async def on_after_delete(self, user: User, request: Request | None = None) -> None:  # noqa: ARG002
        """Register somebody."""
        session, user_id = self.account.app.session, self.account.user_id
        newcomer = User(id=user_id, email="newcomer@example.org", hashed_password="hash")
        session.add(newcomer)
        await session.commit()
        self.alive_in_hook = await self.account.alive()
        self.new_token = await self.account.strategy().issue(newcomer)


class ReusingBelow(Reusing):
    """The same, with a deletion that calls `super()`."""

    async def delete(self, user: User, request: Request | None = None) -> None:
        """Delete a user."""
        await super().delete(user, request)


@pytest.mark.parametrize("kind", [Reusing, ReusingBelow])
async def test_nobody_inherits_tokens_with_an_id(account: Account, kind: type[Reusing]) -> None:
    """Whoever is given the id of a deleted user has none of their tokens, not for a moment, and keeps their own."""
    manager = account.manager(account.strategy(WEB), account.strategy(API), kind=kind)
    assert isinstance(manager, Reusing)
    manager.account = account

    await manager.delete(account.user)

    assert manager.alive_in_hook == []
    assert await account.alive() == []
    assert await account.strategy().read_token(manager.new_token, manager) is not None
    assert account.told() == ["deleted"] * 3


class FailingInDatabase(Manager):
    """A user manager whose hook leaves the session's transaction failed."""

    async def on_after_delete(self, user: User, request: Request | None = None) -> None:  # noqa: ARG002
        """Break a constraint."""
        assert isinstance(self.user_db, UserDatabase)
        self.user_db.session.add(User(email=None))
        await self.user_db.session.commit()


async def test_a_hook_that_fails_in_the_database_keeps_no_token(account: Account, open_app: OpenApp) -> None:
    """The tokens have ended before the hook, and its error stays as it is."""
    with pytest.raises(IntegrityError):
        await account.manager(kind=FailingInDatabase).delete(account.user)

    async with open_app() as app:
        assert await app.store.remove_all(account.user_id, audience=None, now=NOW) == []


class FailingAfter(UserDatabase):
    """Users whose deletion raises once it is stored."""

    async def delete(self, user: User) -> None:
        """Delete a user."""
        await super().delete(user)
        await self.session.execute(text("SELECT nothing FROM nowhere"))


async def test_a_deletion_that_raises_once_it_is_stored_ends_all(account: Account, open_app: OpenApp) -> None:
    """The user is gone, so the tokens are."""
    manager = account.manager(account.strategy(WEB), account.strategy(API), users=FailingAfter)

    with pytest.raises(SQLAlchemyError):
        await manager.delete(account.user)

    assert account.told() == ["deleted"] * 3
    async with open_app() as app:
        assert await app.store.remove_all(account.user_id, audience=None, now=NOW) == []


@asynccontextmanager
async def invoice_of(account: Account) -> AsyncIterator[None]:
    """Store what refers to the user by a foreign key that restricts."""
    metadata = MetaData()
    User.metadata.tables["user"].to_metadata(metadata)
    invoices = Table("invoice", metadata, Column("user_id", ForeignKey("user.id"), nullable=False))
    engine: Any = account.app.session.bind
    async with engine.begin() as connection:
        await connection.run_sync(invoices.create)
        await connection.execute(insert(invoices).values(user_id=account.user_id))
    yield
    async with engine.begin() as connection:
        await connection.run_sync(invoices.drop)


@pytest.mark.parametrize("open_app", ["postgresql-asyncpg", "mariadb"], indirect=True)
@pytest.mark.parametrize("kind", [Manager, ReusingBelow])
async def test_a_deletion_that_the_database_refuses_ends_nothing(
    account: Account, open_app: OpenApp, kind: type[Manager]
) -> None:
    """Another table's foreign key refuses it: the database's own error stays as it is, and so do the tokens."""
    async with invoice_of(account):
        with pytest.raises(IntegrityError):
            await account.manager(kind=kind).delete(account.user)

        assert await account.alive_later(open_app) == ALL
        assert account.told() == []
        await account.app.session.rollback()


class Vanishing(KnoxStrategy[User, uuid.UUID]):
    """A strategy whose store fails after it was looked at."""

    async def revoke_all(self, *_: Any, **__: Any) -> list[TokenRecord[uuid.UUID]]:
        """Fail as a store that is unavailable does."""
        raise StoreUnavailable


class Noting(Manager):
    """A user manager that notes whom it has deleted."""

    noted = False

    async def on_after_delete(self, user: User, request: Request | None = None) -> None:  # noqa: ARG002
        """Note it."""
        self.noted = True


async def test_a_store_that_fails_after_the_deletion_stops_no_hook(
    account: Account, open_app: OpenApp, caplog: pytest.LogCaptureFixture
) -> None:
    """The deletion is stored, so what follows it is done; the answer is 503, and the log has the user's id."""
    manager = account.manager(
        Vanishing(account.app.store, WEB, request=None, user_db=None, clock=lambda: NOW), kind=Noting
    )

    with pytest.raises(StoreUnavailable):
        await manager.delete(account.user)

    assert isinstance(manager, Noting)
    assert manager.noted
    assert f"Could not revoke the tokens of user {account.user_id} (deleted)" in caplog.text
    async with open_app() as app:
        assert (await app.session.execute(select(User.__table__.c.id))).all() == []


class Household(Manager):
    """A user manager that deletes a member along with a user, who is then refused."""

    member: User

    async def delete(self, user: User, request: Request | None = None) -> None:
        """Delete the member, and refuse the user."""
        if user is not self.member:
            await self.delete(self.member)
            raise HTTPException(409)
        await super().delete(user, request)


async def test_one_deletion_within_another_is_that_of_its_own_user(account: Account) -> None:
    """A deletion that is stored while another user's is refused ends the tokens of its own user alone."""
    member = Account(app=account.app, user=await create_user(account.app.session))
    await member.log_in()
    manager = account.manager(kind=Household)
    assert isinstance(manager, Household)
    manager.member = member.user

    with pytest.raises(HTTPException):
        await manager.delete(account.user)

    assert await account.alive() == ALL
    assert await account.app.store.remove_all(member.user_id, audience=None, now=NOW) == []
