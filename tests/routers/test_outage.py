"""A token store that cannot be reached: 503, never a user, and never 500."""

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
    """Give users that can be reached, and tokens that cannot."""
    # A file that aiosqlite cannot open leaves a thread behind, which may outlive the test.
    lost = create_async_engine("postgresql+asyncpg://nobody@127.0.0.1:1/nowhere")
    yield SplitDatabase(engine=engine, tokens=lost)
    await lost.dispose()


def is_unavailable(response: Response) -> bool:
    """Return whether an answer is the 503 with `Retry-After`."""
    answer = (response.status_code, response.json(), response.headers.get("Retry-After"))
    return answer == (503, {"detail": "TOKEN_STORE_UNAVAILABLE"}, "5")


@pytest.mark.parametrize("route", ["active", "anyone", "optional", "users/me"])
async def test_a_read_answers_503(client: AsyncClient, database: Database, route: str) -> None:
    """Nobody is let in while the token cannot be looked up, and an `optional` route does not treat this as no user."""
    user = await database.create_user()

    response = await client.get(f"/{route}", headers=bearing(unknown_token(user)))

    assert is_unavailable(response)


async def test_a_login_answers_503(client: AsyncClient, database: Database) -> None:
    """The password is right, but no token can be stored, so none is given."""
    await database.create_user()

    response = await client.post("/knox/login", data=credentials())

    assert is_unavailable(response)


async def test_a_wrong_password_is_still_a_wrong_password(client: AsyncClient, database: Database) -> None:
    """What does not need the tokens is answered as ever."""
    await database.create_user()

    response = await client.post("/knox/login", data=credentials(password="wrong"))

    assert response.status_code == 400


@pytest.mark.parametrize("path", ["/knox/logout", "/knox/logout-all"])
async def test_a_logout_answers_503(client: AsyncClient, database: Database, path: str) -> None:
    """A logout does not answer success while it is unknown whether the session was revoked."""
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
        ("GET", f"/admin/knox/{uuid.UUID(int=1)}/sessions"),
    ],
)
async def test_the_sessions_routes_answer_503(client: AsyncClient, database: Database, method: str, path: str) -> None:
    """The routes of sessions answer 503 as well."""
    user = await database.create_user()

    response = await client.request(method, path, headers=bearing(unknown_token(user)))

    assert is_unavailable(response)


async def test_an_administrator_is_answered_503(world: World, database: Database) -> None:
    """A superuser who is authenticated by another backend gets a 503, too."""
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
    """What is refused without asking the store is refused as ever."""
    response = await client.get("/active", headers=bearing("junk"))

    assert response.status_code == 401
