"""A user whom PostgreSQL's row-level security hides after the transaction is not mistaken for a deleted one."""

import uuid
from collections.abc import AsyncIterator

import pytest
from fastapi_users import BaseUserManager, UUIDIDMixin
from fastapi_users_db_sqlalchemy import SQLAlchemyUserDatabase
from sqlalchemy import text
from sqlalchemy.exc import ProgrammingError

from fastapi_users_knox import KnoxEvent, KnoxStrategy, KnoxUserManagerMixin, TokenRevoked
from tests.servers import Server
from tests.site import PASSWORDS
from tests.tenants import Tenancy, TenantUser, tenancy, tenant_store

pytestmark = pytest.mark.anyio


class Manager(KnoxUserManagerMixin[TenantUser, uuid.UUID], UUIDIDMixin, BaseUserManager[TenantUser, uuid.UUID]):
    """A user manager of an application with tenants."""

    async def change_password(self, user: TenantUser) -> None:
        """Change the user's password."""
        await self._update(user, {"password": "another password"})


class Refused(SQLAlchemyUserDatabase[TenantUser, uuid.UUID]):
    """A user database in which every change fails and is rolled back."""

    async def update(self, user: TenantUser, update_dict: dict[str, object]) -> TenantUser:  # noqa: ARG002
        """Fail in the database, and roll back as an adapter may."""
        await self.delete(user)
        raise AssertionError

    async def delete(self, user: TenantUser) -> None:  # noqa: ARG002
        """Fail in the database, and roll back."""
        try:
            await self.session.execute(text("SELECT nothing FROM nowhere"))
        finally:
            await self.session.rollback()


class FailingAfter(SQLAlchemyUserDatabase[TenantUser, uuid.UUID]):
    """A user database whose `delete` raises after it has committed."""

    async def delete(self, user: TenantUser) -> None:
        """Delete the user, and fail."""
        await super().delete(user)
        await self.session.execute(text("SELECT nothing FROM nowhere"))


@pytest.fixture(params=["by_statement", "by_one_session"])
async def tenants(request: pytest.FixtureRequest, postgresql_server: Server) -> AsyncIterator[Tenancy]:
    """Return an application that sets its tenant for one transaction, and one that sets it for each."""
    async with tenancy(postgresql_server.url("postgresql+asyncpg"), request.param) as tenants:
        yield tenants


async def attempt(tenants: Tenancy, users: type[SQLAlchemyUserDatabase[TenantUser, uuid.UUID]], act: str) -> list[str]:
    """Try to change a user who is logged in, and return the reasons of the revocations."""
    events: list[KnoxEvent[uuid.UUID]] = []
    async with tenants.session() as session:
        strategy = KnoxStrategy(tenant_store(session), request=None, listeners=[events.append])
        await strategy.issue(tenants.user)
    async with tenants.session() as session:
        user = await session.get_one(TenantUser, tenants.user.id)
        strategy = KnoxStrategy(tenant_store(session), request=None, listeners=[events.append])
        manager = Manager(users(session, TenantUser), PASSWORDS, knox=strategy)
        with pytest.raises(ProgrammingError):
            await (manager.delete(user) if act == "delete" else manager.change_password(user))
    return [event.reason for event in events if isinstance(event, TokenRevoked)]


@pytest.mark.parametrize("act", ["delete", "change_password"])
async def test_a_hidden_user_is_not_deleted(tenants: Tenancy, act: str) -> None:
    """A change that the database refuses revokes no token, even if the user is invisible after the rollback."""
    assert await attempt(tenants, Refused, act) == []
    assert len(await tenants.stored()) == 1


async def test_a_deletion_that_is_stored_counts(tenants: Tenancy, caplog: pytest.LogCaptureFixture) -> None:
    """A committed deletion of a user who is invisible afterwards revokes the tokens, or logs that it could not."""
    reasons = await attempt(tenants, FailingAfter, "delete")

    assert reasons == ["deleted"] or f"Could not revoke the tokens of user {tenants.user.id} (deleted)" in caplog.text
