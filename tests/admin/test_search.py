"""The search for sessions, on the databases whose types for ids and rules for texts differ."""

import uuid

import pytest
from sqlalchemy.ext.asyncio import AsyncEngine

from fastapi_users_knox import UserClassError
from fastapi_users_knox.admin.search import user_class_of
from tests.admin.site import ROOT, Browser, Device, SessionAdmin, change_session, create_app
from tests.models import KnoxToken, User
from tests.site import ADA, client_of
from tests.strategies import stored
from tests.throttling.site import ThrottledWorld

POSTGRESQL = pytest.param("postgresql-asyncpg", marks=pytest.mark.unmeasured)
MARIADB = pytest.param("mariadb", marks=pytest.mark.unmeasured)
on_each_database = pytest.mark.parametrize("any_backend", ["sqlite", POSTGRESQL, MARIADB], indirect=True)


@pytest.fixture
async def addresses(engine: AsyncEngine, phone: Device, browser: Browser) -> None:  # noqa: ARG001 (the sessions)
    """Give the sessions distinct addresses, and the phone an ID."""
    for name, address in {"laptop": "192.0.2.1", "phone": "2001:db8::1"}.items():
        await change_session(engine, name, ip_address=address, device_id=f"id-of-{name}")


def names(rows: list[str]) -> set[str]:
    """Return the names of the devices in the list; the superuser's session has none."""
    return {name for row in rows for name in ("laptop", "phone", ROOT) if name in row}


FOUND: dict[str, set[str]] = {
    "ADA@example": {"laptop", "phone"},
    "root@": {ROOT},
    "  lapt ": {"laptop"},
    "192.0.2.": {"laptop"},
    "2001:DB8:": {"phone"},
    "id-of-phone": {"phone"},
    "id-of": set(),
    "0.2.1": set(),
    "a%p": set(),
    "_": set(),
    "lap\0top": {"laptop"},
    "1" * 50: set(),
    "';--": set(),
}


@on_each_database
@pytest.mark.usefixtures("addresses")
async def test_sessions_are_found(browser: Browser) -> None:
    """A session is found by e-mail address, by the device's name or ID, and by the beginning of its IP address."""
    assert {term: names(await browser.rows_found(term)) for term in FOUND} == FOUND


@on_each_database
@pytest.mark.usefixtures("addresses")
async def test_sessions_are_found_by_id(browser: Browser, ada: User, engine: AsyncEngine) -> None:
    """A session is found by its user's id or its own, in each form of a UUID."""
    phone = next(row.id for row in await stored(engine) if row.name == "phone")

    for spelled in (str, lambda id_: id_.hex, lambda id_: str(id_).upper()):
        assert names(await browser.rows_found(spelled(ada.id))) == {"laptop", "phone"}
        assert names(await browser.rows_found(spelled(phone))) == {"phone"}
    assert await browser.rows_found(str(uuid.uuid4())) == []


@pytest.mark.usefixtures("addresses")
async def test_the_user_in_the_list_leads_to_their_sessions(browser: Browser, ada: User) -> None:
    """The e-mail address in a row links to the list of that user's sessions."""
    page = await browser.get("/admin/knox-token/list")

    assert f'<a href="https://test/admin/knox-token/list?search={ada.id}">{ADA}</a>' in page.text
    assert "Search: user, IP address or device" in page.text


@pytest.mark.usefixtures("addresses")
async def test_users_elsewhere_have_no_address(world: ThrottledWorld, engine: AsyncEngine, ada: User) -> None:
    """If the users are not in this database, the list shows their ids, by which it can be searched."""

    class WithoutUsers(SessionAdmin, model=KnoxToken):
        users = None

    async with client_of(world.serving(create_app(engine, views=[WithoutUsers]))) as http:
        browser = Browser(http=http)
        await browser.log_in()
        rows, by_id = await browser.rows(), await browser.rows_found(str(ada.id))
        by_address = await browser.rows_found(ADA)

    assert all(ADA not in row for row in rows)
    assert (len(by_id), len(by_address)) == (2, 0)


def test_the_users_may_be_named() -> None:
    """The class of the users is found by the foreign key, or named as for the store."""
    tokens = KnoxToken.__mapper__

    found = [user_class_of(tokens, users) for users in (..., User)]

    assert [users and users.mapper.class_ for users in found] == [User, User]
    with pytest.raises(UserClassError, match="does not refer to KnoxToken"):
        user_class_of(tokens, KnoxToken)
