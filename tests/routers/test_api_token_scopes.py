"""Which routes accept an API token: only those that name its scopes, through every way of FastAPI to name them."""

from collections.abc import AsyncIterator, Mapping

import pytest

from fastapi_users_knox import KnoxSettings
from tests.asgi import talk
from tests.models import User
from tests.routers.api_site import (
    API_SETTINGS,
    COOKIE_NAME,
    NIGHTLY,
    READ,
    WRITE,
    create_site,
    created,
    machine_of,
)
from tests.routers.device import Device, on_each_database
from tests.site import Database, Served, World, client_of, credentials, login
from tests.strategies import HOUR, Clock, change_user

ORIGINS = {"own": ("https://test", 201), "foreign": ("https://evil.example.com", 401)}
READS_AND_WRITES = [READ, WRITE]
# Each route, and the scopes that an API token needs there; `None` if it accepts none.
ROUTES: list[tuple[str, str, list[str] | None]] = [
    ("GET", "/reports", [READ]),
    ("PUT", "/reports", [WRITE]),
    ("PATCH", "/reports", READS_AND_WRITES),
    ("DELETE", "/reports", None),
    ("GET", "/machine-reports", [READ]),
    ("GET", "/archive", [WRITE]),
    ("GET", "/archive/own", READS_AND_WRITES),
    ("GET", "/active", None),
    ("GET", "/knox/sessions", None),
    ("POST", "/knox/logout", None),
    ("GET", "/users/me", None),
]


@pytest.fixture
def settings() -> Mapping[str, KnoxSettings]:
    """Return the settings of the API tokens."""
    return {"api": API_SETTINGS}


@pytest.fixture
def app(world: World) -> Served:
    """Return the application."""
    return world.serving(create_site())


@pytest.fixture
async def browser(app: Served, ada: User) -> AsyncIterator[Device]:
    """Log the user in with a cookie."""
    async with client_of(app) as client:
        await client.post("/browser/login", data=credentials(ada.email))
        yield Device(http=client, token="none")


@pytest.mark.parametrize(("method", "path", "needed"), ROUTES)
@pytest.mark.parametrize("scopes", [[READ], [WRITE], READS_AND_WRITES])
async def test_a_token_needs_the_scopes_of_the_route(
    phone: Device, *, method: str, path: str, needed: list[str] | None, scopes: list[str]
) -> None:
    """A token is accepted if it has all scopes of the route and its dependencies; the 403 names one that is missing."""
    machine = await machine_of(phone, scopes=scopes)

    response = await machine.call(method, path)

    if needed is None:
        assert response.status_code == 401
    elif set(needed) <= set(scopes):
        assert response.status_code == 200
    else:
        challenge, _, named = response.headers["WWW-Authenticate"].rstrip('"').partition(', scope="')
        assert (response.status_code, response.json()) == (403, {"detail": "INSUFFICIENT_SCOPE"})
        assert challenge == 'Bearer error="insufficient_scope"'
        assert set(needed) >= set(named.split()) > set(scopes) & set(named.split())


@pytest.mark.parametrize(("method", "path"), [route[:2] for route in ROUTES if route[1] != "/machine-reports"])
async def test_a_session_needs_no_scopes(phone: Device, method: str, path: str) -> None:
    """A session may do all that its user may."""
    assert (await phone.call(method, path)).is_success


async def test_a_route_may_accept_api_tokens_alone(phone: Device) -> None:
    """A route with the API backend alone refuses sessions."""
    assert (await phone.call("GET", "/machine-reports")).status_code == 401


async def test_a_cookie_may_stand_beside_an_api_token(phone: Device, browser: Device) -> None:
    """Each of several backends is tried, so a token without the scope does not hinder the session in a cookie."""
    machine = await machine_of(phone, scopes=[READ])
    beside = Device(http=browser.http, token=machine.token)

    statuses = [(await each.call("PUT", "/reports")).status_code for each in (machine, browser, beside)]

    assert statuses == [403, 200, 200]


async def test_an_api_token_is_no_cookie(phone: Device) -> None:
    """An API token in the cookie of the sessions is refused, even where its scopes are named."""
    machine = await machine_of(phone)

    response = await phone.http.get("/reports", headers={"Cookie": f"{COOKIE_NAME}={machine.token}"})

    assert response.status_code == 401


@pytest.mark.parametrize("scopes", [[READ], [WRITE]])
async def test_a_token_is_optional(phone: Device, scopes: list[str]) -> None:
    """Where the token is optional, one without the scope is ignored."""
    machine = await machine_of(phone, scopes=scopes)

    responses = [await each.call("GET", "/optional-reports") for each in (machine, Device(http=phone.http, token="x"))]

    assert [response.json() for response in responses] == ["ada@example.org" if scopes == [READ] else None, None]


@pytest.mark.parametrize(("scopes", "status"), [([READ], None), ([WRITE], 403), ([READ, WRITE], None)])
async def test_a_websocket_needs_the_scopes(
    app: Served, phone: Device, *, scopes: list[str], status: int | None
) -> None:
    """A WebSocket accepts an API token with its scopes, and refuses another before it is opened."""
    machine = await machine_of(phone, scopes=scopes)

    [start, *_] = await talk(app, "/ws/reports", [(b"authorization", f"Bearer {machine.token}".encode())])

    assert start.get("status") == status
    assert start["type"] == ("websocket.http.response.start" if status else "websocket.accept")


async def test_a_websocket_without_scopes_refuses_api_tokens(app: Served, phone: Device) -> None:
    """A WebSocket that names no scopes refuses every API token."""
    machine = await machine_of(phone, scopes=READS_AND_WRITES)

    [start, *_] = await talk(app, "/ws/active", [(b"authorization", f"Bearer {machine.token}".encode())])

    assert start["type"] != "websocket.accept"


@on_each_database
async def test_an_inactive_users_token_is_refused(database: Database, ada: User, phone: Device) -> None:
    """The API tokens of an inactive user are refused."""
    machine = await machine_of(phone)
    before = await machine.call("GET", "/reports")
    await change_user(database.engine, ada, is_active=False)

    assert (before.status_code, (await machine.call("GET", "/reports")).status_code) == (200, 401)


@pytest.mark.parametrize("path", ["logout", "logout-others", "logout-all"])
async def test_a_logout_keeps_api_tokens(phone: Device, path: str) -> None:
    """A logout revokes sessions. API tokens have another audience and stay valid."""
    machine = await machine_of(phone)

    await phone.call("POST", f"/knox/{path}")

    assert (await machine.call("GET", "/reports")).status_code == 200


async def test_a_login_keeps_the_presented_api_token(phone: Device, ada: User) -> None:
    """A login that presents an API token does not revoke it."""
    machine = await machine_of(phone)

    headers = {"Authorization": f"Bearer {machine.token}"}
    await phone.http.post("/knox/login", data=credentials(ada.email), headers=headers)

    assert (await machine.call("GET", "/reports")).status_code == 200


@pytest.mark.parametrize("origin", ORIGINS)
async def test_a_forged_request_creates_no_token(browser: Device, origin: str) -> None:
    """A browser creates a token with its cookie, but not for a page of another origin."""
    header, status = ORIGINS[origin]

    response = await browser.http.post("/browser/api-tokens/", json=NIGHTLY, headers={"Origin": header})

    assert response.status_code == status


async def test_the_routes_are_of_one_backend(phone: Device, browser: Device) -> None:
    """A session of another backend is no credential of the routes, even if both backends share their sessions."""
    responses = [
        await phone.http.post("/browser/api-tokens/", headers={"Authorization": f"Bearer {phone.token}"}, json=NIGHTLY),
        await browser.http.post("/knox/api-tokens/", json=NIGHTLY),
    ]

    assert [response.status_code for response in responses] == [401, 401]


@on_each_database
async def test_a_token_is_as_fresh_as_its_session(world: World, ada: User, clock: Clock) -> None:
    """A kill switch that refuses the session refuses the API tokens that were created with it."""
    async with client_of(world.serving(create_site(fresh_within=None))) as client:
        device = Device(http=client, token=await login(client, email=ada.email))
        clock.now += HOUR
        machine = await machine_of(device)
        before = (await machine.call("GET", "/reports")).status_code
    strict = world.having(api=API_SETTINGS.model_copy(update={"not_before": clock.now - HOUR / 2}))
    async with client_of(strict.serving(create_site())) as client:
        after = (await Device(http=client, token=machine.token).call("GET", "/reports")).status_code

    assert (before, after) == (200, 401)


@on_each_database
async def test_a_superuser_ends_the_api_tokens_of_any_user(phone: Device, admin: Device, ada: User) -> None:
    """With the administration router of the API backend, superusers list and revoke API tokens; an API token cannot."""
    token = await created(phone)
    path = f"/admin/api/{ada.id}/sessions"

    refused = await Device(http=phone.http, token=token["token"]).call("GET", path)
    [listed] = (await admin.call("GET", path)).json()
    ended = await admin.call("DELETE", f"{path}/{listed['id']}")

    assert refused.status_code == 401
    assert (listed["id"], listed["scopes"], ended.status_code) == (token["id"], [READ], 204)
    assert (await Device(http=phone.http, token=token["token"]).call("GET", "/reports")).status_code == 401


async def test_ending_by_its_text_is_impossible(phone: Device) -> None:
    """The logout of the sessions refuses an API token and does not revoke it."""
    token = await created(phone)

    response = await Device(http=phone.http, token=token["token"]).call("POST", "/knox/logout")

    assert response.status_code == 401
    assert (await Device(http=phone.http, token=token["token"]).call("GET", "/reports")).status_code == 200
