"""`knox_strategy` returns the dependency that provides backends and the user manager with their strategy."""

from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Annotated, Any

import pytest
from fastapi import Depends
from fastapi.requests import HTTPConnection
from fastapi_users.authentication import AuthenticationBackend

from fastapi_users_knox import (
    ClientInfo,
    KnoxEvent,
    KnoxSettings,
    KnoxStrategy,
    LoginOptions,
    TokenIssued,
    knox_strategy,
)
from tests.site import CurrentWorld, Session, Store, UserDatabase, World, bearer, bearing, get_store, login
from tests.strategies import NOW

SETTINGS = KnoxSettings(token_ttl=timedelta(minutes=5))


async def get_user_db(world: CurrentWorld, session: Session) -> UserDatabase:
    """Return a request's user database."""
    return world.user_db(session)


async def get_blind_store(store: Annotated[Store, Depends(get_store)]) -> AsyncIterator[Any]:
    """Yield a store that cannot see the users, such as Redis."""
    blind: Any = store
    blind.sees_users = False
    yield blind


def named(_request: HTTPConnection) -> ClientInfo:
    """Return the same description for every client."""
    return ClientInfo(name="known")


@pytest.mark.parametrize("get_token_store", [get_store, get_blind_store])
async def test_the_dependency_serves_a_backend(world: World, get_token_store: Any) -> None:
    """A login uses everything that was passed to `knox_strategy`, such as the settings, listeners and login options."""
    events: list[KnoxEvent[Any]] = []
    get_strategy = knox_strategy(
        get_token_store,
        SETTINGS,
        get_user_db=get_user_db,
        listeners=iter([events.append]),
        describe_client=named,
        login_options=lambda _user, request: LoginOptions(data={"path": request.url.path if request else None}),
        clock=lambda: NOW,
    )
    await world.database.create_user()

    async with world.client(AuthenticationBackend("knox", bearer(), get_strategy)) as client:
        first = await login(client)
        second = await login(client)
        answer = await client.get("/knox/sessions", headers=bearing(second))

    assert first != second
    assert [(session["name"], session["data"]) for session in answer.json()] == [("known", {"path": "/knox/login"})] * 2
    issued = [event for event in events if isinstance(event, TokenIssued)]
    assert len(issued) == 2
    for event in issued:
        assert event.record.created_at == NOW
        assert event.record.expires_at == NOW + timedelta(minutes=5)
        assert event.request is not None


async def test_a_login_replaces_the_token_it_came_with(world: World) -> None:
    """`knox_strategy` passes the request on, so a login revokes the token that it presents."""
    get_strategy = knox_strategy(get_store, clock=lambda: NOW)
    await world.database.create_user()

    async with world.client(AuthenticationBackend("knox", bearer(), get_strategy)) as client:
        client.headers.update(bearing(await login(client)))
        second = await login(client)
        answer = await client.get("/knox/sessions", headers=bearing(second))

    assert len(answer.json()) == 1


async def test_a_store_that_cannot_see_the_users_needs_the_user_database(world: World) -> None:
    """Over Redis the first request raises a TypeError unless `get_user_db` is passed or explicitly None."""
    await world.database.create_user()
    missing = AuthenticationBackend("knox", bearer(), knox_strategy(get_blind_store))
    waived = AuthenticationBackend("knox", bearer(), knox_strategy(get_blind_store, get_user_db=None))

    async with world.client(missing) as client:
        with pytest.raises(TypeError, match="user_db is missing"):
            await login(client)
    async with world.client(waived) as client:
        assert await login(client)


@pytest.mark.parametrize(
    ("arguments", "options", "message"),
    [
        ([Depends(get_store)], {}, "get_token_store must be a dependency"),
        ([get_store, "5 minutes"], {}, "settings must be KnoxSettings, not str"),
        ([get_store], {"get_user_db": Depends(get_user_db)}, "get_user_db must be a dependency"),
        ([None], {}, "get_token_store must be a dependency"),
        ([get_store], {"login_options": LoginOptions()}, "login_options must be a function of the user"),
    ],
)
def test_a_wrong_argument_is_refused_at_once(arguments: list[Any], options: dict[str, Any], message: str) -> None:
    """A wrong argument raises a TypeError that names it when the application is built."""
    with pytest.raises(TypeError, match=message):
        knox_strategy(*arguments, **options)


def test_its_type_is_known() -> None:
    """The dependency declares to return a `KnoxStrategy`, so routers accept its backend when they are made."""
    for get_strategy in (knox_strategy(get_store), knox_strategy(get_store, get_user_db=get_user_db)):
        assert get_strategy.__annotations__["return"].__origin__ is KnoxStrategy
