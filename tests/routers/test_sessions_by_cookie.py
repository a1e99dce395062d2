"""The sessions' routes for browsers, which send their tokens in cookies, on each kind of store."""

import uuid
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from typing import Any

import pytest
from fastapi.requests import HTTPConnection
from httpx import AsyncClient
from sqlalchemy.ext.asyncio import AsyncSession

from fastapi_users_knox import KnoxCookieTransport, KnoxStrategy, LoginOptions
from tests.routers.device import each_route, on_each_kind_of_store
from tests.site import PASSWORD, Knox, Served, Store, World, client_of, create_app, credentials, knox_backend
from tests.strategies import HOUR, Clock

pytestmark = [on_each_kind_of_store, pytest.mark.unmeasured]

BACKEND = knox_backend(transport=KnoxCookieTransport())
COOKIE = "__Host-knox"


class Browsers:
    """Browsers that are logged in, each with its own cookies."""

    def __init__(self, app: Served, stack: AsyncExitStack) -> None:
        self._app = app
        self._stack = stack

    async def open(self, email: str = "ada@example.org") -> AsyncClient:
        """Log in with a new browser."""
        browser = await self._stack.enter_async_context(client_of(self._app))
        response = await browser.post("/knox/login", data=credentials(email))
        assert response.status_code == 204, response.text
        return browser


@pytest.fixture
async def browsers(world: World) -> AsyncIterator[Browsers]:
    """Return browsers for two users."""
    app = world.serving(create_app(BACKEND, renews_cookies=True))
    for email in ("ada@example.org", "eve@example.org"):
        await world.database.create_user(email)
    async with AsyncExitStack() as stack:
        yield Browsers(app, stack)


async def sessions(browser: AsyncClient) -> list[dict[str, Any]]:
    """Return the list of sessions that the browser sees."""
    listed: list[dict[str, Any]] = (await browser.get("/knox/sessions")).json()
    return listed


async def own_id(browser: AsyncClient) -> str:
    """Return the id of the browser's current session."""
    [own] = [session["id"] for session in await sessions(browser) if session["current"]]
    return str(own)


async def statuses(*browsers: AsyncClient) -> list[int]:
    """Call a protected route with each browser and return the statuses."""
    return [(await browser.get("/active")).status_code for browser in browsers]


async def test_one_browser_revokes_anothers_session(browsers: Browsers) -> None:
    """Revoking another session logs its browser out, and the requesting browser keeps its cookie."""
    laptop, phone = await browsers.open(), await browsers.open()

    response = await laptop.delete(f"/knox/sessions/{await own_id(phone)}")

    assert (response.status_code, "Set-Cookie" in response.headers) == (204, False)
    assert await statuses(laptop, phone) == [200, 401]


async def test_a_browser_revokes_its_own_session(browsers: Browsers) -> None:
    """Revoking the current session deletes the browser's cookie, as a logout does."""
    laptop, phone = await browsers.open(), await browsers.open()

    response = await laptop.delete(f"/knox/sessions/{await own_id(laptop)}")

    assert response.status_code == 204
    assert COOKIE not in laptop.cookies
    assert await statuses(laptop, phone) == [401, 200]


async def test_only_the_user_s_live_sessions_can_be_revoked(browsers: Browsers, clock: Clock) -> None:
    """An unknown, an expired and another user's session id get the same 404."""
    old = await own_id(await browsers.open())
    clock.now += 11 * HOUR
    laptop, stranger = await browsers.open(), await browsers.open("eve@example.org")
    ids = [uuid.uuid4(), await own_id(stranger), old]

    answers = [await laptop.delete(f"/knox/sessions/{other}") for other in ids]

    assert [answer.status_code for answer in answers] == [404] * 3
    assert await statuses(laptop, stranger) == [200, 200]


async def test_the_others_or_all_are_logged_out(browsers: Browsers) -> None:
    """`logout-others` keeps the cookie, `logout-all` deletes it, and other users stay logged in."""
    laptop, phone, stranger = [await browsers.open(), await browsers.open(), await browsers.open("eve@example.org")]

    others = await laptop.post("/knox/logout-others")
    after_others = await statuses(laptop, phone, stranger)
    everywhere = await laptop.post("/knox/logout-all")

    assert (others.status_code, after_others) == (204, [200, 401, 200])
    assert (everywhere.status_code, COOKIE in laptop.cookies) == (204, False)
    assert await statuses(laptop, stranger) == [401, 200]


async def test_a_rotation_sets_the_new_cookie(browsers: Browsers) -> None:
    """A rotation sets a cookie with the new token of the same session, and the old token is refused."""
    laptop = await browsers.open()
    old, before = laptop.cookies[COOKIE], await own_id(laptop)

    response = await laptop.post("/knox/rotate")

    assert response.headers.get_list("Set-Cookie") == [response.headers["Set-Cookie"]]
    assert laptop.cookies[COOKIE] != old
    assert await own_id(laptop) == before
    laptop.cookies.clear()
    assert (await laptop.get("/active", headers={"Cookie": f"{COOKIE}={old}"})).status_code == 401


async def test_a_re_authentication_sets_the_new_cookie(browsers: Browsers, clock: Clock) -> None:
    """A re-authentication sets one cookie with the new token of the same session, which expires when it did before."""
    laptop, phone = await browsers.open(), await browsers.open()
    old, before = laptop.cookies[COOKIE], await own_id(laptop)
    clock.now += HOUR

    response = await laptop.post("/knox/reauthenticate", data={"password": PASSWORD})

    [cookie] = response.headers.get_list("Set-Cookie")
    new = laptop.cookies[COOKIE]
    assert (response.status_code, response.headers["Cache-Control"]) == (204, "no-store")
    assert cookie == f"{COOKIE}={new}; HttpOnly; Max-Age={9 * 3600}; Path=/; SameSite=lax; Secure"
    assert new != old
    assert await own_id(laptop) == before
    assert await statuses(laptop, phone) == [200, 200]
    laptop.cookies.clear()
    assert (await laptop.get("/active", headers={"Cookie": f"{COOKIE}={old}"})).status_code == 401


async def test_a_wrong_password_leaves_the_cookie(browsers: Browsers) -> None:
    """A re-authentication with a wrong password sets no cookie, and the browser stays logged in."""
    laptop = await browsers.open()

    response = await laptop.post("/knox/reauthenticate", data={"password": "wrong"})

    assert (response.status_code, "Set-Cookie" in response.headers) == (400, False)
    assert await statuses(laptop) == [200]


class BriefWorld(World):
    """A world whose sessions end with the browser."""

    def strategy(self, backend: str, store: Store, session: AsyncSession, request: HTTPConnection | None) -> Knox:
        """Return a request's strategy."""
        del backend
        return KnoxStrategy(
            store,
            request=request,
            user_db=self.user_db(session),
            clock=self.clock,
            login_options=lambda _user, _request: LoginOptions(browser_session=True),
        )


async def test_a_cookie_that_ends_with_the_browser_stays_so(world: World) -> None:
    """After a re-authentication, the cookie of a browser session still has no Max-Age."""
    app = BriefWorld(database=world.database, clock=world.clock).serving(create_app(BACKEND, renews_cookies=True))
    await world.database.create_user()
    async with client_of(app) as browser:
        login = await browser.post("/knox/login", data=credentials())
        response = await browser.post("/knox/reauthenticate", data={"password": PASSWORD})

        cookies = [answer.headers["Set-Cookie"].partition("; ")[2] for answer in (login, response)]
        assert cookies == ["HttpOnly; Path=/; SameSite=lax; Secure"] * 2
        assert await statuses(browser) == [200]


@each_route
@pytest.mark.parametrize("cookie", [None, "junk", f"knox_{'0' * 51}"])
async def test_a_route_needs_a_valid_cookie(browsers: Browsers, method: str, path: str, cookie: str | None) -> None:
    """Without a valid cookie each route gives 401 and revokes nothing."""
    laptop, stranger = await browsers.open(), await browsers.open("eve@example.org")
    stranger.cookies.clear()

    response = await stranger.request(method, path, headers={"Cookie": f"{COOKIE}={cookie}"} if cookie else {})

    assert response.status_code == 401
    assert await statuses(laptop) == [200]
