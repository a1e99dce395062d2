"""The routers work for an application that sets the tenant of its sessions, or raise an error if it is lost."""

import uuid
from collections.abc import AsyncIterator
from typing import Annotated

import pytest
from fastapi import Depends, FastAPI
from fastapi.requests import HTTPConnection
from fastapi_users import FastAPIUsers
from fastapi_users.authentication import AuthenticationBackend, Strategy
from sqlalchemy.ext.asyncio import AsyncSession

from fastapi_users_knox import KnoxBearerTransport, KnoxError, KnoxSettings, KnoxStrategy, get_knox_router
from tests.site import bearing, client_of, credentials
from tests.tenants import ALL, Tenancy, TenantUser, TenantUserManager, tenant_store, tenant_user_manager

pytestmark = [pytest.mark.anyio, pytest.mark.unmeasured]

SETTINGS = KnoxSettings(auto_refresh=True, token_limit_per_user=5)


@pytest.fixture
def app(tenant: Tenancy) -> FastAPI:
    """Return an application with FastAPI-Users' routers and `get_knox_router`."""

    async def get_session() -> AsyncIterator[AsyncSession]:
        async with tenant.session() as session:
            yield session

    async def get_manager(session: Annotated[AsyncSession, Depends(get_session)]) -> TenantUserManager:
        return tenant_user_manager(session)

    async def get_strategy(
        request: HTTPConnection, session: Annotated[AsyncSession, Depends(get_session)]
    ) -> Strategy[TenantUser, uuid.UUID]:
        return KnoxStrategy(tenant_store(session), SETTINGS, request=request)

    backend = AuthenticationBackend("knox", KnoxBearerTransport("login"), get_strategy)
    users = FastAPIUsers[TenantUser, uuid.UUID](get_manager, [backend])
    app = FastAPI()
    app.include_router(users.get_auth_router(backend))
    app.include_router(get_knox_router(users, backend))
    return app


# One driver is enough here, because the other tests of tenants call the strategy with both drivers.
@pytest.mark.parametrize("way", ALL)
async def test_over_http(tenant: Tenancy, app: FastAPI) -> None:
    """Login, rotation, logout and logout-all work over HTTP, and revoke exactly the right tokens."""
    async with client_of(app) as client:
        tokens = [(await client.post("/login", data=credentials())).json()["access_token"] for _ in range(3)]
        listed = await client.get("/sessions", headers=bearing(tokens[0]))
        rotated = await client.post("/rotate", headers=bearing(tokens[0]))
        logout = await client.post("/logout", headers=bearing(tokens[1]))
        left = len(await tenant.stored())
        everywhere = await client.post("/logout-all", headers=bearing(tokens[2]))

    assert (len(listed.json()), rotated.status_code, logout.status_code, left) == (3, 200, 204, 2)
    assert everywhere.status_code == 204
    assert await tenant.stored() == []


@pytest.mark.parametrize("way", ["by_statement"])
@pytest.mark.parametrize("level", ["REPEATABLE READ"])
async def test_over_http_without_a_tenant(tenant: Tenancy, app: FastAPI) -> None:
    """A login over HTTP that loses its tenant raises an error for the developer, and answers neither 400 nor 200."""
    async with client_of(app) as client:
        with pytest.raises(KnoxError, match="after_begin"):
            await client.post("/login", data=credentials())

    assert await tenant.stored() == []
