"""What the page on sessions shows is what runs."""

import json
import re
import uuid
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from fastapi import APIRouter, Depends
from httpx import AsyncClient
from sqlalchemy import select, update
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession

from example_app import db
from example_app.app import app as example_app
from example_app.users import auth_backend, fastapi_users
from fastapi_users_knox import SessionRead, get_knox_router
from tests.test_docs import DOCS, SRC, load
from tests.test_example_app import calling, example_database, knock, log_in, register

DEVICE = {"X-Device-Id": "b7e2f6a0-4c0d-4a53-8a1b-2f5c1f4f0b1e", "X-Device-Name": "Jane's phone"}
LOGIN = {"username": "jane@example.org", "password": "quite-a-good-one"}


@pytest.fixture
async def engine(tmp_path: Path) -> AsyncIterator[AsyncEngine]:
    """Open a database with the example's tables and one user."""
    async with example_database(tmp_path) as engine:
        async with calling(example_app, engine) as client:
            await register(client)
        yield engine


@pytest.fixture
async def client(engine: AsyncEngine) -> AsyncIterator[AsyncClient]:
    """Call the documented application."""
    async with calling(load("sessions").app, engine) as client:
        yield client


async def log_in_on_phone(client: AsyncClient) -> dict[str, str]:
    """Log in on a device that says what it is."""
    answer = await client.post("/auth/login", data=LOGIN, headers=DEVICE)
    return {"Authorization": f"Bearer {answer.json()['access_token']}"}


async def listed(client: AsyncClient, headers: dict[str, str]) -> list[SessionRead]:
    """List the sessions."""
    return [SessionRead.model_validate(it) for it in (await client.get("/auth/sessions", headers=headers)).json()]


async def test_sessions_are_listed_as_shown(client: AsyncClient) -> None:
    """The answer has the documented fields, of the documented kinds, and the headers are those of the page."""
    phone = await log_in_on_phone(client)

    [told] = (await client.get("/auth/sessions", headers=phone)).json()

    [shown] = json.loads((SRC / "sessions.json").read_text())
    assert SessionRead.model_validate(shown).model_dump(mode="json") == shown
    assert [*told] == [*shown]
    assert {it: told[it] for it in ("name", "device_id", "current")} == {
        it: shown[it] for it in ("name", "device_id", "current")
    }
    assert all(f"{name}: {value}\n" in (DOCS / "sessions.md").read_text() for name, value in DEVICE.items())


async def test_a_device_is_listed_once(client: AsyncClient) -> None:
    """A login with the same `X-Device-Id` takes the place of the first."""
    laptop, _phone = await log_in(client), await log_in_on_phone(client)

    again = await log_in_on_phone(client)

    assert [(it.name, it.current) for it in await listed(client, again)] == [("Jane's phone", True), (None, False)]
    assert len(await listed(client, laptop)) == 2


async def test_sessions_are_ended_as_described(client: AsyncClient) -> None:
    """One by its id, the others, and all; a rotation keeps the id."""
    laptop, phone, desk = await log_in(client), await log_in_on_phone(client), await log_in(client)
    [phone_id] = [it.id for it in await listed(client, phone) if it.current]
    rotation = await client.post("/auth/rotate", headers=phone)
    phone = {"Authorization": f"Bearer {rotation.json()['access_token']}"}
    assert [it.id for it in await listed(client, phone) if it.current] == [phone_id]

    ended = [await client.delete(f"/auth/sessions/{phone_id}", headers=laptop) for _ in range(2)]
    assert [it.status_code for it in ended] == [204, 404]
    assert ended[1].json() == {"detail": "SESSION_NOT_FOUND"}

    assert (await client.post("/auth/logout-others", headers=laptop)).status_code == 204
    assert len(await listed(client, laptop)) == 1
    assert (await client.get("/auth/sessions", headers=desk)).status_code == 401


async def test_an_administrator_ends_sessions(client: AsyncClient, engine: AsyncEngine) -> None:
    """A superuser lists a user's sessions and ends one or all; whoever is none may not."""
    laptop, phone = await log_in(client), await log_in_on_phone(client)
    async with calling(example_app, engine) as example:
        jane = (await example.get("/users/me", headers=laptop)).json()["id"]
    path = f"/users/{jane}/sessions"
    refused = await client.get(path, headers=laptop)
    async with engine.begin() as connection:
        await connection.execute(update(db.User).values(is_superuser=True))

    sessions = (await client.get(path, headers=laptop)).json()
    one = await client.delete(f"{path}/{sessions[0]['id']}", headers=laptop)
    left = await listed(client, laptop)
    every = await client.delete(path, headers=laptop)

    assert (refused.status_code, one.status_code, every.status_code) == (403, 204, 204)
    assert ([it["name"] for it in sessions], len(left)) == (["Jane's phone", None], 1)
    async with calling(example_app, engine) as example:
        assert await knock(example, laptop, phone) == [401, 401]


async def test_every_route_is_in_the_table(client: AsyncClient) -> None:
    """The page names each route of the two routers, and the application has no others but the login's."""
    shown = re.findall(r"^\| `(\w+) (/\S+)` \|", (DOCS / "sessions.md").read_text(), re.MULTILINE)

    document = (await client.get("/openapi.json")).json()

    routes = {(method.upper(), path) for path, methods in document["paths"].items() for method in methods}
    assert routes - {("POST", "/auth/login"), ("POST", "/auth/logout")} == set(shown)


async def test_the_session_that_asks_is_told(engine: AsyncEngine) -> None:
    """A route has the record of the token that was presented; a passive one leaves it as it is."""
    async with calling(load("sessions").app, engine) as client:
        phone = await log_in_on_phone(client)
    await backdate(engine, timedelta(hours=1))
    async with calling(load("step_up").app, engine) as client:
        passive = await client.get("/unread", headers=phone)
        unused = await read_last_use(engine)
        told = (await client.get("/session", headers=phone)).json()

    assert (passive.json(), unused) == ("3 messages", [None])
    assert (told["name"], told["current"]) == ("Jane's phone", True)
    assert await read_last_use(engine) != [None]


async def backdate(engine: AsyncEngine, by: timedelta) -> None:
    """Let all logins have been so long ago."""
    past = datetime.now(UTC) - by
    async with engine.begin() as connection:
        await connection.execute(update(db.KnoxToken).values(created_at=past, authenticated_at=past))


async def read_last_use(engine: AsyncEngine) -> list[datetime | None]:
    """Tell when each token was last used."""
    async with AsyncSession(engine) as session:
        return [record.last_used_at for record in await session.scalars(select(db.KnoxToken))]


async def test_a_stale_login_is_told_to_log_in_again(engine: AsyncEngine) -> None:
    """After five minutes the route is closed till the next login, which ends the old token."""
    sessions, step_up = load("sessions").app, load("step_up").app
    async with calling(sessions, engine) as client:
        old = await log_in(client)
    await backdate(engine, timedelta(minutes=6))
    async with calling(step_up, engine) as client:
        stale = await client.delete("/account", headers=old)
    async with calling(sessions, engine) as client:
        answer = await client.post("/auth/login", data=LOGIN, headers=old)
        new = {"Authorization": f"Bearer {answer.json()['access_token']}"}
        assert len(await listed(client, new)) == 1
    async with calling(step_up, engine) as client:
        fresh = await client.delete("/account", headers=new)

    assert stale.status_code == 401
    assert f"| `{stale.headers['WWW-Authenticate']}` | `fresh_within` |" in (DOCS / "sessions.md").read_text()
    assert fresh.json() == "Goodbye jane@example.org!"


async def test_the_router_may_need_a_fresh_login(engine: AsyncEngine) -> None:
    """With the dependency on the router, sessions are seen only after a fresh login."""
    app = load("sessions").app
    guarded = APIRouter(prefix="/guarded")
    guarded.include_router(get_knox_router(fastapi_users, auth_backend), dependencies=[Depends(load("step_up").fresh)])
    app.include_router(guarded)
    async with calling(app, engine) as client:
        headers = await log_in(client)
        fresh = await client.get("/guarded/sessions", headers=headers)
        await backdate(engine, timedelta(minutes=6))
        stale = await client.get("/guarded/sessions", headers=headers)

    assert (fresh.status_code, stale.status_code) == (200, 401)


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
async def test_a_refused_client_is_told_as_described(
    client: AsyncClient, headers: dict[str, str], path: str, challenge: str
) -> None:
    """Our routes and FastAPI-Users' own answer with the header, and the page has it."""
    method = "POST" if path.endswith("logout") else "GET"

    answer = await client.request(method, path, headers=headers)

    assert (answer.status_code, answer.headers["WWW-Authenticate"]) == (401, challenge)
    assert f"| 401 | `{challenge}` |" in (DOCS / "sessions.md").read_text()
