"""The login of the admin pages: who is admitted, for how long, and from where."""

import uuid
from collections.abc import AsyncIterator
from dataclasses import replace
from http.cookies import SimpleCookie

import pytest
from fastapi import FastAPI, Request
from fastapi_users.authentication import AuthenticationBackend, JWTStrategy
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession

from fastapi_users_knox import KnoxCookieTransport, KnoxEvent, KnoxSettings, LoginFailed, StoreUnavailable, TokenIssued
from fastapi_users_knox.admin import KnoxAdminAuth
from tests.admin.site import ADMIN, KNOX, ROOT, Browser, create_app
from tests.models import User
from tests.site import (
    ADA,
    Backend,
    CurrentWorld,
    Database,
    Served,
    bearer,
    bearing,
    client_of,
    create_users,
    get_session,
    jwt_backend,
    knox_backend,
    login,
)
from tests.strategies import HOUR, Clock, change_user, reasons, stored
from tests.throttling.site import Manager, ThrottledWorld, get_user_manager

PAGES = ["/admin/", "/admin/knox-token/list", "/admin/user/list"]
ELSEWHERE = {"Sec-Fetch-Site": "cross-site", "Origin": "https://evil.example.com"}
SIBLING = {"Sec-Fetch-Site": "same-site", "Origin": "https://other.test"}


async def test_a_superuser_logs_in(stranger: Browser, root: User, events: list[KnoxEvent[uuid.UUID]]) -> None:
    """The login stores a session like any other, in a cookie of the backend's transport, and opens every page."""
    response = await stranger.log_in()

    assert (response.status_code, response.headers["Location"]) == (303, "https://test/admin/")
    cookie = SimpleCookie(response.headers["Set-Cookie"])["__Host-admin"]
    assert (cookie["httponly"], cookie["secure"], cookie["samesite"], cookie["path"]) == (True, True, "lax", "/")
    assert [(type(event), event.user_id) for event in events] == [(TokenIssued, root.id)]
    assert [(await stranger.get(page)).status_code for page in PAGES] == [200] * len(PAGES)


@pytest.mark.usefixtures("root")
async def test_the_cookie_is_the_only_one(stranger: Browser) -> None:
    """There is no session of Starlette: the token is the only thing that the browser keeps."""
    await stranger.log_in()
    await stranger.get("/admin/knox-token/list")

    assert list(stranger.http.cookies) == ["__Host-admin"]


@pytest.mark.parametrize("fields", [{}, {"is_superuser": True, "is_active": False}])
async def test_nobody_else_logs_in(stranger: Browser, database: Database, fields: dict[str, bool]) -> None:
    """An ordinary user and a deactivated superuser get the same response as for a wrong password, and no cookie."""
    await database.create_user(ADA, **fields)

    refused = await stranger.log_in(ADA)
    wrong = await stranger.log_in(ADA, "a wrong one")

    assert (refused.status_code, refused.text) == (wrong.status_code, wrong.text)
    assert "Invalid credentials" in refused.text
    assert dict(stranger.http.cookies) == {}
    assert await stored(database.engine) == []


@pytest.mark.usefixtures("root")
async def test_a_wrong_password_is_published(stranger: Browser, events: list[KnoxEvent[uuid.UUID]]) -> None:
    """A failed login publishes the same event as at FastAPI-Users' login route."""
    response = await stranger.log_in(password="a wrong one")

    assert response.status_code == 400
    assert [type(event) for event in events] == [LoginFailed]


@pytest.mark.usefixtures("root")
async def test_guesses_are_throttled(stranger: Browser) -> None:
    """The throttle of the user manager counts the attempts at the login form."""
    statuses = [(await stranger.log_in(password=f"guess {number}")).status_code for number in range(6)]

    assert statuses == [400] * 5 + [429]


@pytest.mark.parametrize("headers", [ELSEWHERE, SIBLING])
@pytest.mark.usefixtures("root")
async def test_another_site_cannot_log_the_browser_in(stranger: Browser, headers: dict[str, str]) -> None:
    """The login form of another page is refused."""
    response = await stranger.log_in(**headers)

    assert response.status_code == 403
    assert not await stranger.is_admitted()


@pytest.mark.parametrize("page", PAGES)
@pytest.mark.usefixtures("ada")
async def test_pages_need_the_cookie(stranger: Browser, page: str) -> None:
    """Without the cookie every page leads to the login page, whatever else authenticates the request."""
    token = await login(stranger.http, email=ADA)

    for headers in ({}, bearing(token), {"Cookie": f"__Host-admin={token}"}):
        response = await stranger.get(page, **headers)
        assert (response.status_code, response.headers["Location"]) == (302, "https://test/admin/login")


async def test_the_hook_after_the_login_is_called(
    stranger: Browser, root: User, world: ThrottledWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The login calls `on_after_login` with the request and the response, as FastAPI-Users' route does."""

    async def on_after_login(self: Manager, user: User, request: Request | None, response: object) -> None:
        self.notes.append(f"{user.email} {request and request.url.path} {response and type(response).__name__}")

    monkeypatch.setattr(Manager, "on_after_login", on_after_login)

    await stranger.log_in()

    assert world.notes[-1] == f"{root.email} /admin/login RedirectResponse"


# how long


@pytest.mark.parametrize("change", [{"is_superuser": False}, {"is_active": False}])
async def test_a_user_who_loses_the_rights_is_out(
    browser: Browser, root: User, engine: AsyncEngine, change: dict[str, bool]
) -> None:
    """A superuser who is demoted or deactivated gets the login page at the next request."""
    before = await browser.is_admitted()
    await change_user(engine, root, **change)

    assert (before, await browser.is_admitted()) == (True, False)


@pytest.mark.parametrize("path", ["/knox/logout-all", "/knox/logout-others"])
async def test_a_logout_everywhere_ends_the_pages_too(browser: Browser, path: str) -> None:
    """A superuser who logs out everywhere, in the application itself, gets the login page at the next request."""
    token = await login(browser.http, email=ROOT)

    response = await browser.http.post(path, headers=bearing(token))

    assert response.status_code == 204
    assert not await browser.is_admitted()


async def test_the_session_expires(browser: Browser, clock: Clock) -> None:
    """The session of the pages expires like any other."""
    clock.now += 10 * HOUR

    assert not await browser.is_admitted()


async def test_the_cookie_is_renewed_with_the_token(world: ThrottledWorld, root: User, app: FastAPI) -> None:
    """If the backend refreshes its tokens, the pages set the cookie again."""
    refreshing = replace(world, settings={"admin": KnoxSettings(token_ttl=HOUR, auto_refresh=True)})
    async with client_of(refreshing.serving(app)) as http:
        browser = Browser(http=http)
        await browser.log_in(root.email)
        refreshing.clock.now += HOUR / 2
        response = await browser.get("/admin/")

    assert SimpleCookie(response.headers["Set-Cookie"])["__Host-admin"]["max-age"] == "3600"


# the logout


async def test_the_logout_revokes_the_session(browser: Browser, events: list[KnoxEvent[uuid.UUID]]) -> None:
    """The logout revokes the token, deletes the cookie and leads to the login page; again, it does only that."""
    token = browser.http.cookies["__Host-admin"]
    events.clear()

    first, again = await browser.get("/admin/logout"), await browser.get("/admin/logout")
    browser.http.cookies.set("__Host-admin", token)
    stale = await browser.get("/admin/logout")

    for response in (first, again, stale):
        assert (response.status_code, response.headers["Location"]) == (303, "https://test/admin/login")
        assert SimpleCookie(response.headers["Set-Cookie"])["__Host-admin"]["max-age"] == "0"
    assert reasons(events) == ["logout"]


@pytest.mark.parametrize("headers", [ELSEWHERE, SIBLING])
async def test_another_site_cannot_log_the_browser_out(browser: Browser, headers: dict[str, str]) -> None:
    """A link to the logout on another page changes nothing, although sqladmin's logout is a GET."""
    response = await browser.get("/admin/logout", **headers)

    assert response.headers["Location"] == "https://test/admin/"
    assert await browser.is_admitted()


# requests of other sites


@pytest.mark.parametrize("headers", [ELSEWHERE, SIBLING])
async def test_another_site_can_change_nothing(
    browser: Browser, world: ThrottledWorld, database: Database, headers: dict[str, str]
) -> None:
    """Deletions, actions and our own form are refused if another page made the request; pages may be linked to."""
    [session] = await stored(database.engine)

    deletion = await browser.delete(session.id, **headers)
    form = await browser.http.post(f"/admin/user/revoke-sessions/{session.user_id}", headers=headers)
    poke = await browser.get("/admin/knox-token/action/poke", **headers)
    link = await browser.get("/admin/knox-token/list", **headers)

    assert [deletion.status_code, form.status_code, poke.status_code, link.status_code] == [401, 401, 302, 200]
    assert world.notes.count("poked") == 0
    assert len(await stored(database.engine)) == 1


async def test_the_pages_own_actions_work(browser: Browser, world: ThrottledWorld) -> None:
    """An action is accepted from the application's own pages."""
    response = await browser.get("/admin/knox-token/action/poke", **{"Sec-Fetch-Site": "same-origin"})

    assert (response.text, world.notes[-1]) == ("poked", "poked")


async def test_a_transport_without_csrf_check_is_checked_too(world: ThrottledWorld, root: User) -> None:
    """The pages check the origin even if the transport does not, because sqladmin has no CSRF tokens."""
    backend = knox_backend("admin", KnoxCookieTransport("__Host-admin", csrf_check=False))
    async with client_of(world.serving(create_app(world.database.engine, backend=backend))) as http:
        browser = Browser(http=http)
        await browser.log_in(root.email)
        [session] = await stored(world.database.engine)
        refused = await browser.delete(session.id, **ELSEWHERE)

    assert refused.status_code == 401


async def test_the_pages_are_neither_cached_nor_framed(browser: Browser) -> None:
    """Every page forbids caches and frames; scripts and style sheets may be cached."""
    page = await browser.get("/admin/knox-token/list")
    script = await browser.get("/admin/statics/js/main.js")

    assert (page.headers["Cache-Control"], page.headers["X-Frame-Options"]) == ("private, no-store", "DENY")
    assert (script.status_code, script.headers.get("Cache-Control")) == (200, None)


# the set-up


def get_jwt_strategy() -> JWTStrategy[User, uuid.UUID]:
    """Return a strategy of FastAPI-Users."""
    raise NotImplementedError


def test_another_strategy_is_refused() -> None:
    """The strategy of a backend whose sessions the pages show must be a `KnoxStrategy`."""
    backend = AuthenticationBackend("jwt", bearer("jwt/login"), get_jwt_strategy)
    users = create_users(ADMIN, backend, get_user_manager=get_user_manager)

    with pytest.raises(TypeError, match="must have a KnoxStrategy"):
        KnoxAdminAuth(FastAPI(), users, ADMIN, session_backends=[backend])


@pytest.mark.parametrize("backend", [KNOX, jwt_backend()])
def test_another_transport_is_refused(backend: Backend) -> None:
    """The backend must have this package's cookie transport."""
    users = create_users(backend, get_user_manager=get_user_manager)

    with pytest.raises(TypeError, match="must have a KnoxCookieTransport, not a KnoxBearerTransport"):
        KnoxAdminAuth(FastAPI(), users, backend)


async def test_the_application_s_dependencies_are_used(stranger: Browser, served: Served, root: User) -> None:
    """Overridden dependencies are overridden here too, and dependencies find the application itself."""
    seen: list[object] = []

    async def override(request: Request, world: CurrentWorld) -> AsyncIterator[AsyncSession]:
        seen.append(request.app)
        async with world.database.session() as session:
            yield session

    served.app.dependency_overrides[get_session] = override
    response = await stranger.log_in(root.email)

    assert response.status_code == 303
    assert set(seen) == {served.app}


async def test_an_unavailable_store_is_an_error_page(browser: Browser, served: Served) -> None:
    """What a dependency refuses is shown as sqladmin's page of errors, with the status."""

    async def fail() -> None:
        raise StoreUnavailable

    served.app.dependency_overrides[ADMIN.get_strategy] = fail
    response = await browser.get("/admin/")

    assert response.status_code == 503
    assert "TOKEN_STORE_UNAVAILABLE" in response.text
