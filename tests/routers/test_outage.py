"""An unavailable token store gives 503, and never a user or a 500."""

import uuid
from collections.abc import AsyncIterator

import pytest
from httpx import AsyncClient, Response
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine

from tests.site import (
    Database,
    SplitDatabase,
    World,
    bearing,
    credentials,
    jwt_backend,
    knox_backend,
    login,
)
from tests.strategies import unknown_token


@pytest.fixture
async def database(engine: AsyncEngine) -> AsyncIterator[Database]:
    """Return a database whose users are available and whose tokens are not."""
    # A server that cannot be reached, because a file that aiosqlite cannot open leaves a thread that outlives the test.
    lost = create_async_engine("postgresql+asyncpg://nobody@127.0.0.1:1/nowhere")
    yield SplitDatabase(engine=engine, tokens=lost)
    await lost.dispose()


def is_unavailable(response: Response) -> bool:
    """Return whether a response is the 503 with `Retry-After`."""
    answer = (response.status_code, response.json(), response.headers.get("Retry-After"))
    return answer == (503, {"detail": "TOKEN_STORE_UNAVAILABLE"}, "5")


@pytest.mark.parametrize("route", ["active", "anyone", "optional", "users/me"])
async def test_a_read_answers_503(client: AsyncClient, database: Database, route: str) -> None:
    """A token that cannot be looked up gives 503, on an optional route too."""
    user = await database.create_user()

    response = await client.get(f"/{route}", headers=bearing(unknown_token(user)))

    assert is_unavailable(response)


async def test_a_login_answers_503(client: AsyncClient, database: Database) -> None:
    """A login with the right password gives 503 if no token can be stored."""
    await database.create_user()

    response = await client.post("/knox/login", data=credentials())

    assert is_unavailable(response)


async def test_a_wrong_password_is_still_a_wrong_password(client: AsyncClient, database: Database) -> None:
    """A login with a wrong password gives 400 even if the token store is unavailable."""
    await database.create_user()

    response = await client.post("/knox/login", data=credentials(password="wrong"))

    assert response.status_code == 400


@pytest.mark.parametrize("path", ["/knox/logout", "/knox/logout-all"])
async def test_a_logout_answers_503(client: AsyncClient, database: Database, path: str) -> None:
    """A logout does not report success while it is unknown whether the session was revoked."""
    user = await database.create_user()

    response = await client.post(path, headers=bearing(unknown_token(user)))

    assert is_unavailable(response)


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/knox/sessions"),
        ("DELETE", f"/knox/sessions/{uuid.UUID(int=1)}"),
        ("POST", "/knox/logout-others"),
        ("POST", "/knox/rotate"),
        ("POST", "/knox/reauthenticate"),
        ("GET", f"/admin/knox/{uuid.UUID(int=1)}/sessions"),
    ],
)
async def test_the_sessions_routes_answer_503(client: AsyncClient, database: Database, method: str, path: str) -> None:
    """Every route of the sessions gives 503 if the token store is unavailable."""
    user = await database.create_user()

    response = await client.request(method, path, headers=bearing(unknown_token(user)))

    assert is_unavailable(response)


async def test_an_administrator_is_answered_503(world: World, database: Database) -> None:
    """A superuser who authenticates by another backend gets 503 too."""
    root = await database.create_user(is_superuser=True)
    async with world.client(knox_backend(), jwt_backend()) as client:
        headers = bearing(await login(client, "jwt"))
        path = f"/admin/knox/{root.id}/sessions"

        answers = [
            await client.request(method, path, headers=headers)
            for method, path in (("GET", path), ("DELETE", path), ("DELETE", f"{path}/{uuid.uuid4()}"))
        ]

    assert [is_unavailable(answer) for answer in answers] == [True] * 3


async def test_junk_answers_401(client: AsyncClient) -> None:
    """A malformed token gives 401 even if the token store is unavailable."""
    response = await client.get("/active", headers=bearing("junk"))

    assert response.status_code == 401
