"""The check against CSRF: only pages of the application's own origin and of trusted origins may use the cookie."""

import itertools
from collections.abc import Sequence
from typing import Any

import pytest
from fastapi.requests import HTTPConnection
from httpx import AsyncClient

from fastapi_users_knox import KnoxCookieTransport
from fastapi_users_knox.transports.origins import parse_origin
from tests.asgi import socket_to
from tests.site import Backend, Served, World, client_of, credentials, knox_backend
from tests.strategies import MINUTE, Clock
from tests.transports.pages import BEARER, create_app, log_in

TOKEN = KnoxCookieTransport().cookie_name
TRUSTED = "https://app.test"
UNSAFE = ["POST", "PUT", "PATCH", "DELETE"]
SAFE = ["GET", "HEAD", "OPTIONS"]

# Sec-Fetch-Site and Origin as clients send them, and whether that page may use the cookie of https://test.
SENDERS = [
    ("same-origin", "https://test", True),
    ("same-origin", None, True),
    ("same-origin", "null", True),  # a page whose referrer policy is no-referrer
    ("none", None, True),
    ("same-site", "https://evil.test", False),
    ("same-site", "https://test", False),
    ("same-site", None, False),
    ("cross-site", "https://evil.example", False),
    ("cross-site", "null", False),
    ("cross-site", None, False),
    ("", None, False),
    ("Same-Origin", None, False),
    ("nonsense", "https://test", False),
    (None, "https://test", True),
    (None, "https://TEST", True),
    (None, "https://test:443", True),
    (None, "http://test", False),
    (None, "https://test:444", False),
    (None, "https://test:80", False),
    (None, "https://test.evil.example", False),
    (None, "https://evil.test", False),
    (None, "https://test/", False),
    (None, "test", False),
    (None, "null", False),
    (None, "", False),
    (None, None, True),
    ("cross-site", TRUSTED, True),
    ("same-site", TRUSTED, True),
    (None, TRUSTED, True),
    (None, "https://APP.test:443", True),
    (None, "http://app.test", False),
    (None, "https://app.test:8443", False),
    (None, "https://sub.app.test", False),
    ("cross-site", f"{TRUSTED}, https://evil.example", False),
]


def sent(site: str | None, origin: str | None) -> dict[str, str]:
    """Return the headers that have a value."""
    headers = {"Sec-Fetch-Site": site, "Origin": origin}
    return {name: value for name, value in headers.items() if value is not None}


def test_a_trusted_origin_is_kept_as_browsers_send_it() -> None:
    """An origin is trusted however it is written, because browsers send it in lower case and without a default port."""
    assert parse_origin("https://APP.test:443") == TRUSTED


TRUSTING = knox_backend("cookie", KnoxCookieTransport(trusted_origins=[TRUSTED]))
UNCHECKED = knox_backend("cookie", KnoxCookieTransport(csrf_check=False))


@pytest.fixture
def backends() -> Sequence[Backend]:
    """Return a cookie backend that trusts another origin, and a header backend."""
    return [TRUSTING, BEARER]


@pytest.mark.unmeasured
@pytest.mark.parametrize("method", UNSAFE)
async def test_a_forged_request_has_no_cookie(browser: AsyncClient, method: str) -> None:
    """The cookie of an unsafe request from another page is ignored."""
    statuses = {
        (site, origin): (await browser.request(method, "/plain", headers=sent(site, origin))).status_code
        for site, origin, _ in SENDERS
    }

    assert statuses == {(site, origin): 200 if is_trusted else 401 for site, origin, is_trusted in SENDERS}


async def test_a_forged_websocket_has_no_cookie(app: Served, browser: AsyncClient) -> None:
    """A page of another origin cannot open a WebSocket as the user, although browsers send the cookies with it."""
    cookie, opened = {"Cookie": f"{TOKEN}={browser.cookies[TOKEN]}"}, {}
    for site, origin, _ in SENDERS:
        async with socket_to(app, "/ws", sent(site, origin) | cookie) as socket:
            opened[site, origin] = (await socket.receive())["type"] == "websocket.accept"

    assert opened == {(site, origin): is_trusted for site, origin, is_trusted in SENDERS}


@pytest.mark.unmeasured
async def test_a_safe_request_has_the_cookie(browser: AsyncClient) -> None:
    """A safe request from any page may use the cookie, because it changes nothing and links must work."""
    statuses = {
        (await browser.request(method, "/plain", headers=sent(site, origin))).status_code
        for method in SAFE
        for site, origin, _ in SENDERS
    }

    assert statuses == {200}


def connection(method: str | None, headers: dict[str, str], **scope: Any) -> HTTPConnection:
    """Return a request, or a WebSocket's handshake, with these headers."""
    raw = [(name.lower().encode(), value.encode("latin-1")) for name, value in headers.items()]
    verb = {"method": method} if method else {}
    return HTTPConnection({"type": "http" if method else "websocket", "headers": raw} | verb | scope)


@pytest.mark.parametrize("method", ["TRACE", *SAFE])
def test_safe_methods_are_trusted(method: str) -> None:
    """GET, HEAD, OPTIONS and TRACE are trusted from any page, because they change nothing (RFC 9110 §9.2.1)."""
    assert KnoxCookieTransport().trusts(connection(method, {"Sec-Fetch-Site": "cross-site"}))


@pytest.mark.parametrize("method", [*UNSAFE, "CONNECT", "get", "PURGE", None])
def test_other_methods_are_not_trusted(method: str | None) -> None:
    """Every other method, even an unknown one, and a WebSocket are not trusted from another page."""
    assert not KnoxCookieTransport().trusts(connection(method, {"Sec-Fetch-Site": "cross-site"}))


@pytest.mark.parametrize(
    ("scheme", "host", "origin", "is_own"),
    [
        *((scheme, "test", "https://test", True) for scheme in ("https", "wss")),
        *((scheme, "test", "http://test", True) for scheme in ("http", "ws")),
        *((scheme, "test", "https://test", False) for scheme in ("http", "ws")),
        ("http", "test:8000", "http://test:8000", True),
        ("http", "test:8000", "http://test:8001", False),
        ("http", "test:80", "http://test", True),
        ("https", "test:443", "https://test", True),
        ("https", "test:80", "https://test", False),
        ("https", "[::1]:8000", "https://[::1]:8000", True),
        ("http", "[2001:db8::80]", "http://[2001:db8::80]", True),
        ("https", "test", "chrome-extension://test", False),
    ],
)
def test_the_own_origin_is_scheme_host_and_port(scheme: str, host: str, origin: str, *, is_own: bool) -> None:
    """The request's own origin is its scheme, host and port, with or without the scheme's default port."""
    request = connection("POST", {"Host": host, "Origin": origin}, scheme=scheme)

    assert KnoxCookieTransport().trusts(request) == is_own


def test_a_connection_without_a_scheme_is_http() -> None:
    """A connection whose server gives no scheme, which ASGI allows, counts as http."""
    assert KnoxCookieTransport().trusts(connection("POST", {"Host": "test", "Origin": "http://test"}))


@pytest.mark.parametrize("method", ["POST", None])
def test_with_samesite_none_no_browser_is_too_old(method: str | None) -> None:
    """With SameSite=None a request without Origin and Sec-Fetch-Site is refused, as old browsers send neither."""
    everywhere = KnoxCookieTransport(cookie_samesite="none")

    assert not everywhere.trusts(connection(method, {"Host": "test"}))
    assert everywhere.trusts(connection(method, {"Host": "test", "Sec-Fetch-Site": "same-origin"}))
    assert KnoxCookieTransport(cookie_samesite="strict").trusts(connection(method, {"Host": "test"}))


async def test_other_backends_are_tried(browser: AsyncClient) -> None:
    """A request from another page is accepted if it has a token in the header."""
    token = (await browser.post("/bearer/login", data=credentials(), headers={"Cookie": ""})).json()["access_token"]

    headers = sent("cross-site", "https://evil.example") | {"Authorization": f"Bearer {token}"}
    response = await browser.post("/plain", headers=headers)

    assert response.status_code == 200


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("POST", "/cookie/logout"),
        ("POST", "/cookie/logout-all"),
        ("POST", "/cookie/logout-others"),
        ("POST", "/cookie/rotate"),
        ("POST", "/cookie/reauthenticate"),
        ("DELETE", "/cookie/sessions/{id}"),
    ],
)
async def test_nobody_is_logged_out_by_another_page(browser: AsyncClient, method: str, path: str) -> None:
    """Another page cannot use the cookie to call the sessions' routes."""
    sessions = (await browser.get("/cookie/sessions")).json()

    headers = sent("same-site", "https://evil.test")
    response = await browser.request(method, path.format(id=sessions[0]["id"]), headers=headers)

    assert response.status_code == 401
    assert "Set-Cookie" not in response.headers
    assert (await browser.get("/plain")).status_code == 200


async def test_a_forged_request_keeps_no_session_alive(browser: AsyncClient, clock: Clock) -> None:
    """A request from another page refreshes neither the token nor the cookie."""
    clock.now += 30 * MINUTE

    forged = await browser.post("/plain", headers=sent("cross-site", "https://evil.example"))
    own = await browser.post("/plain", headers=sent("same-origin", "https://test"))

    assert "Set-Cookie" not in forged.headers
    assert "Set-Cookie" in own.headers


@pytest.mark.usefixtures("ada")
async def test_the_check_can_be_switched_off(world: World) -> None:
    """`csrf_check=False` switches the check off for applications that have their own."""
    async with client_of(world.serving(create_app(UNCHECKED))) as browser:
        await log_in(browser)
        response = await browser.post("/plain", headers=sent("cross-site", "https://evil.example"))

    assert response.status_code == 200


@pytest.mark.parametrize("name", ["Origin", "Sec-Fetch-Site"])
def test_any_headers_are_judged(name: str) -> None:
    """Malformed Origin, Host and Sec-Fetch-Site headers raise no error and are not trusted."""
    odd = ["", "\0", "\xff\xfe", "://", "https://[", "https://]:443", "null", "*", "x" * 70_000]
    requests = [
        connection("POST", {name: value, "Host": host}, scheme="https") for value, host in itertools.product(odd, odd)
    ]

    assert [request for request in requests if KnoxCookieTransport().trusts(request)] == []
