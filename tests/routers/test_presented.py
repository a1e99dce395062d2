"""A password change keeps, and a login replaces, the session that authenticated the request, despite other tokens."""

import uuid
from collections.abc import AsyncIterator, Mapping
from datetime import timedelta
from http.cookiejar import DefaultCookiePolicy
from typing import Annotated

import pytest
from fastapi import Depends, FastAPI
from fastapi_users import BaseUserManager, UUIDIDMixin
from httpx import AsyncClient, Response

from fastapi_users_knox import (
    KnoxCookieTransport,
    KnoxSettings,
    KnoxUserManagerMixin,
    current_token,
)
from tests.models import User
from tests.routers.device import on_each_kind_of_store
from tests.site import (
    PASSWORDS,
    Database,
    Knox,
    Served,
    Session,
    UserDatabase,
    UserRead,
    UserUpdate,
    World,
    bearing,
    client_of,
    create_app,
    create_users,
    credentials,
    jwt_backend,
    knox_backend,
    login,
    shared,
)
from tests.strategies import HOUR, SECOND, Clock, unknown_token

pytestmark = on_each_kind_of_store

NAME = "__Host-knox"
LOOKS: dict[str, timedelta | None] = {"optional": None, "stale": SECOND}
REFRESHING = KnoxSettings(auto_refresh=True)


class Manager(KnoxUserManagerMixin[User, uuid.UUID], UUIDIDMixin, BaseUserManager[User, uuid.UUID]):
    """A user manager that revokes sessions."""

    reset_password_token_secret = verification_token_secret = "secret-of-the-tests-that-is-long-enough"


# One backend for the cookie, one for the header, and FastAPI-Users' JWT.
COOKIE = knox_backend("cookie", KnoxCookieTransport())
BACKENDS = (COOKIE, knox_backend(), jwt_backend())


async def get_user_manager(session: Session, strategy: Annotated[Knox, Depends(COOKIE.get_strategy)]) -> Manager:
    """Return a user manager that revokes the sessions of the first two backends."""
    return Manager(UserDatabase(session, User), PASSWORDS, knox=strategy)


@shared
def create_looking() -> FastAPI:
    """Build an application whose routes read the cookie's session before they authenticate the user."""
    users = create_users(*BACKENDS, get_user_manager=get_user_manager)
    bearers = create_users(*BACKENDS[1:], get_user_manager=get_user_manager)
    looking = FastAPI()
    for name, within in LOOKS.items():
        look = current_token(users, COOKIE, optional=True, touch=False, fresh_within=within)
        router = bearers.get_users_router(UserRead, UserUpdate)
        looking.include_router(router, prefix=f"/{name}/users", dependencies=[Depends(look)])
    return looking


@pytest.fixture
def settings() -> Mapping[str, KnoxSettings]:
    """Let the tokens of both backends be refreshed."""
    return {"cookie": REFRESHING, "knox": REFRESHING}


@pytest.fixture
def app(world: World) -> Served:
    """Return an application with that user manager."""
    return world.serving(create_app(*BACKENDS, renews_cookies=True, get_user_manager=get_user_manager))


@pytest.fixture
async def eve(database: Database) -> User:
    """Create another user."""
    return await database.create_user("eve@example.org")


@pytest.fixture
async def program(app: Served) -> AsyncIterator[AsyncClient]:
    """Open a client that keeps no cookies."""
    async with client_of(app) as client:
        client.cookies.jar.set_policy(DefaultCookiePolicy(allowed_domains=[]))
        yield client


async def log_in(client: AsyncClient, email: str, *cookies: str) -> str:
    """Log in with these cookies, and return the new cookie's token."""
    headers = {"Cookie": "; ".join(cookies)} if cookies else {}
    response = await client.post("/cookie/login", data=credentials(email), headers=headers)
    assert response.status_code == 204, response.text
    name, _, value = response.headers["Set-Cookie"].partition(";")[0].partition("=")
    assert name == NAME
    return str(value)


async def is_alive(client: AsyncClient, token: str) -> bool:
    """Return whether a token is accepted in the header."""
    return (await client.get("/users/me", headers=bearing(token))).status_code == 200


async def change_password(client: AsyncClient, headers: dict[str, str]) -> Response:
    """Change the current user's password."""
    return await client.patch("/users/me", json={"password": "another password"}, headers=headers)


def decoys(user: User) -> list[str]:
    """Return well-formed tokens that were never issued."""
    return [unknown_token(user) for _ in range(8)]


@pytest.mark.parametrize("name", ["planted", NAME])
async def test_a_change_keeps_the_session_that_made_it(program: AsyncClient, ada: User, name: str) -> None:
    """A password change keeps only the session of its cookie, even if other tokens, live or made up, come with it."""
    own, planted, phone = [await log_in(program, ada.email) for _ in range(3)]
    before = [f"{name}={token}" for token in (*decoys(ada), planted)]
    after = [f"z{number}={token}" for number, token in enumerate([*decoys(ada), phone])]
    cookies = "; ".join([*before, f"{NAME}={own}", *after])

    response = await change_password(program, {"Cookie": cookies, "X-Planted": planted})

    assert response.status_code == 200, response.text
    assert [await is_alive(program, token) for token in (own, planted, phone)] == [True, False, False]


async def test_a_change_by_header_keeps_the_header_s_session(program: AsyncClient, ada: User) -> None:
    """A password change keeps the header's session if that authenticates the request and the cookie is invalid."""
    own, planted = await login(program, email=ada.email), await login(program, email=ada.email)
    headers = bearing(own) | {"Cookie": f"{NAME}={decoys(ada)[0]}; x={planted}"}

    response = await change_password(program, headers)

    assert response.status_code == 200, response.text
    assert [await is_alive(program, token) for token in (own, planted)] == [True, False]


async def test_what_a_jwt_authenticated_keeps_nothing(program: AsyncClient, ada: User) -> None:
    """A password change that a JWT authenticates keeps none of the presented tokens."""
    planted, jwt = await login(program, email=ada.email), await login(program, "jwt", email=ada.email)

    response = await change_password(program, bearing(jwt) | {"Cookie": f"x={planted}", "X-Planted": planted})

    assert response.status_code == 200, response.text
    assert not await is_alive(program, planted)


async def test_a_change_revokes_no_other_user_s_session(program: AsyncClient, ada: User, eve: User) -> None:
    """A password change keeps the session that made it and does not revoke a presented session of another user."""
    other = await log_in(program, eve.email)
    own = await log_in(program, ada.email)

    response = await change_password(program, {"Cookie": f"{NAME}={own}; x={other}"})

    assert response.status_code == 200, response.text
    assert [await is_alive(program, token) for token in (own, other)] == [True, True]


@pytest.mark.parametrize("look", LOOKS)
async def test_a_session_that_a_route_only_looks_at_is_not_kept(
    world: World, program: AsyncClient, ada: User, clock: Clock, look: str
) -> None:
    """A password change keeps the session that authenticates it, not one that an optional dependency has read."""
    planted = await log_in(program, ada.email)
    clock.now += 2 * SECOND
    own, jwt = await login(program, email=ada.email), await login(program, "jwt", email=ada.email)
    async with client_of(world.serving(create_looking())) as client:
        for token, kept in ((own, True), (jwt, False)):
            headers = bearing(token) | {"Cookie": f"{NAME}={planted}"}
            response = await client.patch(f"/{look}/users/me", json={"password": "another password"}, headers=headers)
            assert response.status_code == 200, response.text
            assert await is_alive(program, own) is kept
            assert not await is_alive(program, planted)


# logging in with a cookie


async def test_a_login_revokes_the_session_of_its_cookie(program: AsyncClient, ada: User, eve: User) -> None:
    """A login revokes the live session of its cookie, even another user's session, and despite many decoys."""
    old, other = await log_in(program, ada.email), await log_in(program, ada.email)
    cookies = [f"{NAME}={token}" for token in (*decoys(ada), old, *decoys(eve))]

    new = await log_in(program, eve.email, *cookies, f"other={other}")

    assert [await is_alive(program, token) for token in (old, other, new)] == [False, True, True]


async def test_a_slow_request_brings_no_user_back(program: AsyncClient, ada: User, eve: User, clock: Clock) -> None:
    """A slow response that renews the old user's cookie after another user's login does not log the old user in."""
    old = await log_in(program, ada.email)
    clock.now += HOUR
    slow = await program.get("/users/me", headers={"Cookie": f"{NAME}={old}"})

    await log_in(program, eve.email, f"{NAME}={old}")

    assert slow.headers["Set-Cookie"].startswith(f"{NAME}={old};")
    assert (await program.get("/users/me", headers={"Cookie": f"{NAME}={old}"})).status_code == 401


async def test_a_login_by_header_leaves_another_user_s_cookie(program: AsyncClient, ada: User, eve: User) -> None:
    """A login by the header transport does not revoke another user's session in the cookie."""
    other = await log_in(program, ada.email)

    response = await program.post("/knox/login", data=credentials(eve.email), headers={"Cookie": f"{NAME}={other}"})

    assert response.status_code == 200
    assert await is_alive(program, other)


async def test_a_refused_login_revokes_nothing(program: AsyncClient, ada: User) -> None:
    """A login with a wrong password does not revoke the cookie's session."""
    own = await log_in(program, ada.email)

    response = await program.post(
        "/cookie/login", data=credentials(ada.email, "wrong"), headers={"Cookie": f"{NAME}={own}"}
    )

    assert response.status_code == 400
    assert await is_alive(program, own)


# several cookies of one name, as after a change of the cookie's path or domain


@pytest.mark.parametrize("newest_first", [True, False])
@pytest.mark.parametrize("owner", ["own", "another's", "made-up", "junk"])
async def test_the_new_cookie_counts_beside_an_old_one(
    program: AsyncClient, ada: User, eve: User, *, newest_first: bool, owner: str
) -> None:
    """After a login the new cookie authenticates and can be logged out, sent before or after the old cookie."""
    old = {
        "own": await log_in(program, ada.email),
        "another's": await log_in(program, eve.email),
        "made-up": decoys(ada)[0],
        "junk": "junk",
    }[owner]
    new = await log_in(program, ada.email, f"{NAME}={old}")
    cookies = [f"{NAME}={new}", f"{NAME}={old}"]
    headers = {"Cookie": "; ".join(cookies if newest_first else reversed(cookies))}

    seen = await program.get("/users/me", headers=headers)
    logged_out = await program.post("/cookie/logout", headers=headers)

    assert (seen.status_code, seen.json().get("email")) == (200, ada.email)
    assert logged_out.status_code == 204
    assert not await is_alive(program, new)


@pytest.mark.parametrize("newest_first", [True, False])
async def test_of_two_live_cookies_the_newest_counts(
    program: AsyncClient, ada: User, eve: User, clock: Clock, *, newest_first: bool
) -> None:
    """Of two live cookies of one name, the session created last authenticates the request, in either order."""
    old = await log_in(program, eve.email)
    clock.now += SECOND
    new = await log_in(program, ada.email)
    cookies = [f"{NAME}={new}", f"{NAME}={old}"]
    headers = {"Cookie": "; ".join(cookies if newest_first else reversed(cookies))}

    seen = await program.get("/users/me", headers=headers)
    logged_out = await program.post("/cookie/logout", headers=headers)

    assert seen.json().get("email") == ada.email
    assert logged_out.status_code == 204
    assert [await is_alive(program, token) for token in (old, new)] == [False, False]


async def test_of_two_cookies_the_one_that_lives_is_renewed(program: AsyncClient, ada: User, clock: Clock) -> None:
    """A refresh renews the cookie with the live token, not with the invalid token sent beside it."""
    new = await log_in(program, ada.email)
    clock.now += HOUR

    response = await program.get("/users/me", headers={"Cookie": f"{NAME}={new}; {NAME}={decoys(ada)[0]}"})

    assert response.headers["Set-Cookie"].startswith(f"{NAME}={new};")


async def test_few_cookies_of_one_name_are_tried(program: AsyncClient, ada: User) -> None:
    """Of a hundred cookies with one name only the last 16 are tried, because each costs a read."""
    own = await log_in(program, ada.email)
    cookies = [f"{NAME}={own}", *(f"{NAME}={unknown_token(ada)}" for _ in range(100))]

    response = await program.get("/users/me", headers={"Cookie": "; ".join(cookies)})

    assert response.status_code == 401
