"""A user's sessions over HTTP: listing and revoking them and rotating the token, on each kind of store."""

import uuid

from fastapi_users.authentication import BearerTransport
from httpx import AsyncClient

from fastapi_users_knox import KnoxEvent, KnoxSettings
from tests.models import User
from tests.routers.device import Device, each_route, on_each_kind_of_store
from tests.site import (
    Database,
    World,
    cookie_backend,
    credentials,
    jwt_backend,
    knox_backend,
    login,
)
from tests.strategies import HOUR, MINUTE, Clock, change_user, flipped, reasons, unknown_token

pytestmark = on_each_kind_of_store

STOCK = BearerTransport("knox/login")
INVALID = 'Bearer error="invalid_token"'


async def test_sessions_are_listed(laptop: Device, phone: Device, stranger: Device) -> None:
    """Users see their own live sessions, newest first, and the current one is marked."""
    listed = await phone.sessions()

    assert [(session["name"], session["current"]) for session in listed] == [("phone", True), ("laptop", False)]
    assert [session["current"] for session in await laptop.sessions()] == [False, True]
    assert len(await stranger.sessions()) == 1


async def test_a_session_has_its_fields(laptop: Device, clock: Clock) -> None:
    """A session shows its times, its device and its client, and nothing else."""
    clock.now += MINUTE

    [session] = await laptop.sessions()

    assert uuid.UUID(session.pop("id"))
    assert session.pop("user_agent").startswith("python-httpx/")
    assert session == {
        "name": "laptop",
        "device_id": None,
        "scopes": None,
        "data": {},
        "ip_address": "127.0.0.1",
        "created_at": "2030-01-01T12:00:00Z",
        "authenticated_at": "2030-01-01T12:00:00Z",
        "expires_at": "2030-01-01T22:00:00Z",
        "last_used_at": "2030-01-01T13:01:00Z",
        "current": True,
    }


async def test_a_list_is_not_cached(laptop: Device) -> None:
    """The list of sessions must not be cached, because it holds addresses and devices."""
    response = await laptop.call("GET", "/knox/sessions")

    assert response.headers["Cache-Control"] == "no-store"


async def test_an_expired_session_is_not_listed(laptop: Device, phone: Device, clock: Clock) -> None:
    """An expired session is not listed."""
    laptop_id = await laptop.id()
    clock.now += 9 * HOUR

    listed = await phone.sessions()

    assert laptop_id not in {session["id"] for session in listed}
    assert len(listed) == 1


async def test_a_session_is_revoked(laptop: Device, phone: Device, events: list[KnoxEvent[uuid.UUID]]) -> None:
    """Revoking another device's session refuses its token at once."""
    phone_id = await phone.id()
    events.clear()

    response = await laptop.call("DELETE", f"/knox/sessions/{phone_id}")

    assert (response.status_code, response.content) == (204, b"")
    assert (await laptop.is_logged_in(), await phone.is_logged_in()) == (True, False)
    assert reasons(events) == ["session_revoked"]


async def test_the_current_session_is_revoked(laptop: Device, phone: Device) -> None:
    """A device may revoke its own session, which logs it out."""
    response = await laptop.call("DELETE", f"/knox/sessions/{await laptop.id()}")

    assert (response.status_code, response.content) == (204, b"")
    assert (await laptop.is_logged_in(), await phone.is_logged_in()) == (False, True)


async def test_only_the_user_s_live_sessions_can_be_revoked(
    laptop: Device, phone: Device, stranger: Device, clock: Clock, events: list[KnoxEvent[uuid.UUID]]
) -> None:
    """Unknown, revoked, expired and other users' session ids get the same 404, and nothing is revoked."""
    ids = {"unknown": str(uuid.uuid4()), "foreign": await stranger.id(), "expired": await laptop.id()}
    third = Device(http=phone.http, token=await login(phone.http))
    ids["ended"] = await third.id()
    await third.call("POST", "/knox/logout")
    clock.now += 9 * HOUR
    events.clear()

    answers = [await phone.call("DELETE", f"/knox/sessions/{other}") for other in ids.values()]

    assert {(answer.status_code, answer.text) for answer in answers} == {(404, '{"detail":"SESSION_NOT_FOUND"}')}
    assert len({tuple(answer.headers.items()) for answer in answers}) == 1
    assert (await phone.is_logged_in(), await stranger.is_logged_in()) == (True, True)
    assert events == []


async def test_an_id_that_is_not_a_uuid_is_unprocessable(laptop: Device) -> None:
    """A session id that is not a UUID gets 422."""
    assert (await laptop.call("DELETE", "/knox/sessions/laptop")).status_code == 422


async def test_the_others_are_logged_out(
    laptop: Device, phone: Device, stranger: Device, events: list[KnoxEvent[uuid.UUID]]
) -> None:
    """`logout-others` revokes the user's other sessions, and keeps the current session and other users' sessions."""
    third = Device(http=phone.http, token=await login(phone.http))
    events.clear()

    response = await phone.call("POST", "/knox/logout-others")

    assert (response.status_code, response.content) == (204, b"")
    assert [await device.is_logged_in() for device in (laptop, phone, third, stranger)] == [False, True, False, True]
    assert reasons(events) == ["logout_others"] * 2


async def test_all_are_logged_out(
    laptop: Device, phone: Device, stranger: Device, events: list[KnoxEvent[uuid.UUID]]
) -> None:
    """`logout-all` revokes all of the user's sessions, including the current one."""
    events.clear()

    response = await phone.call("POST", "/knox/logout-all")

    assert (response.status_code, response.content) == (204, b"")
    assert [await device.is_logged_in() for device in (laptop, phone, stranger)] == [False, False, True]
    assert reasons(events) == ["logout_all"] * 2


async def test_a_token_is_rotated(laptop: Device, clock: Clock, events: list[KnoxEvent[uuid.UUID]]) -> None:
    """A rotation answers as a login does, with a new token and the old expiry, for the same session."""
    [before] = await laptop.sessions()
    clock.now += MINUTE
    events.clear()

    response = await laptop.call("POST", "/knox/rotate")

    body = response.json()
    rotated = Device(http=laptop.http, token=body.pop("access_token"))
    assert body == {"token_type": "bearer", "expires_in": 9 * 3600 - 60, "expiry": before["expires_at"]}
    assert (response.status_code, response.headers["Cache-Control"]) == (200, "no-store")
    assert (await laptop.is_logged_in(), await rotated.is_logged_in()) == (False, True)
    assert [(session["id"], session["created_at"]) for session in await rotated.sessions()] == [
        (before["id"], before["created_at"])
    ]
    assert [type(event).__name__ for event in events] == ["TokenRotated"]


async def test_a_rotation_at_the_limit_succeeds(world: World, ada: User) -> None:
    """A token can be rotated at the limit, because no session is added."""
    async with world.having(knox=KnoxSettings(token_limit_per_user=1)).client(knox_backend()) as client:
        device = Device(http=client, token=await login(client, email=ada.email))
        response = await device.call("POST", "/knox/rotate")

    assert response.status_code == 200


@each_route
async def test_a_route_needs_a_token(client: AsyncClient, method: str, path: str) -> None:
    """Without a token each route gives 401 without an error in its challenge (RFC 6750 §3.1)."""
    response = await client.request(method, path)

    assert (response.status_code, response.json()) == (401, {"detail": "Unauthorized"})
    assert response.headers["WWW-Authenticate"] == "Bearer"


@each_route
async def test_a_route_refuses_a_wrong_token(world: World, clock: Clock, ada: User, *, method: str, path: str) -> None:
    """A malformed, unknown or expired token and a token of another backend get the same 401, and revoke nothing."""
    apart = world.having(api=KnoxSettings(audience="api"))
    async with apart.client(knox_backend(), knox_backend("api"), jwt_backend()) as client:
        expired = await login(client, email=ada.email)
        clock.now += 10 * HOUR
        good = Device(http=client, token=await login(client))
        others = [await login(client, "api"), await login(client, "jwt")]
        tokens = ["junk", flipped(good.token), unknown_token(ada), expired, *others]

        answers = [await Device(http=client, token=token).call(method, path) for token in tokens]

        assert {(answer.status_code, answer.text) for answer in answers} == {(401, '{"detail":"Unauthorized"}')}
        assert {answer.headers["WWW-Authenticate"] for answer in answers} == {INVALID}
        assert await good.is_logged_in()


@each_route
async def test_a_route_refuses_the_inactive(
    laptop: Device, ada: User, database: Database, *, method: str, path: str
) -> None:
    """An inactive user's token is refused by each route."""
    await change_user(database.engine, ada, is_active=False)

    response = await laptop.call(method, path)

    assert (response.status_code, response.headers["WWW-Authenticate"]) == (401, INVALID)


@each_route
async def test_a_route_may_need_verification(world: World, database: Database, *, method: str, path: str) -> None:
    """With `requires_verification` an unverified user gets 403 from each route."""
    user = await database.create_user(is_verified=True)

    async with world.client(knox_backend(), requires_verification=True) as client:
        device = Device(http=client, token=await login(client))
        await change_user(database.engine, user, is_verified=False)
        refused = await device.call(method, path)
        await change_user(database.engine, user, is_verified=True)
        done = await device.call(method, path)

    assert refused.status_code == 403
    assert refused.headers["WWW-Authenticate"] == 'Bearer error="insufficient_scope"'
    assert done.status_code in {200, 204, 404, 422}


async def test_audiences_keep_apart(world: World, ada: User) -> None:
    """A backend's routes list and revoke only the sessions of its own audience."""
    settings = {name: KnoxSettings(audience=name) for name in ("knox", "api")}
    async with world.having(**settings).client(*(knox_backend(name) for name in settings)) as client:
        web, api = [Device(http=client, token=await login(client, name, ada.email)) for name in settings]
        [other] = (await api.call("GET", "/api/sessions")).json()

        ended = await web.call("DELETE", f"/knox/sessions/{other['id']}")
        await web.call("POST", "/knox/logout-others")

        assert ended.status_code == 404
        assert len(await web.sessions()) == 1
        assert await api.is_logged_in()


async def test_the_stock_bearer_transport_will_do(world: World, ada: User) -> None:
    """With FastAPI-Users' `BearerTransport` a rotation is not cached and revoking gives 204."""
    async with world.client(knox_backend(transport=STOCK)) as client:
        device = Device(http=client, token=await login(client, email=ada.email))
        rotation = await device.call("POST", "/knox/rotate")
        rotated = Device(http=client, token=rotation.json()["access_token"])
        ended = await rotated.call("DELETE", f"/knox/sessions/{await rotated.id()}")

        assert rotation.headers["Cache-Control"] == "no-store"
        assert (ended.status_code, await rotated.is_logged_in()) == (204, False)


async def test_a_cookie_is_swapped_and_deleted(world: World, ada: User) -> None:
    """A rotation replaces the cookie, and only revoking the current session deletes it."""
    async with world.client(cookie_backend()) as browser:
        await browser.post("/cookie/login", data=credentials(ada.email))
        first = browser.cookies["knox"]
        browser.cookies.clear()
        await browser.post("/cookie/login", data=credentials(ada.email))
        second = browser.cookies["knox"]

        rotation = await browser.post("/cookie/rotate")
        third = browser.cookies["knox"]
        listed = (await browser.get("/cookie/sessions")).json()
        [own], [other] = (
            [session["id"] for session in listed if session["current"] is current] for current in (True, False)
        )
        ended = [await browser.delete(f"/cookie/sessions/{session}") for session in (other, own)]

    assert len({first, second, third}) == 3
    assert (rotation.status_code, rotation.headers["Cache-Control"]) == (204, "no-store")
    assert [answer.status_code for answer in ended] == [204, 204]
    assert "Set-Cookie" not in ended[0].headers
    assert "Max-Age=0" in ended[1].headers["Set-Cookie"]
