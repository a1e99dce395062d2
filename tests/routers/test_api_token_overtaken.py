"""Requests that issue an API token, and that are overtaken by others after they have read the session and the token."""

import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import pytest
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession

from fastapi_users_knox import Added, ApiTokenSettings, KnoxSettings, TokenRecord
from fastapi_users_knox.sqlalchemy import SQLAlchemyTokenStore
from tests.models import KnoxToken, User
from tests.routers.api_site import create, create_site, created, listed, reads, roll
from tests.routers.device import Device
from tests.site import Database, Served, Store, World, login
from tests.strategies import HOUR, MINUTE, Clock, change_user

Meanwhile = list[Callable[[], Awaitable[object]]]

UNAUTHORIZED = (401, {"detail": "Unauthorized"}, 'Bearer error="invalid_token"')


class Overtaken(SQLAlchemyTokenStore[User, uuid.UUID]):
    """A store that lets something else happen just before each record is added or removed."""

    def __init__(self, session: AsyncSession, meanwhile: Callable[[], Awaitable[object]]) -> None:
        super().__init__(session, KnoxToken)
        self._meanwhile = meanwhile

    async def add(self, *args: Any, **options: Any) -> Added[uuid.UUID]:
        """Wait for what happens, then store the record."""
        await self._meanwhile()
        return await super().add(*args, **options)

    async def remove(self, *args: Any, **options: Any) -> TokenRecord[uuid.UUID] | None:
        """Wait for what happens, then remove the record."""
        await self._meanwhile()
        return await super().remove(*args, **options)


@dataclass(frozen=True, kw_only=True)
class BusyDatabase(Database):
    """A database in which other requests overtake those that issue a token.

    Attributes:
        meanwhile: What the other requests do, one after the other.
    """

    meanwhile: Meanwhile = field(default_factory=list)

    @asynccontextmanager
    async def store(self, session: AsyncSession) -> AsyncIterator[Store]:
        """Yield a store whose `add` is overtaken."""
        yield Overtaken(session, self._overtake)

    async def _overtake(self) -> None:
        if self.meanwhile:
            await self.meanwhile.pop(0)()


@pytest.fixture
def meanwhile() -> Meanwhile:
    """Return what happens just before the next records are added or removed, one thing for each record."""
    return []


@pytest.fixture
def database(engine: AsyncEngine, meanwhile: Meanwhile) -> Database:
    """Return a database in which requests can be overtaken."""
    return BusyDatabase(engine=engine, meanwhile=meanwhile)


@pytest.fixture
def settings() -> Mapping[str, KnoxSettings]:
    """Let the API tokens be refreshed."""
    return {"api": ApiTokenSettings(token_ttl=2 * HOUR, auto_refresh=True)}


@pytest.fixture
def app(world: World) -> Served:
    """Return the application."""
    return world.serving(create_site())


@pytest.mark.parametrize("act", ["create", "roll"])
async def test_the_session_may_end_meanwhile(phone: Device, meanwhile: Meanwhile, act: str) -> None:
    """If the session is logged out in the meantime, the answer is the 401 of an ended session."""
    token = await created(phone)
    meanwhile.append(lambda: phone.call("POST", "/knox/logout"))

    response = await (create(phone) if act == "create" else roll(phone, token["id"], 60))

    assert (response.status_code, response.json(), response.headers["WWW-Authenticate"]) == UNAUTHORIZED
    assert await reads(phone.http, token["token"]) == 200


@pytest.mark.parametrize("act", ["create", "roll"])
@pytest.mark.parametrize("change", [{"is_active": False}, {"hashed_password": "another"}])
async def test_the_user_may_change_meanwhile(
    phone: Device, ada: User, engine: AsyncEngine, meanwhile: Meanwhile, *, act: str, change: Mapping[str, object]
) -> None:
    """If the user is changed in the meantime, no token is issued, as at a login."""
    token = await created(phone)
    meanwhile.append(lambda: change_user(engine, ada, **change))

    response = await (create(phone) if act == "create" else roll(phone, token["id"], 60))

    assert (response.status_code, response.json()) == (400, {"detail": "LOGIN_BAD_CREDENTIALS"})


async def test_the_token_may_end_meanwhile(phone: Device, meanwhile: Meanwhile) -> None:
    """If the token is revoked in the meantime, a roll gets the 404 that it would get afterwards."""
    token = await created(phone)
    meanwhile.append(lambda: phone.call("DELETE", f"/knox/api-tokens/{token['id']}"))

    response = await roll(phone, token["id"], 60)

    assert (response.status_code, response.json()) == (404, {"detail": "API_TOKEN_NOT_FOUND"})
    assert await phone.is_logged_in()


async def test_a_token_is_ended_once(phone: Device, meanwhile: Meanwhile) -> None:
    """If another request revokes the token in the meantime, the answer is the 404 of a revoked token."""
    token = await created(phone)
    path = f"/knox/api-tokens/{token['id']}"
    statuses: list[int] = []

    async def end() -> None:
        statuses.append((await phone.call("DELETE", path)).status_code)

    meanwhile.append(end)
    overtaken = await phone.call("DELETE", path)

    assert statuses == [204]
    assert (overtaken.status_code, overtaken.json()) == (404, {"detail": "API_TOKEN_NOT_FOUND"})


async def test_the_token_may_be_refreshed_meanwhile(
    phone: Device, ada: User, clock: Clock, meanwhile: Meanwhile
) -> None:
    """If the token is refreshed in the meantime, it is rolled as it is then."""
    token = await created(phone)
    clock.now += HOUR
    fresh = Device(http=phone.http, token=await login(phone.http, email=ada.email))
    meanwhile.append(lambda: reads(phone.http, token["token"]))

    response = await roll(fresh, token["id"], 60)

    assert response.status_code == 201
    assert [each["expires_at"] for each in await listed(fresh)] == ["2030-01-01T16:00:00Z", "2030-01-01T14:01:00Z"]


async def test_a_token_that_never_stands_still_is_not_rolled(
    phone: Device, ada: User, clock: Clock, meanwhile: Meanwhile
) -> None:
    """After three attempts that were overtaken, the answer asks the client to try again later."""
    token = await created(phone)
    clock.now += HOUR
    fresh = Device(http=phone.http, token=await login(phone.http, email=ada.email))

    async def use_later() -> None:
        clock.now += 2 * MINUTE
        assert await reads(phone.http, token["token"]) == 200

    meanwhile.extend([use_later] * 3)
    response = await roll(fresh, token["id"], 60)

    assert (response.status_code, response.json()) == (503, {"detail": "TOKEN_STORE_UNAVAILABLE"})
    assert response.headers["Retry-After"] == "5"
    assert await reads(phone.http, token["token"]) == 200
