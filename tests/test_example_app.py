"""The example application's routes work together, wherever its tokens are stored."""

import json
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from fastapi import FastAPI
from httpx import ASGITransport, AsyncClient
from redis.asyncio import Redis, RedisCluster
from sqlalchemy import event, func, select, update
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession, async_sessionmaker, create_async_engine

from example_app import admin, db, tokens
from example_app.app import app
from fastapi_users_knox import Added
from fastapi_users_knox.redis import RedisTokenStore
from tests.asgi import talk
from tests.backends import SQLITE
from tests.redis_servers import RedisServer, redis
from tests.servers import skip_if_unavailable
from tests.site import PASSWORDS

pytestmark = pytest.mark.unmeasured

PATIENCE = 180.0  # seconds for a program to start, to be tried and to stop
JANE = {"email": "jane@example.org", "password": "quite-a-good-one"}


@asynccontextmanager
async def example_database(directory: Path) -> AsyncIterator[AsyncEngine]:
    """Create the example's tables in a new database."""
    engine = create_async_engine(f"sqlite+aiosqlite:///{directory}/example.db")
    event.listen(engine.sync_engine, "connect", db.switch_foreign_keys_on)
    async with engine.begin() as connection:
        await connection.run_sync(db.Base.metadata.create_all)
    yield engine
    await engine.dispose()


@asynccontextmanager
async def calling(app: FastAPI, engine: AsyncEngine) -> AsyncIterator[AsyncClient]:
    """Open a client of the example, or of an application made of its parts, on this database.

    Passwords are hashed with small parameters, because no test of the example is about their cost.
    """

    async def get_async_session() -> AsyncIterator[AsyncSession]:
        async with AsyncSession(engine, expire_on_commit=False) as session:
            yield session

    app.dependency_overrides[db.get_async_session] = get_async_session
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("fastapi_users.manager.PasswordHelper", lambda: PASSWORDS)
        async with AsyncClient(transport=ASGITransport(app), base_url="http://example.org") as client:
            yield client
    app.dependency_overrides.clear()


@pytest.fixture
async def example_engine(tmp_path: Path) -> AsyncIterator[AsyncEngine]:
    """Open a new database."""
    async with example_database(tmp_path) as engine:
        yield engine


@pytest.fixture(params=["sql", "redis", "cluster"])
async def place(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[str]:
    """Store the tokens in the database, or in an empty Redis of each kind that a URL can name."""
    match request.param:
        case "redis":
            url = request.getfixturevalue("redis_7_server").url()
        case "cluster":
            url = request.getfixturevalue("redis_cluster_servers").url().replace("redis:", "redis+cluster:")
        case "socket":
            server: RedisServer = request.getfixturevalue("redis_with_socket")
            url = f"unix://{server.home.path}/socket"
        case _:
            url = ""
    if url:
        client = tokens.connect(url)
        await client.flushall()
        monkeypatch.setattr(tokens, "redis", client)
    yield request.param
    await tokens.disconnect()


@pytest.fixture(scope="module")
def redis_with_socket() -> Iterator[RedisServer]:
    """Run a Redis that also listens on a Unix socket."""
    with skip_if_unavailable(), redis("redis-7", "--unixsocket", "socket") as server:
        yield server


@pytest.fixture
async def client(example_engine: AsyncEngine, place: str) -> AsyncIterator[AsyncClient]:  # noqa: ARG001 (sets the store)
    """Open a client of the example, wherever its tokens are stored."""
    async with calling(app, example_engine) as client:
        yield client


@pytest.fixture
async def jane(client: AsyncClient) -> str:
    """Register Jane and return her id."""
    return await register(client)


async def register(client: AsyncClient) -> str:
    """Register Jane and return her id."""
    registered = await client.post("/auth/register", json=JANE)
    assert registered.status_code == 201
    return str(registered.json()["id"])


async def log_in(client: AsyncClient, password: str = JANE["password"]) -> dict[str, str]:
    """Log Jane in and return the Authorization header."""
    answer = await client.post("/auth/login", data={"username": JANE["email"], "password": password})
    assert answer.status_code == 200, answer.text
    return {"Authorization": f"Bearer {answer.json()['access_token']}"}


async def statuses(client: AsyncClient, *headers: dict[str, str]) -> list[int]:
    """Call the protected route with each header and return the statuses."""
    return [(await client.get("/authenticated-route", headers=each)).status_code for each in headers]


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("redis://:a-secret@host:1/2", "Redis at redis://host:1/2"),
        ("rediss+cluster://user:a-secret@host", "Redis at rediss+cluster://host"),
        ("unix:///run/redis.sock?password=a-secret&db=1", "Redis at unix:///run/redis.sock"),
        ("", "the same database"),
    ],
)
def test_the_place_of_the_tokens_is_printed_without_the_password(
    url: str, shown: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The URL of Redis is printed without its password."""
    monkeypatch.setattr(tokens, "REDIS_URL", url)

    assert tokens.place() == shown


async def test_whoever_registers_can_log_in(client: AsyncClient, jane: str) -> None:
    """A registered user can log in, is greeted, and can read and change her own data."""
    headers = await log_in(client)

    greeting = await client.get("/authenticated-route", headers=headers)
    me = await client.get("/users/me", headers=headers)
    changed = await client.patch("/users/me", headers=headers, json={"email": "jane@example.net"})

    assert greeting.json() == {"message": "Hello jane@example.org!"}
    assert me.json()["id"] == jane
    assert changed.json()["email"] == "jane@example.net"


@pytest.mark.usefixtures("jane")
async def test_logout_revokes_one_token_and_logout_all_the_others(client: AsyncClient) -> None:
    """A logout revokes the presented token, and a logout-all revokes the tokens of every device."""
    laptop, phone, tablet = [await log_in(client) for _ in range(3)]

    logged_out = await client.post("/auth/logout", headers=laptop)
    assert (logged_out.status_code, await statuses(client, laptop, phone, tablet)) == (204, [401, 200, 200])

    logged_out = await client.post("/auth/logout-all", headers=phone)
    assert (logged_out.status_code, await statuses(client, laptop, phone, tablet)) == (204, [401, 401, 401])


@pytest.mark.parametrize("place", ["socket"], indirect=True)
@pytest.mark.usefixtures("jane")
async def test_redis_is_reached_by_a_socket(client: AsyncClient) -> None:
    """A token is issued, accepted and revoked over a Unix socket."""
    headers = await log_in(client)

    before = await statuses(client, headers)
    await client.post("/auth/logout", headers=headers)

    assert [*before, *await statuses(client, headers)] == [200, 401]


async def test_administrators_have_pages(
    client: AsyncClient, jane: str, example_engine: AsyncEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A superuser logs in at /admin, finds Jane's session on the page of the user Jane, and revokes it."""
    for view in (admin.SessionAdmin, admin.UserAdmin):
        monkeypatch.setattr(view, "session_maker", async_sessionmaker(example_engine))
    device = await log_in(client)
    async with example_engine.begin() as connection:
        await connection.execute(update(db.User).values(is_superuser=True))

    login = await client.post("/admin/login", data={"username": JANE["email"], "password": JANE["password"]})
    cookie = {"Cookie": login.headers["Set-Cookie"].partition(";")[0]}
    page = await client.get(f"/admin/user/details/{jane}", headers=cookie)
    revoked = await client.post(f"/admin/user/revoke-sessions/{jane}", headers=cookie)

    assert [login.status_code, page.status_code, revoked.status_code] == [303, 200, 303]
    assert page.text.count("python-httpx") == 2
    assert await statuses(client, device) == [401]


@pytest.mark.usefixtures("jane")
async def test_a_sixth_login_revokes_the_oldest_token(client: AsyncClient) -> None:
    """The example allows five tokens, and a sixth login revokes the oldest."""
    headers = [await log_in(client) for _ in range(6)]

    assert await statuses(client, *headers) == [401, 200, 200, 200, 200, 200]


@pytest.mark.usefixtures("jane")
async def test_the_password_is_reset(client: AsyncClient, capsys: pytest.CaptureFixture[str]) -> None:
    """The printed token sets a new password, and the old password no longer works."""
    await client.post("/auth/forgot-password", json={"email": JANE["email"]})
    token = capsys.readouterr().out.split()[-1]

    reset = await client.post("/auth/reset-password", json={"token": token, "password": "an-even-better-one"})
    refused = await client.post("/auth/login", data={"username": JANE["email"], "password": JANE["password"]})

    assert reset.status_code == 200
    assert refused.json() == {"detail": "LOGIN_BAD_CREDENTIALS"}
    assert await statuses(client, await log_in(client, "an-even-better-one")) == [200]


@pytest.mark.usefixtures("jane")
async def test_the_address_is_verified(client: AsyncClient, capsys: pytest.CaptureFixture[str]) -> None:
    """The printed token verifies the user's address."""
    await client.post("/auth/request-verify-token", json={"email": JANE["email"]})
    token = capsys.readouterr().out.split()[-1]

    verified = await client.post("/auth/verify", json={"token": token})

    assert verified.json()["is_verified"] is True


async def test_a_deleted_user_leaves_no_tokens(client: AsyncClient, jane: str, example_engine: AsyncEngine) -> None:
    """Deleting a user deletes the rows of their tokens."""
    headers = await log_in(client)
    async with example_engine.begin() as connection:
        await connection.execute(update(db.User).values(is_superuser=True))

    deleted = await client.delete(f"/users/{jane}", headers=headers)

    async with example_engine.connect() as connection:
        left = await connection.scalar(select(func.count()).select_from(db.KnoxToken))
    assert (deleted.status_code, left, await statuses(client, headers)) == (204, 0, [401])


class Overtaken(RedisTokenStore[db.User, UUID]):
    """A store for which another session changes the users just before each record is added."""

    def __init__(self, client: Redis | RedisCluster, engine: AsyncEngine, changes: Mapping[str, Any]) -> None:
        super().__init__(client)
        self.engine, self.changes = engine, changes

    async def add(self, *args: Any, **options: Any) -> Added[UUID]:
        """Change the users, then store the record."""
        async with self.engine.begin() as connection:
            await connection.execute(update(db.User).values(**self.changes))
        return await super().add(*args, **options)


@pytest.mark.parametrize("place", ["redis"], indirect=True)
@pytest.mark.parametrize("database", ["sqlite", "sqlite-wal-begin"])
@pytest.mark.parametrize("changes", [{"hashed_password": "another"}, {"is_active": False}])
@pytest.mark.usefixtures("place")
async def test_a_login_whose_user_changes_meanwhile_fails(
    tmp_path: Path, database: str, changes: Mapping[str, Any]
) -> None:
    """A login during which the user changes fails, even if its session reads an older snapshot, and stores no token."""
    redis = tokens.redis
    assert redis is not None
    engine = SQLITE[database](tmp_path).create_engine()
    async with engine.begin() as connection:
        await connection.run_sync(db.Base.metadata.create_all)
    async with calling(app, engine) as client:
        await register(client)
        app.dependency_overrides[tokens.get_token_store] = lambda: Overtaken(redis, engine, changes)
        refused = await client.post("/auth/login", data={"username": JANE["email"], "password": JANE["password"]})
    await engine.dispose()

    assert (refused.status_code, refused.json()) == (400, {"detail": "LOGIN_BAD_CREDENTIALS"})
    assert await redis.keys("*") == []


LOGGED_IN = ("login", "logout", "logout-all", "logout-others", "reauthenticate", "rotate", "sessions", "sessions/{id}")


async def test_every_router_is_there(client: AsyncClient) -> None:
    """The OpenAPI document lists the routes of FastAPI-Users and of this package."""
    document = await client.get("/openapi.json")

    assert set(document.json()["paths"]) == {
        "/api-tokens/",
        "/api-tokens/{id}",
        "/api-tokens/{id}/roll",
        "/auth/forgot-password",
        "/auth/register",
        "/auth/request-verify-token",
        "/auth/reset-password",
        "/auth/verify",
        "/authenticated-route",
        "/reports",
        "/users/me",
        "/users/{id}",
        "/users/{user_id}/sessions",
        "/users/{user_id}/sessions/{id}",
        *(f"/{prefix}/{route}" for prefix in ("auth", "browser") for route in LOGGED_IN),
    }


async def test_a_browser_has_its_token_in_a_cookie(client: AsyncClient, jane: str) -> None:  # noqa: ARG001
    """The route and the WebSocket accept the cookie and the header, and refuse a page of another origin."""
    browser = await client.post("/browser/login", data={"username": JANE["email"], "password": JANE["password"]})
    cookie = browser.headers["Set-Cookie"].partition(";")[0]
    header = await log_in(client)

    greeted = await statuses(client, {"Cookie": cookie}, {})
    talks = [
        await talk(app, "/authenticated-websocket", [(name.lower().encode(), value.encode())])
        for name, value in [("Cookie", cookie), *header.items()]
    ]
    foreign = [(b"cookie", cookie.encode()), (b"origin", b"https://evil.example.com")]
    refused = await talk(app, "/authenticated-websocket", foreign)

    assert greeted == [200, 401]
    assert [json.loads(sent[1]["text"]) for sent in talks] == [{"message": f"Hello {JANE['email']}!"}] * 2
    assert refused[0]["type"] != "websocket.accept"


async def test_a_changed_password_revokes_other_sessions(client: AsyncClient, jane: str) -> None:  # noqa: ARG001
    """A password change keeps only the session that made it; the other sessions get 401 `invalid_token`."""
    here, elsewhere = await log_in(client), await log_in(client)

    await client.patch("/users/me", headers=here, json={"password": "a new one, and a better"})
    refused = await client.get("/authenticated-route", headers=elsewhere)

    assert await statuses(client, here) == [200]
    assert refused.status_code == 401
    assert refused.headers["WWW-Authenticate"] == 'Bearer error="invalid_token"'
