"""A cookie that ends with the browser: the record decides, at the login and whenever the cookie is set again."""

from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import timedelta
from http.cookies import SimpleCookie

import pytest
from httpx import AsyncClient, Response

from fastapi_users_knox import KnoxCookieTransport, KnoxSettings
from tests.models import User
from tests.site import World, client_of
from tests.strategies import DAY, HOUR, MINUTE, Clock
from tests.transports.pages import BEARER, COOKIE, create_app, log_in, remember_me

pytestmark = pytest.mark.unmeasured

TOKEN = KnoxCookieTransport().cookie_name
REMEMBER = {"remember": "on"}
LATER_SETTINGS = [
    KnoxSettings(token_ttl=HOUR, auto_refresh=True),
    KnoxSettings(token_ttl=30 * DAY, auto_refresh=True),
    KnoxSettings(token_ttl=HOUR, auto_refresh=True, auto_refresh_max_ttl=80 * MINUTE),
]


@pytest.fixture
def world(world: World) -> World:
    """Let the checkbox of the form decide."""
    return replace(world, login_options=remember_me)


@pytest.fixture
async def browser(world: World, ada: User) -> AsyncIterator[AsyncClient]:  # noqa: ARG001 (the user logs in)
    """Open a browser without cookies."""
    async with client_of(world.serving(create_app(COOKIE, BEARER))) as browser:
        yield browser


def lifetime(response: Response) -> tuple[str, str]:
    """Return the Max-Age and the Expires of the cookie that a response sets; empty texts if it has none."""
    [header] = response.headers.get_list("Set-Cookie")
    cookie = SimpleCookie(header)[TOKEN]
    return cookie["max-age"], cookie["expires"]


async def test_a_login_without_the_checkbox_sets_a_cookie_of_the_browser_session(browser: AsyncClient) -> None:
    """The cookie has neither Max-Age nor Expires, and all its other attributes."""
    response = await log_in(browser)

    assert response.headers["Set-Cookie"] == (
        f"{TOKEN}={browser.cookies[TOKEN]}; HttpOnly; Path=/; SameSite=lax; Secure"
    )


async def test_a_login_with_the_checkbox_sets_a_cookie_that_stays(browser: AsyncClient) -> None:
    """The cookie lives as long as its token."""
    assert lifetime(await log_in(browser, **REMEMBER)) == ("3600", "")


@pytest.mark.parametrize("settings", LATER_SETTINGS)
@pytest.mark.parametrize("still_chooses", [True, False])
@pytest.mark.parametrize("path", ["/plain", "/cookie/rotate"])
async def test_it_stays_a_cookie_of_the_browser_session(
    browser: AsyncClient,
    world: World,
    clock: Clock,
    settings: KnoxSettings,
    path: str,
    *,
    still_chooses: bool,
) -> None:
    """A renewal and a rotation set the cookie without Max-Age, whatever settings and options the application has."""
    await log_in(browser)
    clock.now += 30 * MINUTE
    later = replace(world.having(cookie=settings), login_options=remember_me if still_chooses else None)

    async with client_of(later.serving(create_app(COOKIE, BEARER))) as same:
        same.cookies = browser.cookies
        response = await same.post(path)

    assert (response.is_success, lifetime(response)) == (True, ("", ""))


@pytest.mark.parametrize("path", ["/plain", "/cookie/rotate"])
async def test_a_cookie_that_stays_does_not_become_one_of_the_browser_session(
    browser: AsyncClient, clock: Clock, path: str
) -> None:
    """A cookie with a Max-Age gets a new one, although a login would now set a cookie without."""
    await log_in(browser, **REMEMBER)
    clock.now += 30 * MINUTE

    assert lifetime(await browser.post(path)) == ("3600", "")


@pytest.mark.parametrize("remember", [True, False])
async def test_a_reauthentication_keeps_the_kind_of_cookie(
    browser: AsyncClient, world: World, ada: User, clock: Clock, *, remember: bool
) -> None:
    """The cookie of a session whose user proved again who they are is of the same kind as before."""
    await log_in(browser, **REMEMBER if remember else {})
    clock.now += 30 * MINUTE

    async with world.database.session() as session, world.database.store(session) as store:
        strategy = world.strategy("cookie", store, session, None)
        token = await strategy.reauthenticate(browser.cookies[TOKEN], await session.get_one(User, ada.id))
    response = await KnoxCookieTransport().get_login_response(token)

    assert SimpleCookie(response.headers["Set-Cookie"])[TOKEN]["max-age"] == ("1800" if remember else "")


@pytest.mark.parametrize("ttl", [HOUR, None])
@pytest.mark.usefixtures("ada")
async def test_an_endless_token_may_have_such_a_cookie(world: World, clock: Clock, ttl: timedelta | None) -> None:
    """Whether the token expires makes no difference for the cookie, and the token is valid until then."""
    endless = world.having(cookie=KnoxSettings(token_ttl=ttl))

    async with client_of(endless.serving(create_app(COOKIE, BEARER))) as browser:
        response = await log_in(browser)
        clock.now += 2 * HOUR
        later = await browser.get("/plain")

    assert (lifetime(response), later.status_code) == (("", ""), 200 if ttl is None else 401)
