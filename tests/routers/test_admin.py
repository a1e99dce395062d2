"""Superusers list and revoke the sessions of any user, on each kind of store."""

import uuid
from collections.abc import Mapping, Sequence

import pytest
from httpx import AsyncClient

from fastapi_users_knox import KnoxEvent, KnoxSettings
from tests.models import User
from tests.routers.device import Device, on_each_kind_of_store
from tests.site import Backend, Database, bearing, jwt_backend, knox_backend, login
from tests.strategies import reasons, unknown_token

pytestmark = on_each_kind_of_store

VERBS = ("GET", "DELETE", "DELETE one")
each_route = pytest.mark.parametrize("verb", VERBS)


@pytest.fixture
def backends() -> Sequence[Backend]:
    """Return the application's backend, a backend with its own audience, and FastAPI-Users' JWT backend."""
    return [knox_backend(), knox_backend("api"), jwt_backend()]


@pytest.fixture
def settings() -> Mapping[str, KnoxSettings]:
    """Give one of the backends its own audience."""
    return {"api": KnoxSettings(audience="api")}


@pytest.fixture
async def admin(client: AsyncClient, database: Database) -> Device:
    """Return a superuser's device."""
    root = await database.create_user("root@example.org", is_superuser=True)
    return Device(http=client, token=await login(client, email=root.email))


def route(verb: str, user_id: object, session_id: object) -> tuple[str, str]:
    """Return the method and path of a route."""
    path = f"/admin/knox/{user_id}/sessions"
    return ("DELETE", f"{path}/{session_id}") if verb == "DELETE one" else (verb, path)


async def test_sessions_are_listed(admin: Device, laptop: Device, phone: Device, ada: User) -> None:
    """A superuser sees the same list as the user, but with no session marked as current."""
    own = await laptop.sessions()

    response = await admin.call("GET", f"/admin/knox/{ada.id}/sessions")

    assert (response.status_code, response.headers["Cache-Control"]) == (200, "no-store")
    assert [session["name"] for session in response.json()] == ["phone", "laptop"]
    assert {session["id"] for session in response.json()} == {session["id"] for session in own}
    assert [session["current"] for session in response.json()] == [False, False]
    assert await phone.is_logged_in()


async def test_the_administrator_s_own_session_is_marked(admin: Device) -> None:
    """In the list of a superuser's own sessions the current one is marked."""
    await login(admin.http, email="root@example.org")
    root = (await admin.http.get("/users/me", headers=bearing(admin.token))).json()

    response = await admin.call("GET", f"/admin/knox/{root['id']}/sessions")

    assert {session["id"] for session in response.json() if session["current"]} == {await admin.id()}
    assert len(response.json()) == 2


async def test_one_session_is_revoked(
    admin: Device, laptop: Device, phone: Device, ada: User, events: list[KnoxEvent[uuid.UUID]]
) -> None:
    """A superuser can revoke one session of a user, and the event has the reason "admin"."""
    laptop_id = await laptop.id()
    events.clear()

    response = await admin.call("DELETE", f"/admin/knox/{ada.id}/sessions/{laptop_id}")

    assert (response.status_code, response.content) == (204, b"")
    assert [await device.is_logged_in() for device in (laptop, phone, admin)] == [False, True, True]
    assert reasons(events) == ["admin"]


async def test_all_sessions_are_revoked(
    admin: Device, laptop: Device, phone: Device, ada: User, events: list[KnoxEvent[uuid.UUID]]
) -> None:
    """A superuser can revoke all sessions of a user, including sessions of other audiences (ASVS 7.4.5)."""
    api = Device(http=laptop.http, token=await login(laptop.http, "api"))
    events.clear()

    response = await admin.call("DELETE", f"/admin/knox/{ada.id}/sessions")

    assert (response.status_code, response.content) == (204, b"")
    assert [await device.is_logged_in() for device in (laptop, phone, api, admin)] == [False, False, False, True]
    assert reasons(events) == ["admin"] * 3


async def test_a_user_without_sessions(admin: Device, ada: User) -> None:
    """A user without sessions has an empty list, and revoking them succeeds."""
    listed = await admin.call("GET", f"/admin/knox/{ada.id}/sessions")
    ended = await admin.call("DELETE", f"/admin/knox/{ada.id}/sessions")

    assert (listed.json(), ended.status_code) == ([], 204)


async def test_only_the_user_s_own_sessions_can_be_revoked(
    admin: Device, laptop: Device, stranger: Device, ada: User
) -> None:
    """An unknown session and a session of a user who is not in the path get the same 404."""
    ids = [uuid.uuid4(), await stranger.id()]

    answers = [await admin.call("DELETE", f"/admin/knox/{ada.id}/sessions/{session_id}") for session_id in ids]

    assert {(answer.status_code, answer.text) for answer in answers} == {(404, '{"detail":"SESSION_NOT_FOUND"}')}
    assert [await device.is_logged_in() for device in (laptop, stranger)] == [True, True]


@each_route
async def test_an_unknown_user_is_not_found(admin: Device, *, verb: str) -> None:
    """An unknown user id and an invalid one get FastAPI-Users' 404."""
    answers = [await admin.call(*route(verb, user_id, uuid.uuid4())) for user_id in (uuid.uuid4(), "me")]

    assert [(answer.status_code, answer.json()) for answer in answers] == [(404, {"detail": "Not Found"})] * 2


@each_route
async def test_others_are_forbidden(laptop: Device, stranger: Device, ada: User, *, verb: str) -> None:
    """Users who are not superusers get 403, whether or not the user in the path exists."""
    laptop_id = await laptop.id()

    answers = [await stranger.call(*route(verb, user_id, laptop_id)) for user_id in (ada.id, uuid.uuid4(), "me")]
    own = await laptop.call(*route(verb, ada.id, laptop_id))

    assert {(answer.status_code, answer.text) for answer in (*answers, own)} == {(403, '{"detail":"Forbidden"}')}
    assert await laptop.is_logged_in()


@each_route
async def test_a_request_without_a_valid_token_is_refused(laptop: Device, ada: User, *, verb: str) -> None:
    """Without a valid token the response is 401, whether or not the user in the path exists."""
    tokens = ["", "junk", unknown_token(ada)]
    paths = [route(verb, user_id, await laptop.id()) for user_id in (ada.id, uuid.uuid4())]

    answers = [await laptop.http.request(*path, headers=bearing(token)) for token in tokens for path in paths]

    assert {answer.status_code for answer in answers} == {401}
    assert await laptop.is_logged_in()


@pytest.mark.parametrize("backend", ["api", "jwt"])
async def test_a_superuser_may_come_by_any_backend(admin: Device, laptop: Device, ada: User, *, backend: str) -> None:
    """A superuser may authenticate by any backend, as for FastAPI-Users' users router."""
    other = Device(http=admin.http, token=await login(admin.http, backend, "root@example.org"))

    response = await other.call("DELETE", f"/admin/knox/{ada.id}/sessions")

    assert (response.status_code, await laptop.is_logged_in()) == (204, False)
