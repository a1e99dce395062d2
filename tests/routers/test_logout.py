"""Logging out over HTTP, with one backend and with several."""

from collections.abc import Mapping, Sequence

import pytest
from fastapi_users.authentication import BearerTransport
from httpx import AsyncClient
from sqlalchemy.ext.asyncio import AsyncEngine

from fastapi_users_knox import KnoxSettings
from tests.site import (
    Backend,
    Database,
    World,
    bearing,
    cookie_backend,
    credentials,
    jwt_backend,
    knox_backend,
    login,
)
from tests.strategies import change_user, flipped, stored

OURS = ("web", "api")


@pytest.fixture
def backends() -> Sequence[Backend]:
    """Return two backends of this package and FastAPI-Users' JWT backend."""
    return [*(knox_backend(name) for name in OURS), jwt_backend()]


@pytest.fixture
def settings() -> Mapping[str, KnoxSettings]:
    """Give each backend of this package its own audience."""
    return {name: KnoxSettings(audience=name) for name in OURS}


@pytest.fixture
async def tokens(client: AsyncClient, database: Database) -> dict[str, str]:
    """Log in by each backend and return the tokens."""
    await database.create_user()
    return {name: await login(client, name) for name in (*OURS, "jwt")}


async def statuses(client: AsyncClient, tokens: dict[str, str]) -> dict[str, int]:
    """Call a protected route with each token and return the statuses."""
    return {name: (await client.get("/active", headers=bearing(token))).status_code for name, token in tokens.items()}


async def test_each_backend_s_token_is_accepted(client: AsyncClient, tokens: dict[str, str]) -> None:
    """A backend that refuses a token returns None, so the next backend is tried."""
    assert await statuses(client, tokens) == {"web": 200, "api": 200, "jwt": 200}


async def test_what_no_backend_knows_is_refused(client: AsyncClient, tokens: dict[str, str]) -> None:
    """A token that every backend refuses gives 401."""
    damaged = {name: flipped(token) for name, token in tokens.items()}

    assert set((await statuses(client, damaged)).values()) == {401}


async def test_a_logout_revokes_the_token(client: AsyncClient, tokens: dict[str, str]) -> None:
    """The first logout gives 204, a second logout gives 401, and other backends' tokens stay valid."""
    answers = [(await client.post("/web/logout", headers=bearing(tokens["web"]))).status_code for _ in range(2)]

    assert answers == [204, 401]
    assert await statuses(client, tokens) == {"web": 401, "api": 200, "jwt": 200}


@pytest.mark.parametrize("other", ["api", "jwt"])
async def test_a_logout_with_another_backend_s_token_is_refused(
    client: AsyncClient, engine: AsyncEngine, tokens: dict[str, str], other: str
) -> None:
    """A logout with another backend's token gives 401 and revokes nothing."""
    rows = await stored(engine)

    response = await client.post("/web/logout", headers=bearing(tokens[other]))

    assert response.status_code == 401
    assert response.headers["WWW-Authenticate"] == 'Bearer error="invalid_token"'
    assert await stored(engine) == rows
    assert await statuses(client, tokens) == {"web": 200, "api": 200, "jwt": 200}


async def test_a_logout_all_revokes_the_backend_s_tokens(client: AsyncClient, tokens: dict[str, str]) -> None:
    """A logout-all revokes all of the user's tokens of this backend, and no tokens of another backend."""
    more = await login(client, "web")

    response = await client.post("/web/logout-all", headers=bearing(more))

    assert (response.status_code, response.content) == (204, b"")
    assert await statuses(client, tokens | {"more": more}) == {"web": 401, "more": 401, "api": 200, "jwt": 200}


@pytest.mark.parametrize("other", ["api", "jwt", "none", "junk"])
async def test_a_logout_all_takes_this_backend_s_token_alone(
    client: AsyncClient, engine: AsyncEngine, tokens: dict[str, str], other: str
) -> None:
    """A logout-all requires a valid token of this backend."""
    rows = await stored(engine)
    presented = tokens | {"none": "", "junk": flipped(tokens["web"])}

    response = await client.post("/web/logout-all", headers=bearing(presented[other]))

    assert response.status_code == 401
    assert await stored(engine) == rows


async def test_a_logout_all_spares_other_users(client: AsyncClient, database: Database, tokens: dict[str, str]) -> None:
    """A logout-all revokes no other user's tokens."""
    await database.create_user("eve@example.org")
    eve = await login(client, "web", "eve@example.org")

    await client.post("/web/logout-all", headers=bearing(eve))

    assert await statuses(client, tokens) == {"web": 200, "api": 200, "jwt": 200}


async def test_a_logout_all_may_need_verification(world: World, database: Database) -> None:
    """With `requires_verification` an unverified user gets 403 from logout-all."""
    user = await database.create_user(is_verified=True)

    async with world.client(knox_backend(), requires_verification=True) as client:
        headers = bearing(await login(client))
        await change_user(database.engine, user, is_verified=False)
        refused = await client.post("/knox/logout-all", headers=headers)
        await change_user(database.engine, user, is_verified=True)
        done = await client.post("/knox/logout-all", headers=headers)

    assert (refused.status_code, done.status_code) == (403, 204)


async def test_a_logout_all_works_over_fastapi_users_transports(world: World) -> None:
    """With FastAPI-Users' own transports a logout-all gives 204 and deletes the cookie."""
    await world.database.create_user()
    stock = knox_backend("stock", BearerTransport("stock/login"))

    async with world.client(stock, cookie_backend()) as client:
        plain = await client.post("/stock/logout-all", headers=bearing(await login(client, "stock")))
        await client.post("/cookie/login", data=credentials())
        deleted = await client.post("/cookie/logout-all")

    assert (plain.status_code, deleted.status_code) == (204, 204)
    assert "Max-Age=0" in deleted.headers["Set-Cookie"]
