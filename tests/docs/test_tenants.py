"""The application of the page on tenants works as the page describes."""

import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from fastapi.requests import HTTPConnection
from sqlalchemy import select, text
from sqlalchemy.ext.asyncio import AsyncSession

from fastapi_users_knox import KnoxSettings, KnoxStrategy
from tests.docs.folder import changed_by, load
from tests.docs.test_settings import NOW
from tests.servers import Server
from tests.tenants import TENANT, TenantUser, tenancy, tenant_store, tenant_user_manager


@asynccontextmanager
async def requested_at(module: Any, host: str) -> AsyncIterator[AsyncSession]:
    """Open the session of a request to this host."""
    scope = {"type": "http", "scheme": "https", "path": "/", "headers": [(b"host", host.encode())]}
    async for session in module.get_async_session(HTTPConnection(scope)):
        yield session


async def test_a_session_is_one_tenants(
    postgresql_server: Server, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A tenant's user can log in, use the token and log out; another tenant's session sees neither user nor token."""
    async with tenancy(postgresql_server.url("postgresql+asyncpg"), "by_session_class") as tenant:
        monkeypatch.setenv("DATABASE_URL", tenant.engine.url.render_as_string(hide_password=False))
        changed_by("tenants.diff", folder, monkeypatch)
        module = load("db")
        async with requested_at(module, TENANT) as session:
            user = (await session.scalars(select(TenantUser))).one()
            token = await strategy_on(session).write_token(user)
            accepted = await strategy_on(session).read_token(token, tenant_user_manager(session))
            default = module.User.__table__.columns["tenant"].server_default.arg
            await session.execute(text(f'ALTER TABLE "user" ALTER COLUMN tenant SET DEFAULT {default}'))
            new = module.User(email="new@example.org", hashed_password="hash")
            session.add(new)
            await session.commit()
        async with requested_at(module, "globex") as session:
            refused = await strategy_on(session).read_token(token, tenant_user_manager(session))
            hidden = await session.get(module.User, new.id)
        async with requested_at(module, TENANT) as session:
            revoked = await strategy_on(session).logout_all(user)
        await module.engine.dispose()

    assert (accepted, refused, revoked) == (user, None, 1)
    assert (new.tenant, hidden) == (TENANT, None)


def strategy_on(session: AsyncSession) -> KnoxStrategy[TenantUser, uuid.UUID]:
    """Return a strategy at a fixed time."""
    settings = KnoxSettings(token_ttl=timedelta(hours=1))
    return KnoxStrategy(tenant_store(session), settings, request=None, clock=lambda: NOW)
