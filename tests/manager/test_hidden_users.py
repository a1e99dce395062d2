"""Users whom PostgreSQL's row-level security hides once a transaction has ended are not taken for deleted."""

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
    """The application's user manager."""

    async def change_password(self, user: TenantUser) -> None:
        """Change it."""
        await self._update(user, {"password": "another password"})


class Refused(SQLAlchemyUserDatabase[TenantUser, uuid.UUID]):
    """Users whom the database refuses to change."""

    async def update(self, user: TenantUser, update_dict: dict[str, object]) -> TenantUser:  # noqa: ARG002
        """Fail, and roll back as an adapter may."""
        await self.delete(user)
        raise AssertionError

    async def delete(self, user: TenantUser) -> None:  # noqa: ARG002
        """Fail."""
        try:
            await self.session.execute(text("SELECT nothing FROM nowhere"))
        finally:
            await self.session.rollback()


class FailingAfter(SQLAlchemyUserDatabase[TenantUser, uuid.UUID]):
    """Users whose deletion raises once it is stored."""

    async def delete(self, user: TenantUser) -> None:
        """Delete a user."""
        await super().delete(user)
        await self.session.execute(text("SELECT nothing FROM nowhere"))


@pytest.fixture(params=["by_statement", "by_one_session"])
async def tenants(request: pytest.FixtureRequest, postgresql_server: Server) -> AsyncIterator[Tenancy]:
    """Give the application, which sets its tenant for one transaction or for each."""
    async with tenancy(postgresql_server.url("postgresql+asyncpg"), request.param) as tenants:
        yield tenants


async def attempt(tenants: Tenancy, users: type[SQLAlchemyUserDatabase[TenantUser, uuid.UUID]], act: str) -> list[str]:
    """Try to change a user who is logged in, and return why tokens were revoked."""
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
    """What the database refused ends no token, though the user cannot be seen any more."""
    assert await attempt(tenants, Refused, act) == []
    assert len(await tenants.stored()) == 1


async def test_a_deletion_that_is_stored_counts(tenants: Tenancy, caplog: pytest.LogCaptureFixture) -> None:
    """Where the session has committed, a user who cannot be seen is gone: tokens end, or the log has the failure."""
    reasons = await attempt(tenants, FailingAfter, "delete")

    assert reasons == ["deleted"] or f"Could not revoke the tokens of user {tenants.user.id} (deleted)" in caplog.text
