"""Every kind of deletion revokes the user's tokens before a hook runs; a refused deletion revokes no tokens."""

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
    """A user manager whose deletion keeps the user active and only replaces the e-mail address."""

    async def delete(self, user: User, request: Request | None = None) -> None:
        """Replace the e-mail address, and call both hooks."""
        await self.on_before_delete(user, request)
        await self.user_db.update(user, {"email": f"{user.id}@deleted.example.org"})
        await self.on_after_delete(user, request)


class SoftByUpdate(Manager):
    """A user manager whose deletion calls the manager's own `_update`."""

    async def delete(self, user: User, request: Request | None = None) -> None:  # noqa: ARG002
        """Mark the user as deleted by an update."""
        await self._update(user, {"is_verified": True})


class SoftBase(BaseUserManager[User, uuid.UUID]):
    """An application's own base class, which overrides `delete` without calling `super()`."""

    reset_password_token_secret = SECRET
    verification_token_secret = SECRET

    async def delete(self, user: User, request: Request | None = None) -> None:  # noqa: ARG002
        """Mark the user as deleted in the user database."""
        await self.user_db.update(user, {"is_verified": True})


class SoftAfter(KnoxUserManagerMixin[User, uuid.UUID], UUIDIDMixin, SoftBase):
    """A user manager with the mix-in before that base class."""


class SoftBefore(UUIDIDMixin, SoftBase, KnoxUserManagerMixin[User, uuid.UUID]):
    """A user manager with the mix-in after that base class."""


class SoftInherited(Soft):
    """A subclass that overrides nothing."""


class SoftOverridden(Soft):
    """A subclass that overrides `delete` once more, with an additional argument."""

    async def delete(self, user: User, request: Request | None = None, *, why: str = "") -> None:  # noqa: ARG002
        """Delete the user as the base class does."""
        await super().delete(user, request)


KINDS: list[Any] = [Soft, SoftByUpdate, SoftAfter, SoftBefore, SoftInherited, SoftOverridden]


@pytest.mark.parametrize("kind", KINDS)
async def test_a_soft_deletion_ends_all(account: Account, kind: Any) -> None:
    """A soft deletion revokes all tokens, in any class and in any way in which the application writes it."""
    await account.manager(account.strategy(WEB), account.strategy(API), kind=kind).delete(account.user)

    assert await account.alive() == []
    assert account.revoke_reasons() == ["deleted"] * 3


async def test_a_class_of_later_is_guarded_too(account: Account) -> None:
    """A class that is created while the application runs revokes the tokens, too."""
    deleted: list[str] = []

    class SoftLater(Soft):
        """A user manager whose deletion and hook are its own."""

        async def delete(self, user: User, request: Request | None = None) -> None:
            """Delete the user as the base class does."""
            await super().delete(user, request)

        async def on_after_delete(self, user: User, request: Request | None = None) -> None:  # noqa: ARG002
            """Note the e-mail address that the user has by then."""
            deleted.append(user.email)

    await account.manager(kind=SoftLater).delete(account.user)

    assert await account.alive() == []
    assert deleted == [f"{account.user_id}@deleted.example.org"]


@pytest.mark.parametrize("kind", [Soft, SoftOverridden])
async def test_a_soft_deletion_that_a_hook_refuses_ends_nothing(account: Account, kind: type[Manager]) -> None:
    """A soft deletion that the hook refuses before anything is stored revokes no token."""
    manager = account.manager(kind=kind)
    manager.refuses_deletion = True

    with pytest.raises(HTTPException):
        await manager.delete(account.user)

    assert await account.alive() == ALL


@pytest.mark.parametrize("kind", [Soft, SoftOverridden])
async def test_a_soft_deletion_that_raises_once_it_is_stored_ends_all(account: Account, kind: type[Manager]) -> None:
    """A soft deletion that is stored revokes all tokens, even if the hook after it raises."""
    manager = account.manager(kind=kind)
    manager.fails_afterwards = True

    with pytest.raises(RuntimeError):
        await manager.delete(account.user)

    assert await account.alive() == []
    assert account.revoke_reasons() == ["deleted"] * 3


class Relaxed(Soft):
    """A user manager whose deletions revoke no tokens."""

    revoke_on_deletion = False


async def test_a_soft_deletion_can_leave_the_tokens_valid(account: Account) -> None:
    """With `revoke_on_deletion = False`, an override of `delete` revokes no tokens either."""
    await account.manager(kind=Relaxed).delete(account.user)

    assert await account.alive() == ALL


class Reusing(Manager):
    """A user manager whose hook registers a new user under the id of the deleted one, and logs the new user in."""

    account: Account
    new_token: str
    alive_in_hook: list[str]

    async def on_after_delete(self, user: User, request: Request | None = None) -> None:  # noqa: ARG002
        """Register a new user under the same id, note which old tokens are accepted, and log in."""
        session, user_id = self.account.app.session, self.account.user_id
        newcomer = User(id=user_id, email="newcomer@example.org", hashed_password="hash")
        session.add(newcomer)
        await session.commit()
        self.alive_in_hook = await self.account.alive()
        self.new_token = await self.account.strategy().issue(newcomer)


class ReusingBelow(Reusing):
    """A subclass whose `delete` calls `super()`."""

    async def delete(self, user: User, request: Request | None = None) -> None:
        """Delete the user as the base class does."""
        await super().delete(user, request)


@pytest.mark.parametrize("kind", [Reusing, ReusingBelow])
async def test_nobody_inherits_tokens_with_an_id(account: Account, kind: type[Reusing]) -> None:
    """A new user with the id of a deleted one never inherits the old tokens, and keeps the new token."""
    manager = account.manager(account.strategy(WEB), account.strategy(API), kind=kind)
    assert isinstance(manager, Reusing)
    manager.account = account

    await manager.delete(account.user)

    assert manager.alive_in_hook == []
    assert await account.alive() == []
    assert await account.strategy().read_token(manager.new_token, manager) is not None
    assert account.revoke_reasons() == ["deleted"] * 3


class FailingInDatabase(Manager):
    """A user manager whose hook after a deletion fails in the database, which leaves the transaction failed."""

    async def on_after_delete(self, user: User, request: Request | None = None) -> None:  # noqa: ARG002
        """Break a constraint of the database."""
        assert isinstance(self.user_db, UserDatabase)
        self.user_db.session.add(User(email=None))
        await self.user_db.session.commit()


async def test_a_hook_that_fails_in_the_database_keeps_no_token(account: Account, open_app: OpenApp) -> None:
    """The tokens are revoked before the hook runs, so its database error keeps no tokens, and is raised unchanged."""
    with pytest.raises(IntegrityError):
        await account.manager(kind=FailingInDatabase).delete(account.user)

    async with open_app() as app:
        assert await app.store.remove_all(account.user_id, audience=None, now=NOW) == []


class FailingAfter(UserDatabase):
    """A user database whose `delete` raises after it has committed."""

    async def delete(self, user: User) -> None:
        """Delete the user, and fail."""
        await super().delete(user)
        await self.session.execute(text("SELECT nothing FROM nowhere"))


async def test_a_deletion_that_raises_once_it_is_stored_ends_all(account: Account, open_app: OpenApp) -> None:
    """A deletion that is committed revokes all tokens, even if `delete` raises afterwards."""
    manager = account.manager(account.strategy(WEB), account.strategy(API), users=FailingAfter)

    with pytest.raises(SQLAlchemyError):
        await manager.delete(account.user)

    assert account.revoke_reasons() == ["deleted"] * 3
    async with open_app() as app:
        assert await app.store.remove_all(account.user_id, audience=None, now=NOW) == []


@asynccontextmanager
async def invoice_of(account: Account) -> AsyncIterator[None]:
    """Store a row whose foreign key keeps the database from deleting the user."""
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
    """A deletion that another table's foreign key forbids raises the database's own error and revokes no token."""
    async with invoice_of(account):
        with pytest.raises(IntegrityError):
            await account.manager(kind=kind).delete(account.user)

        assert await account.alive_later(open_app) == ALL
        assert account.revoke_reasons() == []
        await account.app.session.rollback()


class Vanishing(KnoxStrategy[User, uuid.UUID]):
    """A strategy whose store fails only after the check before the deletion."""

    async def revoke_all(self, *_: Any, **__: Any) -> list[TokenRecord[uuid.UUID]]:
        """Raise as if the store were unavailable."""
        raise StoreUnavailable


class Noting(Manager):
    """A user manager that notes whether its hook after a deletion has run."""

    noted = False

    async def on_after_delete(self, user: User, request: Request | None = None) -> None:  # noqa: ARG002
        """Note that the hook has run."""
        self.noted = True


async def test_a_store_that_fails_after_the_deletion_stops_no_hook(
    account: Account, open_app: OpenApp, caplog: pytest.LogCaptureFixture
) -> None:
    """If the store fails after a deletion, the hook still runs, `StoreUnavailable` is raised and an error logged."""
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
    """A user manager that deletes another user first, and then refuses to delete the user of the call."""

    member: User

    async def delete(self, user: User, request: Request | None = None) -> None:
        """Delete the member, and refuse the deletion of anybody else."""
        if user is not self.member:
            await self.delete(self.member)
            raise HTTPException(409)
        await super().delete(user, request)


async def test_one_deletion_within_another_is_that_of_its_own_user(account: Account) -> None:
    """A deletion inside another user's deletion, which is refused, revokes only the tokens of its own user."""
    member = Account(app=account.app, user=await create_user(account.app.session))
    await member.log_in()
    manager = account.manager(kind=Household)
    assert isinstance(manager, Household)
    manager.member = member.user

    with pytest.raises(HTTPException):
        await manager.delete(account.user)

    assert await account.alive() == ALL
    assert await account.app.store.remove_all(member.user_id, audience=None, now=NOW) == []
