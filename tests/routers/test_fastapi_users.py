"""FastAPI-Users' routers and `current_user` work unchanged with a backend of this package."""

from typing import Any

import pytest
from httpx import AsyncClient
from sqlalchemy.ext.asyncio import AsyncEngine

from tests.asgi import send, talk
from tests.site import (
    PASSWORD,
    Database,
    Served,
    World,
    bearing,
    credentials,
    knox_backend,
    login,
)
from tests.strategies import change_user, sent_to, stored, verbs

pytestmark = pytest.mark.unmeasured


@pytest.mark.parametrize(
    ("user", "form"),
    [
        ({}, credentials(password="wrong")),
        ({}, credentials("eve@example.org")),
        ({"is_active": False}, credentials()),
    ],
    ids=["password", "unknown", "inactive"],
)
async def test_bad_credentials(
    client: AsyncClient, database: Database, engine: AsyncEngine, user: dict[str, Any], form: dict[str, str]
) -> None:
    """A wrong password, an unknown user and an inactive one get the same response, and no record is stored."""
    await database.create_user(**user)

    response = await client.post("/knox/login", data=form)

    assert (response.status_code, response.json()) == (400, {"detail": "LOGIN_BAD_CREDENTIALS"})
    assert await stored(engine) == []


async def test_the_unverified(world: World) -> None:
    """With `requires_verification` an unverified user cannot log in."""
    await world.database.create_user()

    async with world.client(knox_backend(), requires_verification=True) as client:
        response = await client.post("/knox/login", data=credentials())

    assert (response.status_code, response.json()) == (400, {"detail": "LOGIN_USER_NOT_VERIFIED"})


@pytest.mark.parametrize(
    ("route", "user", "status"),
    [
        ("active", {}, 200),
        ("anyone", {}, 200),
        ("optional", {}, 200),
        ("verified", {}, 403),
        ("verified", {"is_verified": True}, 200),
        ("superuser", {}, 403),
        ("superuser", {"is_superuser": True}, 200),
    ],
)
async def test_who_is_let_in(
    client: AsyncClient, database: Database, route: str, user: dict[str, Any], status: int
) -> None:
    """`current_user` accepts or forbids active, verified and superuser accounts as with any backend."""
    await database.create_user(**user)

    response = await client.get(f"/{route}", headers=bearing(await login(client)))

    assert response.status_code == status
    if status == 200:
        assert response.json() == "ada@example.org"


@pytest.mark.parametrize(
    ("route", "answer"),
    [
        ("active", (401, {"detail": "Unauthorized"})),
        ("anyone", (401, {"detail": "Unauthorized"})),
        ("verified", (401, {"detail": "Unauthorized"})),
        ("superuser", (401, {"detail": "Unauthorized"})),
        ("optional", (200, None)),
    ],
)
@pytest.mark.parametrize("deactivated", [True, False])
async def test_who_is_refused(
    client: AsyncClient, database: Database, route: str, answer: tuple[int, Any], *, deactivated: bool
) -> None:
    """Without a token, or once the user is inactive, requests get 401; optional routes get no user."""
    user = await database.create_user(is_superuser=True, is_verified=True)
    headers = bearing(await login(client)) if deactivated else {}
    await change_user(database.engine, user, is_active=False)

    response = await client.get(f"/{route}", headers=headers)

    assert (response.status_code, response.json()) == answer


async def test_a_user_registers_and_changes(client: AsyncClient) -> None:
    """FastAPI-Users' routers for registration and users work unchanged."""
    registered = await client.post("/register", json={"email": "ada@example.org", "password": PASSWORD})
    headers = bearing(await login(client))

    changed = await client.patch("/users/me", headers=headers, json={"email": "new@example.org"})

    assert registered.status_code == 201
    assert (changed.status_code, changed.json()["email"]) == (200, "new@example.org")
    assert (await client.get("/active", headers=headers)).json() == "new@example.org"


async def test_a_websocket_takes_a_token(app: Served, client: AsyncClient, database: Database) -> None:
    """A strategy whose dependency takes an `HTTPConnection` authenticates WebSockets too."""
    await database.create_user()
    token = await login(client)

    sent = await talk(app, "/ws/active", [(b"authorization", f"Bearer {token}".encode())])

    assert [message["type"] for message in sent] == ["websocket.accept", "websocket.send", "websocket.close"]
    assert sent[1]["text"] == "ada@example.org"


@pytest.mark.parametrize(("route", "is_accepted"), [("active", False), ("optional", True)])
async def test_a_websocket_without_a_token(app: Served, route: str, *, is_accepted: bool) -> None:
    """A WebSocket route that requires a user refuses the connection before accepting it."""
    sent = await talk(app, f"/ws/{route}")

    assert (sent[0]["type"] == "websocket.accept") == is_accepted


async def test_a_request_with_a_token_takes_one_read(app: Served, client: AsyncClient, database: Database) -> None:
    """Authenticating a request takes one SELECT."""
    await database.create_user()
    header = (b"authorization", f"bearer {await login(client)}".encode())

    with sent_to(database.engine) as statements:
        answer = await send(app, "/active", [header])

    assert (answer.status, answer.body) == (200, b'"ada@example.org"')
    assert verbs(statements) == ["SELECT"]
