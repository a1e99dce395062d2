"""The pages of the sessions: what they show, and that a deletion there is a revocation."""

import uuid

import httpx
import pytest
from fastapi import FastAPI, Request
from httpx import AsyncClient
from sqladmin import Admin
from sqlalchemy import delete
from sqlalchemy.ext.asyncio import AsyncEngine

from fastapi_users_knox import KnoxError, KnoxEvent, KnoxSettings, TokenRevoked
from tests.admin.site import ROOT, Browser, Device, SessionAdmin, change_session, create_app
from tests.models import KnoxToken, User
from tests.site import ADA, PASSWORD, client_of
from tests.strategies import HOUR, MINUTE, Clock, reasons, stored
from tests.throttling.site import ThrottledWorld

LIST = "/admin/knox-token/list"
SCRIPT = "<script>alert(1)</script>"


async def ids(engine: AsyncEngine) -> dict[str, uuid.UUID]:
    """Return the ids of the stored sessions by the names of their devices; the superuser's own has none."""
    return {row.name or "root": row.id for row in await stored(engine)}


@pytest.mark.usefixtures("phone")
async def test_the_list_shows_the_sessions_newest_first(browser: Browser) -> None:
    """Each row shows the user, the state, the device, the address and the times."""
    rows = await browser.rows()

    address, agent = "127.0.0.1", f"python-httpx/{httpx.__version__}"
    assert rows == [
        f"{ROOT} this session {address} 2030-01-01 13:01:00 UTC 2030-01-01 23:01:00 UTC {agent}",
        f"{ADA} live phone {address} 2030-01-01 13:00:00 UTC 2030-01-01 23:00:00 UTC {agent}",
        f"{ADA} live laptop {address} 2030-01-01 12:00:00 UTC 2030-01-01 22:00:00 UTC {agent}",
    ]


@pytest.mark.usefixtures("laptop")
async def test_the_page_of_a_session_shows_all_but_its_secrets(browser: Browser, engine: AsyncEngine) -> None:
    """The page of one session also shows its audience and when the user authenticated."""
    page = await browser.get(f"/admin/knox-token/details/{(await ids(engine))['laptop']}")

    text = " ".join(page.text.split())
    assert page.status_code == 200
    assert all(f"<td>{label}</td>" in text for label in SessionAdmin.column_labels.values())
    assert ADA in text
    assert "2030-01-01 12:00:00 UTC" in text


@pytest.mark.usefixtures("laptop")
async def test_scopes_are_shown(browser: Browser, engine: AsyncEngine) -> None:
    """The scopes of an API token are shown in alphabetical order."""
    await change_session(engine, "laptop", scopes=frozenset({"write", "read"}))

    assert " UTC read write python-httpx" in (await browser.rows())[1]


async def test_texts_of_the_browser_are_escaped(browser: Browser, client: AsyncClient, ada: User) -> None:
    """Whatever name and user agent a device sends at login, no page contains it as markup."""
    headers = {"User-Agent": SCRIPT, "X-Device-Name": SCRIPT}
    await client.post("/knox/login", data={"username": ada.email, "password": PASSWORD}, headers=headers)

    pages = [await browser.get(LIST), await browser.get(f"/admin/user/details/{ada.id}")]

    for page in pages:
        assert page.text.count("&lt;script&gt;alert(1)&lt;/script&gt;") == 2
        assert SCRIPT not in page.text


# filters


@pytest.mark.usefixtures("laptop", "robot")
async def test_the_list_is_filtered_by_state(browser: Browser, clock: Clock) -> None:
    """Expired sessions that nobody has purged yet can be shown alone, or left out."""
    clock.now += 9 * HOUR

    live, expired = await browser.rows("?state=live"), await browser.rows("?state=expired")

    assert [len(await browser.rows(query)) for query in ("", "?state=__all")] == [3, 3]
    assert [row.split()[:2] for row in live] == [[ADA, "live"], [ROOT, "this"]]
    assert [row.split()[:3] for row in expired] == [[ADA, "expired", "laptop"]]


@pytest.mark.parametrize(
    ("settings", "live"),
    [
        (KnoxSettings(auto_refresh=True, token_ttl=HOUR, auto_refresh_max_ttl=HOUR), {"robot"}),
        (KnoxSettings(not_before=Clock().now + MINUTE), {"robot"}),
        (KnoxSettings(auto_refresh=True, token_ttl=HOUR, auto_refresh_max_ttl=2 * HOUR), {"robot", "laptop"}),
    ],
)
@pytest.mark.usefixtures("laptop", "robot", "root")
async def test_a_setting_that_ends_sessions_counts(
    world: ThrottledWorld, settings: KnoxSettings, live: set[str]
) -> None:
    """A session that the cap or `not_before` ends is shown as expired; the settings of other audiences do not count."""
    changed = world.having(knox=settings, admin=settings)
    async with client_of(changed.serving(create_app(world.database.engine))) as http:
        browser = Browser(http=http)
        await browser.log_in()
        rows = {state: await browser.rows(f"?state={state}") for state in ("live", "expired")}

    assert {row.split()[2] for row in rows["live"]} - {"session"} == live
    assert all(row.split()[1] == "expired" for row in rows["expired"])
    assert len(rows["live"]) + len(rows["expired"]) == 3


@pytest.mark.usefixtures("laptop", "robot")
async def test_the_list_is_filtered_by_audience(browser: Browser) -> None:
    """The list can show the sessions of each audience whose backend was passed."""
    page = await browser.get(LIST)
    default, api, every = [await browser.rows(f"?audience={value}") for value in ("%3D", "%3Dapi", "__all")]

    assert [label in page.text for label in ("(default)", "api", "Live", "Expired")] == [True] * 4
    assert (len(default), [row.split()[2] for row in api], len(every)) == (2, ["robot"], 3)


# revocation


async def test_a_session_is_revoked(
    browser: Browser, laptop: Device, phone: Device, engine: AsyncEngine, events: list[KnoxEvent[uuid.UUID]]
) -> None:
    """A deletion revokes one session: its device is out, and the event says that an administrator did it."""
    id_ = (await ids(engine))["laptop"]
    events.clear()

    response = await browser.delete(id_)

    assert (response.status_code, response.text) == (200, f"https://test{LIST}")
    assert [await laptop.is_logged_in(), await phone.is_logged_in()] == [False, True]
    assert reasons(events) == ["admin"]
    assert [event.record.id for event in events if isinstance(event, TokenRevoked)] == [id_]


async def test_sessions_of_every_audience_are_revoked_at_once(
    browser: Browser, laptop: Device, robot: Device, engine: AsyncEngine, events: list[KnoxEvent[uuid.UUID]]
) -> None:
    """A deletion in bulk revokes all selected sessions, whatever their audience."""
    chosen = await ids(engine)
    events.clear()

    await browser.delete(chosen["laptop"], chosen["robot"])

    assert [await laptop.is_logged_in(), await robot.is_logged_in()] == [False, False]
    assert reasons(events) == ["admin", "admin"]
    assert [event.record.audience for event in events if isinstance(event, TokenRevoked)] == ["", "api"]


@pytest.mark.usefixtures("laptop")
async def test_an_unknown_audience_is_revoked_too(
    browser: Browser, engine: AsyncEngine, events: list[KnoxEvent[uuid.UUID]]
) -> None:
    """The strategy of the pages revokes sessions for whose audience no backend was passed."""
    id_ = (await ids(engine))["laptop"]
    await change_session(engine, "laptop", audience="elsewhere")
    events.clear()

    await browser.delete(id_)

    assert reasons(events) == ["admin"]
    assert set(await ids(engine)) == {"root"}


@pytest.mark.usefixtures("laptop")
async def test_an_expired_session_is_removed_without_an_event(
    browser: Browser, engine: AsyncEngine, clock: Clock, events: list[KnoxEvent[uuid.UUID]]
) -> None:
    """The deletion of a session that has expired removes its row, and publishes nothing."""
    id_ = (await ids(engine))["laptop"]
    clock.now += 9 * HOUR
    events.clear()

    await browser.delete(id_)

    assert events == []
    assert set(await ids(engine)) == {"root"}


async def test_revoking_ones_own_session_is_a_logout(browser: Browser, engine: AsyncEngine) -> None:
    """A superuser who revokes the session of the pages gets the login page."""
    await browser.delete((await ids(engine))["root"])

    assert not await browser.is_admitted()


@pytest.mark.usefixtures("laptop")
async def test_sqladmin_s_audit_and_hooks_see_the_deletion(
    world: ThrottledWorld, root: User, engine: AsyncEngine
) -> None:
    """Sqladmin's audit backend gets an entry with the superuser's id, and the hooks of the view are called."""

    class Hooked(SessionAdmin, model=KnoxToken):
        async def on_model_delete(self, model: KnoxToken, request: Request) -> None:
            request.state.world.notes.append(f"before {model.name}")

        async def after_model_delete(self, model: KnoxToken, request: Request) -> None:
            request.state.world.notes.append(f"after {model.name}")

    id_ = (await ids(engine))["laptop"]
    async with client_of(world.serving(create_app(engine, views=[Hooked]))) as http:
        browser = Browser(http=http)
        await browser.log_in(root.email)
        await browser.delete(id_)

    assert world.notes[-3:] == ["before laptop", "after laptop", ("delete", str(id_), root.id)]


@pytest.mark.parametrize("pk", [uuid.UUID(int=0), "junk"])
async def test_an_unknown_session_is_an_error(browser: Browser, pk: object) -> None:
    """The page of an unknown session is not found, and its deletion is reported."""
    page = await browser.get(f"/admin/knox-token/details/{pk}")
    deletion = await browser.delete(str(pk))

    assert page.status_code == 404
    assert "error=404" in deletion.text


@pytest.mark.usefixtures("laptop")
async def test_a_session_that_has_just_ended_is_an_error(
    world: ThrottledWorld, root: User, engine: AsyncEngine, events: list[KnoxEvent[uuid.UUID]]
) -> None:
    """If somebody else ends the session meanwhile, the list says so, and no event is published."""

    class Overtaken(SessionAdmin, model=KnoxToken):
        async def delete_model(self, request: Request, pk: object) -> None:
            async with engine.begin() as connection:
                await connection.execute(delete(KnoxToken).where(KnoxToken.__table__.c.name == "laptop"))
            await super().delete_model(request, pk)

    id_ = (await ids(engine))["laptop"]
    async with client_of(world.serving(create_app(engine, views=[Overtaken]))) as http:
        browser = Browser(http=http)
        await browser.log_in(root.email)
        events.clear()
        response = await browser.delete(id_)

    assert "The+session+has+ended+already" in response.text
    assert events == []


@pytest.mark.usefixtures("laptop")
async def test_a_session_without_a_user_is_shown(browser: Browser, ada: User, engine: AsyncEngine) -> None:
    """A row that a deleted user has left behind has no e-mail address, and no user in whose name to revoke it."""
    async with engine.begin() as connection:
        await connection.execute(delete(User).where(User.__table__.c.id == ada.id))

    rows = await browser.rows()
    response = await browser.delete((await ids(engine))["laptop"])

    assert rows[1].split()[:3] == [str(ada.id), "live", "laptop"]
    assert "The+user+of+this+session+does+not+exist" in response.text


async def test_the_pages_need_their_login(engine: AsyncEngine, world: ThrottledWorld) -> None:
    """Without `KnoxAdminAuth` the pages show nothing, and say what is missing."""
    app = FastAPI()
    Admin(app, engine).add_view(SessionAdmin)
    async with client_of(world.serving(app)) as http:
        for path in (LIST, f"/admin/knox-token/details/{uuid.uuid4()}"):
            with pytest.raises(KnoxError, match="these pages need KnoxAdminAuth"):
                await http.get(path)
