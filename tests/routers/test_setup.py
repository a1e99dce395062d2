"""The routers and `current_token` refuse a backend whose strategy is not a `KnoxStrategy`."""

import uuid
from collections.abc import AsyncIterator, Callable
from functools import partial
from typing import Any

import pytest
from fastapi import APIRouter, FastAPI
from fastapi_users.authentication import AuthenticationBackend, JWTStrategy, Strategy

from fastapi_users_knox import (
    KnoxBearerTransport,
    KnoxStrategy,
    current_token,
    get_api_token_router,
    get_knox_admin_router,
    get_knox_router,
)
from tests.models import User
from tests.routers.device import Device
from tests.site import Backend, Users, World, bearing, client_of, create_users, jwt_backend, knox_backend, login

Make = Callable[[Users, Backend], object]


def sessions_of_api_tokens(users: Users, backend: Backend) -> object:
    """Make the router of API tokens with this backend for the sessions."""
    return get_api_token_router(users, backend, knox_backend("api"), scopes={"read": "Read"})


def issuer_of_api_tokens(users: Users, backend: Backend) -> object:
    """Make the router of API tokens with this backend for the API tokens."""
    return get_api_token_router(users, knox_backend(), backend, scopes={"read": "Read"})


MAKERS: list[Make] = [
    *(get_knox_router, get_knox_admin_router, current_token, sessions_of_api_tokens, issuer_of_api_tokens)
]
MESSAGE = "backend 'jwt' must have a KnoxStrategy, but its get_strategy returns a JWTStrategy"


def declared() -> JWTStrategy[User, uuid.UUID]:
    """Return a strategy of FastAPI-Users' own, as the annotation declares."""
    return JWTStrategy("the secret of a backend that is not ours", lifetime_seconds=3600)


class Own(KnoxStrategy[User, uuid.UUID]):
    """An application's subclass of `KnoxStrategy`."""


def knox() -> KnoxStrategy[User, uuid.UUID]:
    """Declare to return a `KnoxStrategy`."""
    raise LookupError


def own() -> Own:
    """Declare to return a subclass of `KnoxStrategy`."""
    raise LookupError


def any_strategy() -> Strategy[User, uuid.UUID]:
    """Declare to return some strategy, whose class is known only when it is made."""
    raise LookupError


async def generated() -> AsyncIterator[KnoxStrategy[User, uuid.UUID]]:
    """Declare to yield a `KnoxStrategy`, as a dependency that cleans up does."""
    raise LookupError
    yield


def backend_with(get_strategy: Any) -> Backend:
    """Return a backend with this `get_strategy`."""
    return AuthenticationBackend("jwt", KnoxBearerTransport("jwt/login"), get_strategy)


@pytest.mark.parametrize("make", MAKERS)
async def test_another_strategy_is_refused_at_once(make: Make) -> None:
    """If `get_strategy` declares another strategy, making the router raises a TypeError."""
    with pytest.raises(TypeError, match=MESSAGE):
        make(create_users(jwt_backend()), backend_with(declared))


@pytest.mark.parametrize("make", MAKERS)
@pytest.mark.parametrize("get_strategy", [knox, own, any_strategy, generated, partial(declared), lambda: None])
async def test_a_strategy_that_may_be_ours_is_accepted(make: Make, get_strategy: Any) -> None:
    """A `get_strategy` that declares a `KnoxStrategy`, a subclass or nothing is accepted."""
    assert make(create_users(jwt_backend()), backend_with(get_strategy))


@pytest.mark.parametrize(("make", "path"), [(get_knox_router, "/sessions"), (get_knox_admin_router, "/{id}/sessions")])
async def test_an_undeclared_strategy_is_refused_at_the_first_request(
    world: World, ada: User, make: Callable[..., APIRouter], path: str
) -> None:
    """If `get_strategy` declares no strategy and returns one of another kind, the first request raises a TypeError."""
    root = await world.database.create_user("root@example.org", is_superuser=True)
    backend = jwt_backend()
    app, users = FastAPI(), create_users(backend)
    app.include_router(users.get_auth_router(backend), prefix="/jwt")
    app.include_router(make(users, backend))
    async with client_of(world.serving(app)) as client:
        device = Device(http=client, token=await login(client, "jwt", root.email))
        with pytest.raises(TypeError, match=MESSAGE):
            await device.http.get(path.format(id=ada.id), headers=bearing(device.token))
