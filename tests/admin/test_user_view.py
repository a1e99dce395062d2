"""The pages of the users: the page of one user lists the user's sessions, and can revoke all of them."""

import uuid

import pytest
from sqlalchemy.ext.asyncio import AsyncEngine

from fastapi_users_knox import KnoxEvent, TokenRevoked
from tests.admin.site import Browser, Device, UserAdmin, create_app, text_of
from tests.models import User
from tests.site import HASHED, client_of
from tests.strategies import reasons
from tests.throttling.site import ThrottledWorld

REDIS = pytest.param("redis-7", marks=pytest.mark.unmeasured)


async def sessions_of(browser: Browser, user: User) -> list[str]:
    """Return the sessions that the page of a user lists, as text."""
    page = await browser.get(f"/admin/user/details/{user.id}")
    assert page.status_code == 200, page.text
    table = page.text.partition("<td>Sessions</td>")[2].partition("</table>")[0]
    return [text_of(row) for row in table.split("<tr>")[2:]]


@pytest.mark.parametrize("any_backend", ["sqlite", REDIS], indirect=True)
@pytest.mark.usefixtures("phone", "robot")
async def test_the_page_of_a_user_lists_the_sessions(browser: Browser, ada: User, root: User) -> None:
    """The page lists the user's live sessions of every audience, newest first, wherever the tokens are stored."""
    sessions = await sessions_of(browser, ada)

    assert [row.split()[:2] for row in sessions] == [["live", "robot"], ["live", "phone"], ["live", "laptop"]]
    assert "2030-01-01 12:00:00 UTC" in sessions[2]
    assert [row.split()[:2] for row in await sessions_of(browser, root)] == [["this", "session"]]


@pytest.mark.usefixtures("laptop")
async def test_each_session_is_linked_to_its_page(browser: Browser, ada: User) -> None:
    """Each session leads to its own page, on which it can be revoked."""
    page = await browser.get(f"/admin/user/details/{ada.id}")
    link = page.text.partition('<td><a href="https://test/admin/knox-token/details/')[2].partition('"')[0]

    opened = await browser.get(f"/admin/knox-token/details/{link}")

    assert opened.status_code == 200
    assert "laptop" in opened.text


@pytest.mark.parametrize("any_backend", ["sqlite", REDIS], indirect=True)
async def test_all_sessions_of_a_user_are_revoked(
    browser: Browser, laptop: Device, robot: Device, ada: User, events: list[KnoxEvent[uuid.UUID]]
) -> None:
    """The button revokes the user's sessions of every audience, publishes each, and shows the page again."""
    url = f"/admin/user/revoke-sessions/{ada.id}"
    page = await browser.get(f"/admin/user/details/{ada.id}")
    events.clear()

    response = await browser.http.post(url, headers={"Sec-Fetch-Site": "same-origin"})

    assert f'action="https://test{url}"' in page.text
    assert (response.status_code, response.headers["Location"]) == (303, f"https://test/admin/user/details/{ada.id}")
    assert [await laptop.is_logged_in(), await robot.is_logged_in()] == [False, False]
    assert reasons(events) == ["admin", "admin"]
    assert {event.record.audience for event in events if isinstance(event, TokenRevoked)} == {"", "api"}
    assert await browser.is_admitted()


async def test_a_user_without_sessions_has_no_button(browser: Browser, ada: User) -> None:
    """If the user has no live session, the page says so."""
    page = await browser.get(f"/admin/user/details/{ada.id}")

    assert "none" in page.text.partition("<td>Sessions</td>")[2]
    assert "revoke-sessions" not in page.text


@pytest.mark.parametrize("pk", [uuid.UUID(int=0), "junk"])
async def test_an_unknown_user_is_not_found(browser: Browser, pk: object) -> None:
    """The page of an unknown user, and the button on it, are not found."""
    responses = [
        await browser.get(f"/admin/user/details/{pk}"),
        await browser.http.post(f"/admin/user/revoke-sessions/{pk}"),
    ]

    assert [response.status_code for response in responses] == [404, 404]


@pytest.mark.usefixtures("laptop")
async def test_the_pages_of_the_sessions_are_not_needed(
    world: ThrottledWorld, engine: AsyncEngine, ada: User, root: User
) -> None:
    """Without the pages of the sessions, as over Redis, the sessions have no link."""
    async with client_of(world.serving(create_app(engine, views=[UserAdmin]))) as http:
        browser = Browser(http=http)
        await browser.log_in(root.email)
        page = await browser.get(f"/admin/user/details/{ada.id}")

    assert "<td>live</td>" in page.text


async def test_no_page_shows_a_password_hash(browser: Browser, ada: User) -> None:
    """The hash of the password is shown nowhere, and nothing about a user can be changed or exported."""
    pages = [await browser.get(f"/admin/user/{path}") for path in ("list", f"details/{ada.id}")]
    refused = [await browser.get(f"/admin/user/{path}") for path in ("create", f"edit/{ada.id}", "export/csv")]
    deletion = await browser.http.delete(f"/admin/user/delete?pks={ada.id}")

    assert [page.status_code for page in pages] == [200, 200]
    assert all(ada.email in page.text and HASHED not in page.text for page in pages)
    assert [response.status_code for response in (*refused, deletion)] == [403] * 4
