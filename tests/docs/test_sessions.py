"""The applications of the page on sessions work as the page describes."""

import json
import re
import uuid
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from httpx import AsyncClient
from sqlalchemy import select, update

from fastapi_users_knox import SessionRead, get_knox_router
from tests.docs.folder import DOCS, LOGIN, SRC, calling, changed_by, load, log_in, register, statuses

DEVICE = {"X-Device-Id": "b7e2f6a0-4c0d-4a53-8a1b-2f5c1f4f0b1e", "X-Device-Name": "Jane's phone"}
# The routes of the tutorial's application.
OTHERS = {
    ("POST", "/auth/login"),
    ("POST", "/auth/logout"),
    ("POST", "/auth/register"),
    ("GET", "/users/me"),
    ("PATCH", "/users/me"),
    ("GET", "/users/{id}"),
    ("PATCH", "/users/{id}"),
    ("DELETE", "/users/{id}"),
    ("GET", "/authenticated-route"),
}


@pytest.fixture
async def client(jane: str) -> AsyncIterator[AsyncClient]:  # noqa: ARG001 (it registers her)
    """Open a client of the documented application."""
    async with calling(load("sessions").app) as client:
        yield client


async def log_in_on_phone(client: AsyncClient) -> dict[str, str]:
    """Log in with the headers that describe a device, and return the Authorization header."""
    answer = await client.post("/auth/login", data=LOGIN, headers=DEVICE)
    return {"Authorization": f"Bearer {answer.json()['access_token']}"}


async def listed(client: AsyncClient, headers: dict[str, str]) -> list[SessionRead]:
    """Return the listed sessions."""
    return [
        SessionRead.model_validate(session) for session in (await client.get("/auth/sessions", headers=headers)).json()
    ]


async def test_sessions_are_listed_as_shown(client: AsyncClient) -> None:
    """The list has the documented fields, and the headers of the device are the headers on the page."""
    phone = await log_in_on_phone(client)

    [answer] = (await client.get("/auth/sessions", headers=phone)).json()

    [shown] = json.loads((SRC / "sessions.json").read_text())
    assert SessionRead.model_validate(shown).model_dump(mode="json") == shown
    assert [*answer] == [*shown]
    assert {key: answer[key] for key in ("name", "device_id", "current")} == {
        key: shown[key] for key in ("name", "device_id", "current")
    }
    assert all(f"{name}: {value}\n" in (DOCS / "sessions.md").read_text() for name, value in DEVICE.items())


async def test_a_device_is_listed_once(client: AsyncClient) -> None:
    """A login with the same `X-Device-Id` replaces the device's session."""
    laptop, _phone = await log_in(client), await log_in_on_phone(client)

    again = await log_in_on_phone(client)

    assert [(session.name, session.current) for session in await listed(client, again)] == [
        ("Jane's phone", True),
        (None, False),
    ]
    assert len(await listed(client, laptop)) == 2


async def test_sessions_are_revoked_as_described(client: AsyncClient) -> None:
    """One session can be revoked by id, and all other sessions at once; a rotation keeps the id."""
    laptop, phone, desk = await log_in(client), await log_in_on_phone(client), await log_in(client)
    [phone_id] = [session.id for session in await listed(client, phone) if session.current]
    rotation = await client.post("/auth/rotate", headers=phone)
    phone = {"Authorization": f"Bearer {rotation.json()['access_token']}"}
    assert [session.id for session in await listed(client, phone) if session.current] == [phone_id]

    answers = [await client.delete(f"/auth/sessions/{phone_id}", headers=laptop) for _ in range(2)]
    assert [answer.status_code for answer in answers] == [204, 404]
    assert answers[1].json() == {"detail": "SESSION_NOT_FOUND"}

    assert (await client.post("/auth/logout-others", headers=laptop)).status_code == 204
    assert len(await listed(client, laptop)) == 1
    assert (await client.get("/auth/sessions", headers=desk)).status_code == 401


async def test_an_administrator_revokes_sessions(client: AsyncClient, jane: str) -> None:
    """A superuser lists a user's sessions and revokes one session or all sessions; other users get 403."""
    laptop, phone = await log_in(client), await log_in_on_phone(client)
    path = f"/users/{jane}/sessions"
    refused = await client.get(path, headers=laptop)
    db = load("db")
    async with db.engine.begin() as connection:
        await connection.execute(update(db.User).values(is_superuser=True))

    sessions = (await client.get(path, headers=laptop)).json()
    one = await client.delete(f"{path}/{sessions[0]['id']}", headers=laptop)
    left = await listed(client, laptop)
    every = await client.delete(path, headers=laptop)

    assert (refused.status_code, one.status_code, every.status_code) == (403, 204, 204)
    assert ([session["name"] for session in sessions], len(left)) == (["Jane's phone", None], 1)
    assert await statuses(client, laptop, phone) == [401, 401]


async def test_every_route_is_in_the_table(client: AsyncClient) -> None:
    """The page's table lists exactly the routes of the two routers."""
    shown = re.findall(r"^\| `(\w+) (/\S+)` \|", (DOCS / "sessions.md").read_text(), re.MULTILINE)

    document = (await client.get("/openapi.json")).json()

    routes = {(method.upper(), path) for path, methods in document["paths"].items() for method in methods}
    assert routes - OTHERS == set(shown)


@pytest.mark.usefixtures("jane")
async def test_a_route_receives_the_current_session() -> None:
    """A route receives the record of the token presented, and a passive one does not record the use."""
    async with calling(load("step_up").app) as client:
        phone = await log_in_on_phone(client)
        await backdate(timedelta(hours=1))

        passive = await client.get("/unread", headers=phone)
        unused = await read_last_use()
        session = (await client.get("/session", headers=phone)).json()

    assert (passive.json(), unused) == ("3 messages", [None])
    assert (session["name"], session["current"]) == ("Jane's phone", True)
    assert await read_last_use() != [None]


@pytest.mark.usefixtures("jane")
async def test_a_route_receives_the_record_alone() -> None:
    """A route that does not load the user receives the user's id."""
    async with calling(load("step_up").app) as client:
        phone = await log_in_on_phone(client)

        user_id = (await client.get("/id", headers=phone)).json()

        assert user_id == (await client.get("/users/me", headers=phone)).json()["id"]


async def backdate(by: timedelta) -> None:
    """Move the creation and authentication of all sessions into the past."""
    past, db = datetime.now(UTC) - by, load("db")
    async with db.engine.begin() as connection:
        await connection.execute(update(db.KnoxToken).values(created_at=past, authenticated_at=past))


async def read_last_use() -> list[datetime | None]:
    """Return the last use of each token."""
    db = load("db")
    async with db.async_session_maker() as session:
        return [record.last_used_at for record in await session.scalars(select(db.KnoxToken))]


@pytest.mark.usefixtures("jane")
async def test_a_stale_session_is_answered_to_re_authenticate() -> None:
    """After five minutes the route gives 401 until the user enters the password again, in the same session."""
    async with calling(load("step_up").app) as client:
        old = await log_in(client)
        await backdate(timedelta(minutes=6))
        stale = await client.delete("/account", headers=old)
        proven = await client.post("/auth/reauthenticate", headers=old, data={"password": LOGIN["password"]})
        new = {"Authorization": f"Bearer {proven.json()['access_token']}"}
        fresh = await client.delete("/account", headers=new)

        assert len(await listed(client, new)) == 1
        assert await statuses(client, old, new) == [401, 200]

    page, challenge = (DOCS / "sessions.md").read_text(), stale.headers["WWW-Authenticate"]
    assert stale.status_code == 401
    assert f"{json.dumps(stale.json())}\nWWW-Authenticate: {challenge}\n" in page
    assert f"| 401 | `{challenge}` | the user authenticated longer ago than `fresh_within` |" in page
    assert fresh.json() == "Goodbye jane@example.org!"


async def test_a_re_authentication_fails_as_described(client: AsyncClient) -> None:
    """The answers to a wrong password, to a missing one and to a revoked token are those of the page's table."""
    old = await log_in(client)
    forms: list[dict[str, str]] = [{"password": "wrong"}, {}, {"password": LOGIN["password"]}]

    answers = [await client.post("/auth/reauthenticate", headers=old, data=form) for form in forms]
    answers.append(await client.post("/auth/reauthenticate", headers=old, data=forms[-1]))

    assert [answer.status_code for answer in answers] == [400, 422, 200, 401]
    for answer in (answers[0], answers[3]):
        assert f"| {answer.status_code} | `{answer.json()['detail']}` |" in (DOCS / "sessions.md").read_text()


async def test_another_proof_is_accepted(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With the change shown, a right code makes the session fresh, and is noted in the data of the session."""
    changed_by("reauthenticate_by_code.diff", folder, monkeypatch)
    async with calling(load("app").app) as client:
        await register(client)
        old = await log_in(client)
        await backdate(timedelta(minutes=6))
        refused = await client.get("/salary", headers=old)
        wrong = await client.post("/auth/reauthenticate-by-code", headers=old, json={"code": "000000"})
        proven = await client.post("/auth/reauthenticate-by-code", headers=old, json={"code": "755224"})
        new = {"Authorization": f"Bearer {proven.json()['access_token']}"}
        accepted = await client.get("/salary", headers=new)
        [session] = await listed(client, new)

    await load("db").engine.dispose()
    assert (refused.json(), wrong.json()) == ({"detail": "CODE_REQUIRED"}, {"detail": "WRONG_CODE"})
    assert proven.headers["Cache-Control"] == "no-store"
    assert accepted.json() == "jane@example.org earns enough"
    assert session.data == {"factors": ["password", "code"]}
    assert session.authenticated_at > session.created_at


@pytest.mark.usefixtures("jane")
async def test_the_router_may_need_a_fresh_login() -> None:
    """With `fresh_within`, the router lets an old session re-authenticate, but not list sessions."""
    app, users = load("step_up").app, load("users")
    router = get_knox_router(users.fastapi_users, users.auth_backend, fresh_within=timedelta(minutes=5))
    app.include_router(router, prefix="/guarded")
    async with calling(app) as client:
        headers = await log_in(client)
        fresh = await client.get("/guarded/sessions", headers=headers)
        await backdate(timedelta(minutes=6))
        stale = await client.get("/guarded/sessions", headers=headers)
        form = {"password": LOGIN["password"]}
        proven = await client.post("/guarded/reauthenticate", headers=headers, data=form)

    assert (fresh.status_code, stale.status_code, proven.status_code) == (200, 401, 200)


@pytest.mark.parametrize(
    ("headers", "path", "challenge"),
    [
        ({}, "/auth/sessions", "Bearer"),
        ({"Authorization": "Bearer junk"}, "/auth/sessions", 'Bearer error="invalid_token"'),
        ({}, "/auth/logout", "Bearer"),
        ({"Authorization": "Bearer junk"}, "/auth/logout", 'Bearer error="invalid_token"'),
        ({}, f"/users/{uuid.UUID(int=1)}/sessions", "Bearer"),
    ],
)
async def test_a_refused_client_is_answered_as_described(
    client: AsyncClient, headers: dict[str, str], path: str, challenge: str
) -> None:
    """A refused request gets the `WWW-Authenticate` header that the page shows."""
    method = "POST" if path.endswith("logout") else "GET"

    answer = await client.request(method, path, headers=headers)

    assert (answer.status_code, answer.headers["WWW-Authenticate"]) == (401, challenge)
    assert f"| 401 | `{challenge}` |" in (DOCS / "sessions.md").read_text()
