"""`current_token(load_user=False)`: the record alone, without the user manager and without a query for the user."""

import uuid
from collections.abc import Mapping
from inspect import signature
from typing import Annotated, Any

import pytest
from fastapi import Depends, FastAPI
from httpx import AsyncClient
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession

from fastapi_users_knox import KnoxSettings, KnoxStrategy, TokenRecord, current_token
from fastapi_users_knox.routers.backends import strategy_without_users
from tests.models import User, store_on
from tests.routers.device import Device
from tests.site import Database, Served, World, bearing, build_app, create_users, knox_backend, login, shared
from tests.strategies import MILLISECOND, MINUTE, Clock, change_user, flipped, sent_to, stored, verbs

Record = TokenRecord[uuid.UUID]

STORES = pytest.mark.parametrize("any_backend", ["sqlite", "postgresql-asyncpg", "redis-7"], indirect=True)
RULES: dict[str, dict[str, Any]] = {
    "anyone": {},
    "optional": {"optional": True},
    "passive": {"touch": False},
    "fresh": {"fresh_within": MINUTE},
}


@shared
def create_site() -> FastAPI:
    """Build an application with a route for each set of rules."""
    backend = knox_backend()
    app, users = build_app(backend), create_users(backend)
    for name, rules in RULES.items():
        _add_route(app, name, current_token(users, backend, load_user=False, **rules))
    return app


def _add_route(app: FastAPI, name: str, dependency: Any) -> None:
    @app.get(f"/record/{name}")
    async def which(record: Annotated[Record | None, Depends(dependency)]) -> list[str]:
        return [str(record.id), str(record.user_id)] if record else []


@pytest.fixture
def settings() -> Mapping[str, KnoxSettings]:
    """Let the tokens be refreshed."""
    return {"knox": KnoxSettings(auto_refresh=True)}


@pytest.fixture
def app(world: World) -> Served:
    """Return the application."""
    return world.serving(create_site())


@STORES
async def test_the_record_is_given(laptop: Device, ada: User) -> None:
    """The route receives the record of the token presented, with the user's id."""
    response = await laptop.call("GET", "/record/anyone")

    assert response.json() == [await laptop.id(), str(ada.id)]


@pytest.mark.parametrize(
    ("any_backend", "expected"),
    [("sqlite", ["SELECT"]), ("redis-7", [])],
    ids=["sqlite", "redis"],
    indirect=["any_backend"],
)
async def test_the_user_is_not_queried(laptop: Device, engine: AsyncEngine, expected: list[str]) -> None:
    """Over SQL one SELECT reads the record and whether the user is active; over Redis no SQL is sent."""
    with sent_to(engine) as statements:
        response = await laptop.call("GET", "/record/passive")

    assert response.status_code == 200
    assert verbs(statements) == expected


@STORES
@pytest.mark.parametrize("headers", [{}, {"Authorization": "Bearer junk"}, None])
async def test_others_are_refused(laptop: Device, headers: dict[str, str] | None) -> None:
    """Without a live token the answer is 401 with a challenge, or nothing on an optional route."""
    presented = bearing(flipped(laptop.token)) if headers is None else headers

    required = await laptop.http.get("/record/anyone", headers=presented)
    optional = await laptop.http.get("/record/optional", headers=presented)

    assert (required.status_code, required.headers["WWW-Authenticate"].split()[0]) == (401, "Bearer")
    assert optional.json() == []


@STORES
async def test_a_revoked_token_is_refused(laptop: Device) -> None:
    """A token is refused after logout-all."""
    assert (await laptop.call("POST", "/knox/logout-all")).is_success

    assert (await laptop.call("GET", "/record/anyone")).status_code == 401


async def test_the_inactive_are_refused(laptop: Device, ada: User, database: Database) -> None:
    """Over SQL the token of an inactive user is refused, although the user is not loaded."""
    await change_user(database.engine, ada, is_active=False)

    assert (await laptop.call("GET", "/record/anyone")).status_code == 401


async def test_use_is_noted(laptop: Device, engine: AsyncEngine, clock: Clock) -> None:
    """A request counts as a use of the token, unless the dependency is passive."""
    await laptop.call("GET", "/record/passive")
    [before] = await stored(engine)
    await laptop.call("GET", "/record/anyone")
    [after] = await stored(engine)

    assert (before.last_used_at, after.last_used_at) == (None, clock.now)


async def test_an_expired_token_is_deleted(laptop: Device, engine: AsyncEngine, clock: Clock) -> None:
    """An expired token is refused, and deleted unless the dependency is passive."""
    [row] = await stored(engine)
    clock.now = row.expires_at

    passive = await laptop.call("GET", "/record/passive")
    kept = await stored(engine)
    active = await laptop.call("GET", "/record/anyone")

    assert (passive.status_code, active.status_code, len(kept), await stored(engine)) == (401, 401, 1, [])


async def test_a_login_must_be_fresh(client: AsyncClient, ada: User, clock: Clock) -> None:
    """`fresh_within` refuses an older login and says why."""
    device = Device(http=client, token=await login(client, email=ada.email))

    fresh = await device.call("GET", "/record/fresh")
    clock.now += MINUTE + MILLISECOND
    stale = await device.call("GET", "/record/fresh")

    assert (fresh.status_code, stale.status_code) == (200, 401)
    assert stale.json() == {"detail": "REAUTHENTICATION_REQUIRED"}


@pytest.mark.parametrize(("load_user", "expected"), [(True, True), (False, False)])
def test_the_user_manager_is_needed_only_for_the_user(*, load_user: bool, expected: bool) -> None:
    """Without the user, the dependency needs no user manager, so none is created."""
    make: Any = current_token

    dependency = make(create_users(knox_backend()), knox_backend(), load_user=load_user)

    assert ("user_manager" in signature(dependency).parameters) is expected


@pytest.mark.parametrize("condition", ["active", "verified", "superuser"])
def test_conditions_of_the_user_are_refused(condition: str) -> None:
    """A condition that is about the user raises an error at once."""
    make: Any = current_token

    with pytest.raises(TypeError, match="load_user=False"):
        make(create_users(knox_backend()), knox_backend(), load_user=False, **{condition: True})


class Closed(KnoxStrategy[Any, Any]):
    """A strategy that decides itself who is authenticated, but only with the user."""

    async def authenticate(self, *_: object, **__: object) -> None:
        """Refuse every token."""


class ClosedEntirely(Closed):
    """A strategy that decides without the user too."""

    async def authenticate_record(self, *_: object, **__: object) -> None:
        """Refuse every token."""


async def test_a_strategy_that_overrides_authenticate_alone_is_refused(database: Database) -> None:
    """A strategy that overrides `authenticate` alone is refused, because its decision would be bypassed."""
    stores = [store_on(AsyncSession(database.engine)) for _ in range(2)]

    with pytest.raises(TypeError, match="Closed overrides authenticate: for load_user=False override authenticate_rec"):
        strategy_without_users(Closed(stores[0], request=None), knox_backend())
    assert strategy_without_users(ClosedEntirely(stores[1], request=None), knox_backend())
