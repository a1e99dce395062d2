"""Re-authentication in place: the user of a session enters the password again, and the session is fresh again."""

import uuid
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from fastapi_users.authentication import BearerTransport
from sqlalchemy.ext.asyncio import AsyncEngine

from fastapi_users_knox import KnoxBearerTransport, KnoxEvent, KnoxSettings, TokenRevoked
from tests.models import User
from tests.routers.device import REDIS, ROUTES, Device, on_each_database, on_each_kind_of_store
from tests.routers.interrupted import Meanwhile, create_site, interrupt, interrupted
from tests.site import (
    ADA,
    HASHED,
    OLD_HASH,
    PASSWORD,
    PASSWORDS,
    Database,
    Knox,
    Served,
    UserRead,
    World,
    client_of,
    knox_backend,
    login,
)
from tests.strategies import HOUR, MINUTE, NOW, Clock, change_user

BAD_CREDENTIALS = (400, {"detail": "LOGIN_BAD_CREDENTIALS"})
INVALID = (401, {"detail": "Unauthorized"}, 'Bearer error="invalid_token"')
REAUTHENTICATION_REQUIRED = (401, {"detail": "REAUTHENTICATION_REQUIRED"})


@pytest.fixture
def settings() -> Mapping[str, KnoxSettings]:
    """Let the tokens be refreshed, for at most a day."""
    return {"knox": KnoxSettings(auto_refresh=True, auto_refresh_max_ttl=timedelta(days=1))}


@pytest.fixture
def app(world: World) -> Served:
    """Return the application."""
    return world.serving(create_site())


def of(token: str, device: Device) -> Device:
    """Return a device with another token."""
    return replace(device, token=token)


async def is_fresh(device: Device) -> bool:
    """Return whether a route that needs a recent login accepts the token."""
    answer = await device.call("GET", "/fresh")
    assert answer.status_code == 200 or (answer.status_code, answer.json()) == REAUTHENTICATION_REQUIRED
    return answer.status_code == 200


# what a re-authentication does


@on_each_database
async def test_the_session_stays_and_is_fresh_again(
    laptop: Device, phone: Device, clock: Clock, events: list[KnoxEvent[uuid.UUID]]
) -> None:
    """The answer is a login's, with a new token for the same session, of which only `authenticated_at` has changed."""
    before = await laptop.sessions()
    events.clear()
    stale = await is_fresh(laptop)

    response = await laptop.reauthenticate()

    body = response.json()
    new = of(body.pop("access_token"), laptop)
    assert response.status_code == 200
    assert body == {"token_type": "bearer", "expires_in": 10 * 3600, "expiry": "2030-01-01T23:00:00Z"}
    assert (response.headers["Cache-Control"], response.headers["Pragma"]) == ("no-store", "no-cache")
    now = clock.now.isoformat().replace("+00:00", "Z")
    assert await new.sessions() == [
        session | ({"authenticated_at": now} if session["current"] else {}) for session in before
    ]
    assert [await device.is_logged_in() for device in (laptop, new, phone)] == [False, True, True]
    assert (stale, await is_fresh(new)) == (False, True)
    assert [type(event).__name__ for event in events] == ["TokenReauthenticated"]


async def test_a_session_is_fresh_for_as_long_as_after_a_login(laptop: Device, clock: Clock) -> None:
    """A re-authentication counts as a recent login for the same time as a login, and can be repeated."""
    once = of((await laptop.reauthenticate()).json()["access_token"], laptop)
    clock.now += MINUTE
    seen = [await is_fresh(once)]
    clock.now += MINUTE
    seen.append(await is_fresh(once))
    twice = of((await once.reauthenticate()).json()["access_token"], laptop)

    assert [*seen, await is_fresh(twice)] == [True, False, True]


async def test_no_session_lives_longer(laptop: Device, clock: Clock) -> None:
    """Neither the expiry nor the cap moves: the session is refreshed only until a day after the login."""
    for _ in range(4):
        clock.now = clock.now + 5 * HOUR
        laptop = of((await laptop.reauthenticate()).json()["access_token"], laptop)
    [session] = await laptop.sessions()
    clock.now = NOW + timedelta(days=1)

    assert session["expires_at"] == "2030-01-02T12:00:00Z"
    assert not await laptop.is_logged_in()


@on_each_kind_of_store
async def test_neither_refresh_nor_rotation_makes_a_session_fresh(laptop: Device) -> None:
    """Only a re-authentication makes the session fresh again, not its use, its refresh or a rotation."""
    [session] = await laptop.sessions()
    rotated = of((await laptop.call("POST", "/knox/rotate")).json()["access_token"], laptop)

    assert session["expires_at"] == "2030-01-01T23:00:00Z"
    assert not await is_fresh(rotated)


async def test_at_the_limit(world: World, ada: User) -> None:
    """The limit does not matter, because no session is added."""
    async with world.having(knox=KnoxSettings(token_limit_per_user=1)).client(knox_backend()) as client:
        device = Device(http=client, token=await login(client, email=ada.email))

        assert (await device.reauthenticate()).status_code == 200


async def test_the_stock_bearer_transport_will_do(world: World, ada: User) -> None:
    """With FastAPI-Users' `BearerTransport` the answer is the one of that transport, but is not cached."""
    async with world.client(knox_backend(transport=BearerTransport("knox/login"))) as client:
        device = Device(http=client, token=await login(client, email=ada.email))
        response = await device.reauthenticate()

    assert sorted(response.json()) == ["access_token", "token_type"]
    assert response.headers["Cache-Control"] == "no-store"


async def test_the_answer_has_the_user_if_a_login_s_has(world: World, ada: User, engine: AsyncEngine) -> None:
    """With `user_schema` the answer contains the user, although the check of the password has replaced the hash."""
    transport = KnoxBearerTransport("knox/login", user_schema=UserRead)
    async with world.client(knox_backend(transport=transport)) as client:
        device = Device(http=client, token=await login(client, email=ada.email))
        await change_user(engine, ada, hashed_password=OLD_HASH)
        response = await device.reauthenticate()

    assert response.json()["user"]["email"] == ada.email


# the routes of the sessions

GUARDED = [route for route in ROUTES if route[1] not in {"/knox/rotate", "/knox/reauthenticate"}]


@pytest.mark.parametrize(("method", "path"), GUARDED)
async def test_the_sessions_routes_may_need_a_recent_login(laptop: Device, method: str, path: str) -> None:
    """With `fresh_within`, an old session may only re-authenticate, and then list and revoke sessions."""
    guarded = path.replace("/knox", "/guarded")

    refused = await laptop.call(method, guarded)
    fresh = of((await laptop.reauthenticate("/guarded")).json()["access_token"], laptop)
    accepted = await fresh.call(method, guarded)

    assert (refused.status_code, refused.json()) == REAUTHENTICATION_REQUIRED
    assert accepted.status_code in {200, 204, 404}


async def test_an_old_session_may_rotate_its_token(laptop: Device) -> None:
    """With `fresh_within`, a token can still be rotated, which reveals nothing and does not make the session fresh."""
    rotated = of((await laptop.call("POST", "/guarded/rotate")).json()["access_token"], laptop)

    assert await rotated.is_logged_in()
    assert not await is_fresh(rotated)


# who may re-authenticate


@on_each_kind_of_store
async def test_a_wrong_password_changes_nothing(laptop: Device, events: list[KnoxEvent[uuid.UUID]]) -> None:
    """A wrong password gets the answer of a login with a wrong password, and the session stays as it is."""
    before = await laptop.sessions()
    events.clear()

    response = await laptop.reauthenticate(password="wrong")

    assert (response.status_code, response.json()) == BAD_CREDENTIALS
    assert await laptop.sessions() == before
    assert not await is_fresh(laptop)
    assert events == []


async def test_a_password_is_needed(laptop: Device) -> None:
    """Without a password the answer is 422, and with an empty one that of a wrong password."""
    missing = await laptop.call("POST", "/knox/reauthenticate")
    empty = await laptop.reauthenticate(password="")

    assert missing.status_code == 422
    assert empty.status_code in {400, 422}
    assert not await is_fresh(laptop)


async def test_who_logs_in_by_oauth_knows_no_password(laptop: Device, ada: User, engine: AsyncEngine) -> None:
    """A user whose password is the random one of FastAPI-Users' OAuth router gets the answer of a wrong password."""
    await change_user(engine, ada, hashed_password=PASSWORDS.hash(PASSWORDS.generate()))

    response = await laptop.reauthenticate()

    assert (response.status_code, response.json()) == BAD_CREDENTIALS


@on_each_kind_of_store
async def test_an_api_token_cannot_re_authenticate(laptop: Device, world: World, ada: User) -> None:
    """A token with scopes is refused, even with the right password."""
    async with world.database.session() as session, world.database.store(session) as store:
        strategy = world.strategy("knox", store, session, None)
        token = await strategy.issue(ada, scopes={"reports:read"}, replace=False)

    response = await of(token, laptop).reauthenticate()

    assert (response.status_code, response.json(), response.headers["WWW-Authenticate"]) == INVALID


# an override of `authenticate`


async def test_another_user_s_password_does_not_count(world: World, laptop: Device, database: Database) -> None:
    """If `authenticate` returns another user than the session's, the answer is that of a wrong password."""
    eve = await database.create_user("eve@example.org")

    async def return_eve(_user: User | None) -> User | None:
        return eve

    async with interrupted(world, laptop, return_eve) as device:
        response = await device.reauthenticate()

    assert (response.status_code, response.json()) == BAD_CREDENTIALS
    assert not await is_fresh(laptop)


@on_each_kind_of_store
async def test_who_has_just_become_inactive_is_refused(world: World, laptop: Device) -> None:
    """If `authenticate` returns the user as inactive, the answer is that of a wrong password."""

    async def deactivate(user: User | None) -> User | None:
        assert user is not None
        user.is_active = False
        return user

    async with interrupted(world, laptop, deactivate) as device:
        response = await device.reauthenticate()

    assert (response.status_code, response.json()) == BAD_CREDENTIALS
    assert not await is_fresh(laptop)


async def test_the_login_form_is_passed(world: World, laptop: Device) -> None:
    """An override of `authenticate` receives what it receives at a login, with the e-mail address as user name."""

    async def stay(user: User | None) -> User | None:
        return user

    changed = interrupt(world, stay)
    async with client_of(changed.serving(create_site())) as http:
        await login(http)
        response = await replace(laptop, http=http).reauthenticate()

    login_form, form = changed.forms
    assert response.status_code == 200
    assert vars(form) == vars(login_form)
    assert (form.username, form.password) == (ADA, PASSWORD)


# what happens between the check of the password and the write


@on_each_kind_of_store
@pytest.mark.parametrize("expire_on_commit", [True, False])
async def test_an_outdated_hash_is_replaced(
    world: World, laptop: Device, ada: User, engine: AsyncEngine, *, expire_on_commit: bool
) -> None:
    """The check of the password replaces an outdated hash, which is no change of the password."""
    await change_user(engine, ada, hashed_password=OLD_HASH)
    database = replace(world.database, expire_on_commit=expire_on_commit)
    async with client_of(replace(world, database=database).serving(create_site())) as http:
        response = await replace(laptop, http=http).reauthenticate()
        new = of(response.json()["access_token"], laptop)

    async with world.database.session() as session:
        stored = await session.get_one(User, ada.id)
    assert response.status_code == 200
    assert stored.hashed_password not in {OLD_HASH, HASHED}
    assert await is_fresh(new)


CHANGES: list[Mapping[str, Any]] = [{"hashed_password": "another hash"}, {"is_active": False}]
changes = pytest.mark.parametrize("values", CHANGES, ids=["password", "activity"])


def changing(engine: AsyncEngine, ada: User, values: Mapping[str, Any]) -> Meanwhile:
    """Return a function with which another request changes the user."""

    async def change(user: User | None) -> User | None:
        await change_user(engine, ada, **values)
        return user

    return change


@pytest.mark.parametrize("any_backend", ["sqlite", "postgresql-asyncpg", "mariadb"], indirect=True)
@changes
async def test_a_change_of_the_user_is_seen_by_the_write(
    world: World, laptop: Device, ada: User, engine: AsyncEngine, values: Mapping[str, Any]
) -> None:
    """If the user changes after the check, a store that sees the users changes nothing."""
    async with interrupted(world, laptop, changing(engine, ada, values)) as device:
        response = await device.reauthenticate()

    await change_user(engine, ada, is_active=True)
    assert (response.status_code, response.json()) == BAD_CREDENTIALS
    assert await laptop.is_logged_in()
    assert not await is_fresh(laptop)


@pytest.mark.parametrize("any_backend", [REDIS], indirect=True)
@changes
async def test_a_change_of_the_user_is_seen_after_the_write(
    world: World,
    laptop: Device,
    ada: User,
    engine: AsyncEngine,
    *,
    values: Mapping[str, Any],
    events: list[KnoxEvent[uuid.UUID]],
) -> None:
    """If the user changes after the check, the session in a store that does not see the users is revoked."""
    events.clear()

    async with interrupted(world, laptop, changing(engine, ada, values)) as device:
        response = await device.reauthenticate()

    await change_user(engine, ada, is_active=True)
    assert (response.status_code, response.json()) == BAD_CREDENTIALS
    assert not await laptop.is_logged_in()
    revoked = [event for event in events if isinstance(event, TokenRevoked)]
    assert [(event.user_id, event.reason) for event in revoked] == [(ada.id, "password_changed")]
    assert revoked == events[-1:]


async def rotate(strategy: Knox, token: str, user: User) -> None:
    """Rotate the token."""
    await strategy.rotate_token(token, user)


async def log_out(strategy: Knox, token: str, user: User) -> None:
    """Revoke the session."""
    await strategy.destroy_token(token, user)


async def log_out_all(strategy: Knox, token: str, user: User) -> None:
    """Revoke all sessions of the user."""
    del token
    await strategy.logout_all(user)


async def reauthenticate(strategy: Knox, token: str, user: User) -> None:
    """Re-authenticate in another request."""
    await strategy.reauthenticate(token, user)


@on_each_database
@pytest.mark.parametrize("end", [rotate, log_out, log_out_all, reauthenticate])
async def test_a_token_that_has_just_ended_is_refused(
    world: World, laptop: Device, ada: User, end: Callable[[Knox, str, User], Awaitable[None]]
) -> None:
    """If another request revokes or rotates the token after the check, the answer is 401, and nothing is revived."""

    async def meet(user: User | None) -> User | None:
        async with world.database.session() as session, world.database.store(session) as store:
            await end(world.strategy("knox", store, session, None), laptop.token, ada)
        return user

    async with interrupted(world, laptop, meet) as device:
        response = await device.reauthenticate()

    assert (response.status_code, response.json(), response.headers["WWW-Authenticate"]) == INVALID
    assert not await laptop.is_logged_in()
