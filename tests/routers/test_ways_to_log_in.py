"""Every way to log in that FastAPI-Users offers gives the same responses, records, revocations, events and refusals."""

from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from typing import Any

import pytest
from fastapi import FastAPI
from httpx import ASGITransport, AsyncClient, Response
from httpx_oauth.clients.openid import OpenID
from sqlalchemy.ext.asyncio import AsyncEngine

from fastapi_users_knox import KnoxSettings, TokenIssued, TokenLimitHit, TokenRevoked
from tests.backends import Backend, Engines, RedisBackend
from tests.conftest import backend_of
from tests.routers.ways_to_log_in import (
    OAUTH_ACCOUNTS,
    KnoxToken,
    Site,
    User,
    Way,
    by_careless_link,
    by_link,
    by_oauth,
    by_password,
    by_registration,
    create_app,
    serving_provider,
)
from tests.site import Database, RedisDatabase, bearing
from tests.strategies import HOUR

pytestmark = pytest.mark.unmeasured

ADA = "ada@example.org"
EVE = "eve@example.org"
NEWCOMER = "grace@example.org"
PHONE = {
    "X-Device-Id": "phone-1",
    "X-Device-Name": "Ada's phone",
    "User-Agent": "Phone/1.0",
}

MEMBERS: Mapping[str, tuple[Way, str]] = {
    "password": (by_password, ADA),
    "oauth": (by_oauth, ADA),
    "link": (by_link, ADA),
}
NEWCOMERS: Mapping[str, tuple[Way, str]] = {
    "registration": (by_registration, NEWCOMER),
    "oauth-newcomer": (by_oauth, NEWCOMER),
}


# Sessions that expire objects on commit are the harder case, so they stand for both kinds where the tokens are in the
# users' database. FastAPI-Users' OAuth callback reads the user after a commit, so it needs sessions that keep objects.
PLACES = (("sqlite", True), ("redis-7", False))
OAUTH_PLACES = (("sqlite", False), ("redis-7", False))
EVERY_PLACE = (("sqlite", False), ("sqlite", True), ("redis-7", False), ("redis-7", True))


def going(ways: Mapping[str, tuple[Way, str]], places: Sequence[tuple[str, bool]] = PLACES) -> pytest.MarkDecorator:
    """Run a test for each of these ways, with the tokens in the users' database and in Redis."""
    cases = [
        pytest.param(way, email, store, expires, id=f"{name}-{store}-{'expiring' if expires else 'keeping'}")
        for name, (way, email) in ways.items()
        for store, expires in (OAUTH_PLACES if way is by_oauth else places)
    ]
    return pytest.mark.parametrize(("way", "email", "store", "expire_on_commit"), cases)


every_way = going({**MEMBERS, **NEWCOMERS})
every_way_of_a_member = going(MEMBERS)


@pytest.fixture(scope="module")
def openid() -> Iterator[OpenID]:
    """Serve a provider and return the application's client of it."""
    with serving_provider() as client:
        yield client


@pytest.fixture(scope="module")
def app(openid: OpenID) -> FastAPI:
    """Return the application, which all tests share."""
    return create_app(openid)


@pytest.fixture
def any_backend(request: pytest.FixtureRequest, store: str, engines: Engines) -> Backend:
    """Return the backend with the users and their tokens."""
    return backend_of(store, request, engines.directory)


@pytest.fixture
async def database(engine: AsyncEngine, any_backend: Backend, *, expire_on_commit: bool) -> AsyncIterator[Database]:
    """Return the application's database with two users; if the backend is Redis, the tokens are there."""
    async with engine.begin() as connection:
        await connection.run_sync(OAUTH_ACCOUNTS.create, checkfirst=True)
        await connection.execute(OAUTH_ACCOUNTS.delete())
    parts: dict[str, Any] = {"engine": engine, "expire_on_commit": expire_on_commit, "user": User, "token": KnoxToken}
    database = Database(**parts)
    await database.create_user(ADA)
    await database.create_user(EVE)
    if not isinstance(any_backend, RedisBackend):
        yield database
        return
    async with any_backend.connect() as redis:
        await redis.flushall()
        yield RedisDatabase(**parts, redis=redis)


@pytest.fixture
def site(database: Database) -> Site:
    """Return what the application works with."""
    return Site(database=database)


@pytest.fixture
def open_browser(site: Site, app: FastAPI) -> Callable[[str], AsyncClient]:
    """Return a function that opens a browser at one of the application's backends."""
    transport = ASGITransport(site.serving(app))
    return lambda backend: AsyncClient(transport=transport, base_url=f"https://test/{backend}")


@pytest.fixture
async def browser(open_browser: Callable[[str], AsyncClient]) -> AsyncIterator[AsyncClient]:
    """Open a browser at the backend that takes tokens from the header."""
    async with open_browser("bearer") as browser:
        yield browser


def token_of(response: Response) -> str:
    """Return the token in a login response."""
    assert response.status_code == 200, response.text
    token: str = response.json()["access_token"]
    return token


async def user_of(browser: AsyncClient, token: str) -> str | None:
    """Return the e-mail address of the user whom a token authenticates, or None."""
    response = await browser.get("/who", headers=bearing(token))
    return response.json() if response.status_code == 200 else None


def published(site: Site) -> list[tuple[Any, ...]]:
    """Return the type of each published event with its record and reason, and clear the log."""
    events = [_described(event) for event in site.events]
    site.events.clear()
    return events


def _described(event: Any) -> tuple[Any, ...]:
    """Return the parts of an event that a test compares."""
    match event:
        case TokenRevoked():
            return TokenRevoked, event.record.id, event.reason
        case TokenLimitHit():
            return TokenLimitHit, event.limit
        case _:
            return type(event), event.record.id


@every_way
async def test_the_response(site: Site, browser: AsyncClient, way: Way, email: str) -> None:
    """The login response has the token and its expiry, and must not be cached (RFC 6749 §5.1)."""
    site.settings["bearer"] = KnoxSettings(token_ttl=HOUR)

    response = await way(browser, email, None)

    token = token_of(response)
    assert response.json() == {
        "access_token": token,
        "token_type": "bearer",
        "expires_in": 3600,
        "expiry": "2030-01-01T13:00:00Z",
    }
    assert response.headers["Cache-Control"] == "no-store"
    assert await user_of(browser, token) == email


@going({**MEMBERS, **NEWCOMERS}, EVERY_PLACE)
async def test_the_user_can_be_read_after_the_login(site: Site, browser: AsyncClient, way: Way, email: str) -> None:
    """`on_after_login` can read the user's attributes after the token was written."""
    await way(browser, email, None)

    assert site.notes == [email]


@every_way
async def test_the_client_is_described(site: Site, browser: AsyncClient, way: Way, email: str) -> None:
    """The record describes the device, user agent and address of the client."""
    await way(browser, email, PHONE)

    [record] = await site.records(email)
    assert (record.device_id, record.name, record.user_agent, record.ip_address) == (
        "phone-1",
        "Ada's phone",
        "Phone/1.0",
        "127.0.0.1",
    )


@every_way
async def test_a_login_publishes_an_event(site: Site, browser: AsyncClient, way: Way, email: str) -> None:
    """A login publishes one event with the record, the client and the request."""
    await way(browser, email, PHONE)

    [event] = site.events
    [record] = await site.records(email)
    assert isinstance(event, TokenIssued)
    assert (event.record, event.user_id, event.client.device_id) == (record, record.user_id, "phone-1")
    assert event.request is not None


@every_way
async def test_the_tokens_of_others_stay(browser: AsyncClient, way: Way, email: str) -> None:
    """A login that presents another user's token, from that user's device, revokes no token of that user."""
    other = token_of(await by_password(browser, EVE, PHONE))

    token = token_of(await way(browser, email, PHONE | bearing(other)))

    assert [await user_of(browser, text) for text in (other, token)] == [EVE, email]


@every_way
@pytest.mark.parametrize(
    "change", [{"is_active": False}, {"hashed_password": "another"}], ids=["deactivated", "password"]
)
async def test_a_user_who_is_changed_meanwhile_is_refused(
    site: Site, browser: AsyncClient, way: Way, email: str, change: Mapping[str, object]
) -> None:
    """A login fails if the user is changed between its check and its write."""
    site.meanwhile.update(change)

    response = await way(browser, email, None)

    assert (response.status_code, response.json()) == (400, {"detail": "LOGIN_BAD_CREDENTIALS"})
    assert (await site.records(email), site.events, site.notes) == ([], [], [])


@every_way_of_a_member
async def test_an_inactive_user_is_refused(site: Site, browser: AsyncClient, way: Way, email: str) -> None:
    """An inactive user cannot log in, and the user's existing records stay."""
    await way(browser, email, None)
    before = await site.records(email)
    await site.change_user(email, {"is_active": False})
    published(site)

    response = await way(browser, email, PHONE)

    assert (response.status_code, response.json()) == (400, {"detail": "LOGIN_BAD_CREDENTIALS"})
    assert (await site.records(email), site.events) == (before, [])


@going({"careless-link": (by_careless_link, ADA)})
async def test_no_token_is_issued_for_an_inactive_user(site: Site, browser: AsyncClient, way: Way, email: str) -> None:
    """Even a route that does not check the user issues no token for an inactive user."""
    await site.change_user(email, {"is_active": False})

    response = await way(browser, email, None)

    assert (response.status_code, response.json()) == (400, {"detail": "LOGIN_BAD_CREDENTIALS"})


@every_way_of_a_member
async def test_the_presented_token_is_revoked(site: Site, browser: AsyncClient, way: Way, email: str) -> None:
    """A login revokes the token presented and publishes the replaced record (ASVS 7.2.4)."""
    old = token_of(await by_password(browser, email, None))
    [replaced] = await site.records(email)
    published(site)

    token = token_of(await way(browser, email, bearing(old)))

    [record] = await site.records(email)
    assert published(site) == [(TokenRevoked, replaced.id, "replaced"), (TokenIssued, record.id)]
    assert [await user_of(browser, text) for text in (old, token)] == [None, email]


@every_way_of_a_member
async def test_a_browser_s_session_is_replaced(
    site: Site, open_browser: Callable[[str], AsyncClient], way: Way, email: str
) -> None:
    """A second login in a browser replaces its session."""
    async with open_browser("cookie") as browser:
        first = await way(browser, email, None)
        old = browser.cookies["__Host-knox"]
        second = await way(browser, email, None)
        who = await browser.get("/who")

    assert (first.status_code, second.status_code, who.json()) == (204, 204, email)
    assert browser.cookies["__Host-knox"] != old
    assert len(await site.records(email)) == 1


@every_way_of_a_member
async def test_the_record_of_the_device_is_replaced(site: Site, browser: AsyncClient, way: Way, email: str) -> None:
    """A login from a device replaces the device's record, even without presenting its token."""
    old = token_of(await by_password(browser, email, PHONE))
    elsewhere = token_of(await by_password(browser, email, None))
    [replaced] = [record for record in await site.records(email) if record.device_id]
    published(site)

    token = token_of(await way(browser, email, PHONE))

    [record] = [record for record in await site.records(email) if record.device_id]
    assert published(site) == [(TokenRevoked, replaced.id, "replaced"), (TokenIssued, record.id)]
    assert [await user_of(browser, text) for text in (old, elsewhere, token)] == [None, email, email]


@every_way_of_a_member
async def test_the_limit_refuses(site: Site, browser: AsyncClient, way: Way, email: str) -> None:
    """At the limit a login gets 403, revokes nothing and publishes `TokenLimitHit`."""
    site.settings["bearer"] = KnoxSettings(token_limit_per_user=1)
    token = token_of(await by_password(browser, email, None))
    published(site)

    response = await way(browser, email, None)

    assert (response.status_code, response.json()) == (403, {"detail": "LOGIN_TOKEN_LIMIT_REACHED"})
    assert published(site) == [(TokenLimitHit, 1)]
    assert await user_of(browser, token) == email
    assert len(await site.records(email)) == 1


@every_way_of_a_member
@pytest.mark.parametrize("headers", [bearing, lambda _token: PHONE], ids=["presented", "device"])
async def test_at_the_limit_a_login_may_take_the_place_of_another(
    site: Site, browser: AsyncClient, way: Way, email: str, headers: Callable[[str], Mapping[str, str]]
) -> None:
    """At the limit a login succeeds if it replaces a token."""
    site.settings["bearer"] = KnoxSettings(token_limit_per_user=1)
    old = token_of(await by_password(browser, email, PHONE))

    token = token_of(await way(browser, email, headers(old)))

    assert [await user_of(browser, text) for text in (old, token)] == [None, email]


@every_way_of_a_member
async def test_the_limit_evicts(site: Site, browser: AsyncClient, way: Way, email: str) -> None:
    """With `evict_oldest` a login at the limit revokes the oldest session and publishes an event."""
    site.settings["bearer"] = KnoxSettings(token_limit_per_user=2, limit_policy="evict_oldest")
    oldest = token_of(await by_password(browser, email, None))
    [evicted] = await site.records(email)
    site.clock.now += HOUR
    newer = token_of(await by_password(browser, email, None))
    site.clock.now += HOUR
    published(site)

    token = token_of(await way(browser, email, None))

    newest, _ = await site.records(email)
    assert published(site) == [(TokenRevoked, evicted.id, "evicted"), (TokenIssued, newest.id)]
    assert [await user_of(browser, text) for text in (oldest, newer, token)] == [None, email, email]
