"""The admin pages in a real browser: what a superuser clicks has its effect."""

import uuid
from collections.abc import AsyncIterator

import pytest
from playwright.async_api import Browser, Page, expect

from fastapi_users_knox import KnoxEvent
from tests.admin.site import ROOT, Device
from tests.browsers import Online, open_chromium, serving
from tests.models import User
from tests.site import ADA, PASSWORD, Served
from tests.strategies import reasons

pytestmark = pytest.mark.unmeasured


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
async def site(served: Served) -> AsyncIterator[Online]:
    """Serve the application."""
    async with serving(served) as online:
        yield online


@pytest.fixture
async def page(chromium: Browser, site: Online) -> AsyncIterator[Page]:
    """Open the login page in a new profile without cookies."""
    async with await chromium.new_context() as profile:
        page = await profile.new_page()
        await page.goto(f"http://localhost:{site.port}/admin/")
        yield page


async def log_in(page: Page, email: str = ROOT) -> None:
    """Fill in the login form and send it."""
    await page.fill("input[name=username]", email)
    await page.fill("input[name=password]", PASSWORD)
    await page.click("button[type=submit]")


async def open_sessions(page: Page) -> None:
    """Log the superuser in, and open the list of sessions from the menu."""
    await log_in(page)
    await page.click("text=Sessions")


@pytest.mark.usefixtures("root", "phone", "robot")
async def test_a_superuser_finds_sessions(page: Page) -> None:
    """The superuser logs in, sees the sessions, filters them and searches among them."""
    await open_sessions(page)
    rows = page.locator("tbody tr")
    await expect(rows).to_have_count(4)

    await page.locator("#filter-sidebar").get_by_text("api", exact=True).click()
    await expect(rows).to_have_count(1)
    await expect(rows).to_contain_text("robot")

    await page.locator("#filter-sidebar").get_by_text("(default)").click()
    await page.fill("#search-input", "lapt")
    await page.press("#search-input", "Enter")
    await expect(rows).to_have_count(1)
    await expect(rows).to_contain_text("laptop")


@pytest.mark.usefixtures("root")
async def test_selected_sessions_are_revoked(
    page: Page, laptop: Device, phone: Device, robot: Device, events: list[KnoxEvent[uuid.UUID]]
) -> None:
    """The selected sessions are revoked at once: their devices are out, and their events are published."""
    await open_sessions(page)
    events.clear()

    for name in ("laptop", "robot"):
        await page.locator("tbody tr", has_text=name).locator("input.select-box").check()
    await page.get_by_role("button", name="Actions").click()
    await page.click("#action-delete")
    await expect(page.locator("#modal-delete-text")).not_to_be_empty()
    await page.click("#modal-delete-button")

    await expect(page.locator("tbody tr")).to_have_count(2)
    assert [await device.is_logged_in() for device in (laptop, phone, robot)] == [False, True, False]
    assert reasons(events) == ["admin", "admin"]


@pytest.mark.usefixtures("root")
async def test_the_button_on_the_page_of_a_user_revokes_all(
    page: Page, phone: Device, robot: Device, ada: User
) -> None:
    """The page of a user has a button that revokes the sessions of every audience."""
    await log_in(page)
    await page.click("text=Users")
    await page.locator("tbody tr", has_text=ada.email).locator("a:has(.fa-eye)").click()

    await page.get_by_role("button", name="Revoke all sessions of this user").click()

    await expect(page.get_by_role("cell", name="none")).to_be_visible()
    assert [await device.is_logged_in() for device in (phone, robot)] == [False, False]


@pytest.mark.usefixtures("ada")
async def test_an_ordinary_user_is_refused(page: Page) -> None:
    """The form refuses an ordinary user with the right password, and the browser gets no cookie."""
    await log_in(page, ADA)

    await expect(page.get_by_text("Invalid credentials.").first).to_be_visible()
    assert await page.context.cookies() == []


async def test_a_logout_everywhere_asks_for_the_login(page: Page, root: User, served: Served) -> None:
    """After a logout on all devices the next click leads to the login form."""
    await open_sessions(page)
    await expect(page.locator("tbody tr")).to_have_count(1)

    async with served.world.database.session() as session, served.world.database.store(session) as store:
        await served.world.strategy("knox", store, session, None).logout_all(root)
    await page.click("text=Users")

    await expect(page.locator("input[name=password]")).to_be_visible()


@pytest.mark.usefixtures("root")
async def test_the_logout_button_logs_out(page: Page) -> None:
    """The logout of the pages deletes the cookie and shows the login form."""
    await log_in(page)
    await page.click("text=Logout")

    await expect(page.locator("input[name=password]")).to_be_visible()
    assert await page.context.cookies() == []
