"""The cookie in a real browser."""

import time
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any

import pytest
from fastapi import FastAPI
from playwright.async_api import Browser, Page

from tests.browsers import Online, open_chromium, serving
from tests.models import User
from tests.site import Served, World, credentials
from tests.strategies import MINUTE, Clock
from tests.transports.pages import BEARER, COOKIE, create_app, remember_me

pytestmark = pytest.mark.unmeasured

FETCH = """async ([url, body]) => {
    const options = {method: "POST", credentials: "include", body: body && new URLSearchParams(body)};
    try { return (await fetch(url, options)).status } catch { return 0 }
}"""
WEBSOCKET = """url => new Promise(resolve => {
    const socket = new WebSocket(url);
    socket.onmessage = message => resolve(message.data);
    socket.onerror = () => resolve(null);
})"""


FORM = """<form method="post" action="/cookie/login">
    <input name="username"> <input name="password" type="password">
    <label><input name="remember" type="checkbox"> Remember me</label>
    <button>Log in</button>
</form>"""


@pytest.fixture
async def site(app: Served) -> AsyncIterator[Online]:
    """Serve the application."""
    async with serving(app) as served:
        yield served


@pytest.fixture
async def elsewhere() -> AsyncIterator[Online]:
    """Serve the pages of another site."""
    async with serving(FastAPI()) as served:
        yield served


@pytest.fixture(scope="module")
def anyio_backend() -> str:
    """Run all tests on one event loop, because they share a browser."""
    return "asyncio"


@pytest.fixture(scope="module")
async def chromium() -> AsyncIterator[Browser]:
    """Start the Chromium that is installed on this machine."""
    async with open_chromium() as browser:
        yield browser


@pytest.fixture
async def page(chromium: Browser, site: Online, ada: User) -> AsyncIterator[Page]:
    """Open a page of the application in a new profile without cookies, and log in."""
    async with await chromium.new_context() as profile:
        page = await profile.new_page()
        await page.goto(f"http://localhost:{site.port}/openapi.json")
        assert await fetch(page, site, "/cookie/login", credentials(ada.email)) == 204
        yield page


@pytest.fixture
async def form(chromium: Browser, world: World, ada: User) -> AsyncIterator[Page]:
    """Open the login form of an application that remembers only those who tick the checkbox."""
    app = replace(world, login_options=remember_me).serving(create_app(COOKIE, BEARER))
    async with serving(app) as site, await chromium.new_context(base_url=f"http://localhost:{site.port}") as profile:
        page = await profile.new_page()
        await page.goto("/openapi.json")
        await page.set_content(FORM)
        for name, value in credentials(ada.email).items():
            await page.fill(f"[name={name}]", value)
        yield page


async def fetch(page: Page, site: Online, path: str, body: dict[str, str] | None = None) -> int:
    """Send a POST from the page to the application, and return the status, or 0 if the page may not read it."""
    status: int = await page.evaluate(FETCH, [f"http://localhost:{site.port}{path}", body])
    return status


async def talk(page: Page, site: Online) -> str | None:
    """Open a WebSocket from the page to the application, and return the message received."""
    message: str | None = await page.evaluate(WEBSOCKET, f"ws://localhost:{site.port}/ws")
    return message


async def cookies(page: Page) -> dict[str, Any]:
    """Return the browser's cookies by name."""
    return {cookie.get("name", ""): cookie for cookie in await page.context.cookies()}


async def test_the_browser_keeps_the_cookie_from_scripts(page: Page) -> None:
    """The browser stores the `__Host-` cookie until the token expires, and hides it from scripts."""
    cookie = (await cookies(page))["__Host-knox"]

    assert (cookie["httpOnly"], cookie["secure"], cookie["sameSite"], cookie["path"]) == (True, True, "Lax", "/")
    assert 3500 < cookie["expires"] - time.time() < 3700
    assert await page.evaluate("document.cookie") == ""


async def test_the_application_s_own_page_uses_the_cookie(page: Page, site: Online) -> None:
    """Requests and WebSockets of the application's page authenticate until the logout deletes the cookie."""
    before = await fetch(page, site, "/plain"), await talk(page, site)
    logout = await fetch(page, site, "/cookie/logout")
    after = await fetch(page, site, "/plain"), await talk(page, site)

    assert (before, logout, after) == ((200, "ada@example.org"), 204, (401, None))
    assert await cookies(page) == {}


async def test_a_refresh_moves_the_browser_s_cookie(page: Page, site: Online, clock: Clock) -> None:
    """The cookie's expiry moves only when the token's does."""
    expiries = [(await cookies(page))["__Host-knox"]["expires"]]
    for after in (0 * MINUTE, 30 * MINUTE):
        clock.now += after
        assert await fetch(page, site, "/plain") == 200
        expiries.append((await cookies(page))["__Host-knox"]["expires"])

    assert expiries[0] == expiries[1] < expiries[2]


@pytest.mark.parametrize("remember", [True, False])
async def test_the_checkbox_decides_whether_the_cookie_ends_with_the_browser(
    form: Page, clock: Clock, *, remember: bool
) -> None:
    """Without "Remember me" the browser keeps the cookie until it is closed, also after a refresh set it again."""
    await form.set_checked("[name=remember]", checked=remember)
    async with form.expect_response("**/cookie/login") as login:
        await form.click("button")
    assert (await login.value).status == 204
    at_login = (await cookies(form))["__Host-knox"]["expires"]

    clock.now += 30 * MINUTE
    async with form.expect_response("**/plain") as use:
        await form.evaluate("fetch('/plain', {method: 'POST'})")
    renewed = await (await use.value).header_value("Set-Cookie")
    after_refresh = (await cookies(form))["__Host-knox"]["expires"]

    assert renewed is not None
    assert renewed.startswith("__Host-knox=")
    if remember:
        assert time.time() < at_login < after_refresh
    else:
        assert (at_login, after_refresh) == (-1, -1)


@pytest.mark.parametrize(("host", "sends_cookie"), [("localhost", True), ("127.0.0.1", False)])
async def test_another_page_cannot_use_it(
    page: Page, site: Online, elsewhere: Online, host: str, *, sends_cookie: bool
) -> None:
    """Requests of another page are refused: from the same site with the cookie, from another site without it."""
    await page.goto(f"http://{host}:{elsewhere.port}/openapi.json")
    site.answers.clear()

    assert (await fetch(page, site, "/plain"), await talk(page, site)) == (0, None)
    assert site.answers == [("http", sends_cookie, 401), ("websocket", sends_cookie, 401)]
