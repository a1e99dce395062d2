"""`KnoxCookieMiddleware` renews the cookie when its token is refreshed, and only then."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest
from httpx import AsyncClient

from fastapi_users_knox import (
    KnoxCookieMiddleware,
    KnoxCookieTransport,
    KnoxSettings,
)
from tests.asgi import set_cookies, socket_to
from tests.models import User
from tests.site import Served, World, client_of, credentials, knox_backend
from tests.strategies import DAY, HOUR, MINUTE, SECOND, Clock
from tests.transports.pages import BEARER, COOKIE, REFRESHING, create_app, log_in

pytestmark = pytest.mark.unmeasured

TOKEN = KnoxCookieTransport().cookie_name


@pytest.mark.parametrize(
    ("path", "status", "body"),
    [
        ("/plain", 200, '"ada@example.org"'),
        ("/own", 200, "own"),
        ("/stream", 200, "stream"),
        ("/background", 200, "background"),
        ("/error", 418, '{"detail":"I\'m a Teapot"}'),
    ],
)
async def test_a_refresh_moves_the_cookie(
    browser: AsyncClient, clock: Clock, path: str, status: int, body: str
) -> None:
    """A refresh sets the same token with a new Max-Age and forbids caching, for any kind of response."""
    token = browser.cookies[TOKEN]
    clock.now += 30 * MINUTE

    response = await browser.get(path)

    assert (response.status_code, response.text) == (status, body)
    assert response.headers.get_list("Cache-Control") == ["private, no-store"]
    assert response.headers.get_list("Set-Cookie")[-1] == (
        f"{TOKEN}={token}; HttpOnly; Max-Age=3600; Path=/; SameSite=lax; Secure"
    )


async def test_a_token_may_be_read_before_the_transport_looks(browser: AsyncClient, clock: Clock) -> None:
    """The cookie is renewed even if the application's own dependency has read and refreshed the token first."""
    clock.now += 30 * MINUTE

    response = await browser.get("/early")

    assert response.text == '"ada@example.org"'
    assert f"{TOKEN}={browser.cookies[TOKEN]}; HttpOnly; Max-Age=3600" in response.headers["Set-Cookie"]


async def test_the_route_s_other_headers_stay(browser: AsyncClient, clock: Clock) -> None:
    """Renewing the cookie keeps the route's other headers, except those that allow caching (RFC 9213)."""
    clock.now += 30 * MINUTE

    response = await browser.get("/own")

    assert response.headers["ETag"] == '"1"'
    assert response.headers.get_list("Set-Cookie")[0] == "theme=dark"
    assert not {"cdn-cache-control", "surrogate-control"} & response.headers.keys()


async def test_a_background_task_runs(app: Served, browser: AsyncClient, clock: Clock) -> None:
    """A background task still runs after a response that renews the cookie."""
    clock.now += 30 * MINUTE

    await browser.get("/background")

    assert app.world.notes == ["the task has run"]


@pytest.mark.parametrize("after", [0 * SECOND, MINUTE])
async def test_a_read_without_a_refresh_sets_no_cookie(browser: AsyncClient, clock: Clock, after: Any) -> None:
    """Within `min_refresh_interval` the expiry stays, and the response keeps its cookie and caching headers."""
    clock.now += after

    response = await browser.get("/own")

    assert response.headers.get_list("Set-Cookie") == ["theme=dark"]
    assert response.headers["Cache-Control"] == "public, max-age=60"


async def test_only_what_was_written_moves_the_cookie(browser: AsyncClient, clock: Clock) -> None:
    """Knox #383: the cookie expires at the same moment as the record, however often the token is used."""
    expiries = []
    for _ in range(10):
        clock.now += 25 * SECOND
        response = await browser.get("/plain")
        if "Set-Cookie" in response.headers:
            expiries.append(clock.now + HOUR)
            assert "Max-Age=3600;" in response.headers["Set-Cookie"]
    sessions = (await browser.get("/cookie/sessions")).json()

    assert len(expiries) == 3  # every third request is more than 60 seconds after the last refresh
    assert sessions[0]["expires_at"] == expiries[-1].isoformat().replace("+00:00", "Z")


async def test_of_many_requests_one_moves_the_cookie(browser: AsyncClient, clock: Clock) -> None:
    """Of simultaneous requests with a due refresh, only the one that writes it renews the cookie."""
    clock.now += 30 * MINUTE
    token = browser.cookies[TOKEN]
    headers = {"Cookie": f"{TOKEN}={token}"}

    answers = await asyncio.gather(*(browser.get("/plain", headers=headers) for _ in range(10)))

    assert [answer.status_code for answer in answers] == [200] * 10
    assert ["Set-Cookie" in answer.headers for answer in answers].count(True) == 1


@pytest.mark.usefixtures("ada")
@pytest.mark.parametrize(
    ("settings", "after", "max_age"),
    [
        (KnoxSettings(token_ttl=HOUR, auto_refresh=True, auto_refresh_max_ttl=HOUR + 20 * MINUTE), 50 * MINUTE, 1800),
        (KnoxSettings(token_ttl=500 * DAY, auto_refresh=True), DAY, 400 * 86400),
        (KnoxSettings(token_ttl=HOUR), 30 * MINUTE, None),
        (KnoxSettings(token_ttl=None), 30 * MINUTE, None),
    ],
    ids=["capped", "longer than browsers allow", "without refresh", "endless"],
)
async def test_the_cookie_follows_the_policy(
    world: World, clock: Clock, settings: KnoxSettings, after: Any, max_age: int | None
) -> None:
    """The renewed Max-Age obeys the cap and the browsers' limit, and without `auto_refresh` nothing is renewed."""
    app = create_app(COOKIE, BEARER)
    async with client_of(world.having(cookie=settings).serving(app)) as browser:
        await log_in(browser)
        clock.now += after
        response = await browser.get("/plain")

    assert response.status_code == 200
    assert ("Set-Cookie" in response.headers) == (max_age is not None)
    assert max_age is None or f"Max-Age={max_age};" in response.headers["Set-Cookie"]


async def test_a_passive_read_sets_no_cookie(browser: AsyncClient, clock: Clock) -> None:
    """A passive read does not renew the cookie."""
    clock.now += 30 * MINUTE

    response = await browser.get("/passive")

    assert response.json() is True
    assert "Set-Cookie" not in response.headers


@pytest.mark.usefixtures("ada")
async def test_a_header_s_refresh_sets_no_cookie(stranger: AsyncClient, clock: Clock) -> None:
    """Refreshing a token from the header sets no cookie, which would turn it into a browser session."""
    token = (await stranger.post("/bearer/login", data=credentials())).json()["access_token"]
    clock.now += 30 * MINUTE

    response = await stranger.get("/plain", headers={"Authorization": f"Bearer {token}"})

    assert response.status_code == 200
    assert not {"set-cookie", "cache-control"} & response.headers.keys()


async def test_a_header_s_refresh_moves_no_other_cookie(
    stranger: AsyncClient, browser: AsyncClient, clock: Clock
) -> None:
    """Refreshing a token from the header does not renew an invalid cookie sent beside it."""
    token = browser.cookies[TOKEN]
    clock.now += 30 * MINUTE

    headers = {"Authorization": f"Bearer {token}", "Cookie": f"{TOKEN}=junk"}
    response = await stranger.get("/plain", headers=headers)

    assert response.status_code == 200
    assert "Set-Cookie" not in response.headers


# requests that revoke or rotate the token


@pytest.mark.parametrize(
    ("method", "path", "status", "is_logout"),
    [
        ("POST", "/cookie/logout", 204, True),
        ("POST", "/cookie/logout-all", 204, True),
        ("DELETE", "/cookie/sessions/{id}", 204, True),
        ("POST", "/cookie/rotate", 204, False),
        ("POST", "/cookie/reauthenticate", 204, False),
        ("POST", "/cookie/login", 204, False),
    ],
)
async def test_an_answer_sets_the_cookie_once(
    browser: AsyncClient, clock: Clock, method: str, path: str, status: int, *, is_logout: bool
) -> None:
    """A request that refreshes its token and then logs out, rotates or logs in sets only the route's own cookie."""
    token, sessions = browser.cookies[TOKEN], (await browser.get("/cookie/sessions")).json()
    clock.now += 30 * MINUTE

    data = credentials() if path.endswith(("login", "reauthenticate")) else None
    response = await browser.request(method, path.format(id=sessions[0]["id"]), data=data)

    assert response.status_code == status, response.text
    [cookie] = response.headers.get_list("Set-Cookie")
    assert token not in cookie
    assert cookie.startswith(f'{TOKEN}=""; ') == is_logout
    assert ("Max-Age=0" in cookie) == is_logout


@pytest.mark.parametrize("ending", ["logout", "logout-all", "rotate", "login"])
async def test_a_revoked_token_is_not_set_again(browser: AsyncClient, clock: Clock, ending: str) -> None:
    """If a route revokes or rotates the token without setting a cookie, the old token is not set again."""
    clock.now += 30 * MINUTE

    response = await browser.post(f"/quietly/{ending}")

    assert response.status_code == 200
    assert "Set-Cookie" not in response.headers
    assert (await browser.get("/plain")).status_code == 401


@pytest.mark.parametrize("other", ["logout-others", "issue"])
async def test_revoking_or_issuing_others_renews_the_cookie(browser: AsyncClient, clock: Clock, other: str) -> None:
    """A route that revokes or issues only other tokens still renews the cookie."""
    clock.now += 30 * MINUTE

    response = await browser.post(f"/quietly/{other}")

    assert response.status_code == 200
    assert "Max-Age=3600;" in response.headers["Set-Cookie"]


async def test_an_expired_token_is_not_set_again(browser: AsyncClient, clock: Clock) -> None:
    """An expired token is not refreshed, and its cookie is not set."""
    clock.now += HOUR

    response = await browser.get("/plain")

    assert response.status_code == 401
    assert "Set-Cookie" not in response.headers


# several users, cookies and middlewares


async def test_users_who_are_given_the_same_response_keep_their_own_cookies(
    app: Served, ada: User, clock: Clock
) -> None:
    """A response object that is shared between requests never holds another user's cookie."""
    bob = await app.world.database.create_user("bob@example.org")
    async with client_of(app) as ada_s, client_of(app) as bob_s:
        await log_in(ada_s, username=ada.email)
        await log_in(bob_s, username=bob.email)
        clock.now += 30 * MINUTE
        answers = [await browser.get("/shared") for browser in (ada_s, bob_s, ada_s)]

    first, second, third = (answer.headers.get_list("Set-Cookie") for answer in answers)
    assert [len(first), len(second), len(third)] == [1, 1, 0]
    assert ada_s.cookies[TOKEN] in first[0]
    assert bob_s.cookies[TOKEN] in second[0]


ADMIN = knox_backend(
    "admin", KnoxCookieTransport("__Secure-admin", cookie_path="/", cookie_samesite="strict", scheme_name="Admin")
)
SPARING = KnoxSettings(**(REFRESHING.model_dump() | {"end_presented": False}))


@pytest.fixture
async def two_cookies(world: World, ada: User) -> AsyncIterator[AsyncClient]:
    """Return a browser that is logged in by two cookie transports; neither login revokes the other login's token."""
    sparing = world.having(cookie=SPARING, admin=SPARING, bearer=SPARING)
    async with client_of(sparing.serving(create_app(COOKIE, ADMIN, BEARER))) as browser:
        await log_in(browser, "cookie", ada.email)
        await log_in(browser, "admin", ada.email)
        yield browser


async def test_of_two_cookies_the_one_that_was_used_is_moved(two_cookies: AsyncClient, clock: Clock) -> None:
    """Of two transports' cookies, only the cookie that authenticated is renewed, with its own attributes."""
    clock.now += 30 * MINUTE

    both = await two_cookies.get("/plain")
    two_cookies.cookies.delete(TOKEN)
    one = await two_cookies.get("/plain")

    assert [cookie.partition("=")[0] for cookie in both.headers.get_list("Set-Cookie")] == [TOKEN]
    [cookie] = one.headers.get_list("Set-Cookie")
    assert cookie == (
        f"__Secure-admin={two_cookies.cookies['__Secure-admin']}; "
        "HttpOnly; Max-Age=3600; Path=/; SameSite=strict; Secure"
    )


async def test_a_logout_from_one_leaves_the_other(two_cookies: AsyncClient, clock: Clock) -> None:
    """Logging out from one cookie transport deletes that cookie and does not set it again."""
    clock.now += 30 * MINUTE

    response = await two_cookies.post("/admin/logout")

    [cookie] = response.headers.get_list("Set-Cookie")
    assert cookie.startswith('__Secure-admin=""; ')


async def test_the_same_token_in_two_cookies_is_moved_in_both(two_cookies: AsyncClient, clock: Clock) -> None:
    """If two cookies hold the same token, a refresh renews both."""
    token = two_cookies.cookies[TOKEN]
    clock.now += 30 * MINUTE

    headers = {"Cookie": f"{TOKEN}={token}; __Secure-admin={token}"}
    response = await two_cookies.get("/plain", headers=headers)

    names = [cookie.partition("=")[0] for cookie in response.headers.get_list("Set-Cookie")]
    assert names == [TOKEN, "__Secure-admin"]


async def test_the_middleware_twice_sets_the_cookie_once(browser: AsyncClient, app: Served, clock: Clock) -> None:
    """Two nested middlewares set the cookie once."""
    token = browser.cookies[TOKEN]
    clock.now += 30 * MINUTE

    async with client_of(KnoxCookieMiddleware(app)) as client:
        response = await client.get("/plain", headers={"Cookie": f"{TOKEN}={token}"})

    assert len(response.headers.get_list("Set-Cookie")) == 1


async def test_without_the_middleware_the_token_is_refreshed_all_the_same(
    world: World, ada: User, clock: Clock
) -> None:
    """Without the middleware the token is refreshed, and only the cookie's Max-Age stays."""
    app = create_app(COOKIE, BEARER, renews_cookies=False)
    async with client_of(world.serving(app)) as browser:
        await log_in(browser, username=ada.email)
        clock.now += 30 * MINUTE
        response = await browser.get("/plain")
        clock.now += 45 * MINUTE
        later = await browser.get("/plain")

    assert (response.status_code, later.status_code) == (200, 200)
    assert "Set-Cookie" not in response.headers


# WebSockets


async def test_a_websocket_s_handshake_moves_the_cookie(browser: AsyncClient, app: Served, clock: Clock) -> None:
    """The response to a WebSocket's handshake renews the cookie."""
    token = browser.cookies[TOKEN]
    clock.now += 30 * MINUTE

    async with socket_to(app, "/ws", {"Cookie": f"{TOKEN}={token}", "Origin": "https://test"}) as socket:
        accepted, message = await socket.receive(), await socket.receive()

    assert (accepted["type"], message["text"]) == ("websocket.accept", "ada@example.org")
    [cookie] = set_cookies(accepted["headers"])
    assert cookie.startswith(f"{TOKEN}={token}; HttpOnly; Max-Age=3600;")
    assert "headers" not in message
