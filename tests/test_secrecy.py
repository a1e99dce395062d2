"""Hashed at rest: no store, log, repr, error or event holds a token."""

import logging
import uuid
from collections.abc import AsyncIterator, Iterable, Iterator
from dataclasses import fields
from datetime import datetime, timedelta
from functools import partial
from pathlib import Path

import pytest
from fastapi.requests import HTTPConnection
from pydantic import SecretStr
from redis.asyncio import Redis
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession

from fastapi_users_knox import InsufficientScope, IssuedToken, KnoxEvent, KnoxSettings, KnoxStrategy, TokenLimitReached
from tests.backends import NOW, SERVERS, SQLITE, App, Backend, RedisBackend
from tests.models import User, create_empty_tables, create_user, store_on
from tests.redis_servers import RedisServer, redis
from tests.servers import Server, skip_if_unavailable

pytestmark = [pytest.mark.anyio, pytest.mark.unmeasured]

MARK = "mark-that-the-log-must-hold"


@pytest.fixture(params=["sqlite", "sqlite-wal-begin", "postgresql-asyncpg", "mariadb"])
def stored(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[Backend, Path]:
    """Return a database and the directory that holds all its files."""
    if request.param in SQLITE:
        return SQLITE[request.param](tmp_path), tmp_path
    fixture, scheme, _ = SERVERS[request.param]
    server: Server = request.getfixturevalue(fixture)
    return Backend(url=server.url(scheme)), server.home.path


class Story:
    """Everything that can happen to tokens, with all their texts, the published events and the returned objects."""

    def __init__(self, app: App) -> None:
        self.app = app
        self.events: list[KnoxEvent[uuid.UUID]] = []
        self.objects: list[object] = []
        self.tokens: list[str] = []
        self.email = ""

    def strategy(self, now: datetime, presented: str = "") -> KnoxStrategy[User, uuid.UUID]:
        """Return a strategy at this time, for a request that presents this token."""
        headers = [(b"authorization", f"Bearer {presented}".encode()), (b"user-agent", MARK.encode())]
        request = HTTPConnection({"type": "http", "headers": headers, "client": ("127.0.0.1", 1)})
        settings = KnoxSettings(
            auto_refresh=True, token_limit_per_user=3, digest_keys=(SecretStr("k" * 32),), accept_unkeyed_until=NOW
        )
        return KnoxStrategy(
            self.app.store,
            settings,
            request=request,
            user_db=self.app.user_manager.user_db,
            listeners=[self.events.append],
            clock=lambda: now,
        )

    async def play(self) -> None:
        """Do everything that can be done to tokens, from a login to a logout everywhere."""
        user, manager = await create_user(self.app.session), self.app.user_manager
        self.email = user.email
        first = await self.issue(NOW, user)
        self.objects.append(await self.strategy(NOW + timedelta(hours=1), first).authenticate(first, manager))
        second = await self.strategy(NOW).rotate_token(first, user)
        self.tokens.append(second)
        second = await self.strategy(NOW).reauthenticate(second, user)
        self.tokens.append(second)
        third, fourth = await self.issue(NOW, user), await self.issue(NOW, user)
        with pytest.raises(TokenLimitReached) as reached:
            await self.strategy(NOW).write_token(user)
        fifth = await self.issue(NOW, user, presented=fourth)
        await self.strategy(NOW).destroy_token(third, user)
        await self.issue_and_roll(user, by=fifth)
        late = NOW + timedelta(hours=12)
        await self.strategy(late, second).read_token(second, manager)
        await self.strategy(late).logout_all(user)
        self.objects += [second, reached.value, self.strategy(NOW, second), *self.events]
        self.objects += [await self.strategy(NOW).list_records(user)]

    async def issue_and_roll(self, user: User, *, by: IssuedToken) -> None:
        """Issue an API token and its successor, and be refused for a missing scope."""
        strategy, manager = self.strategy(NOW), self.app.user_manager
        token = await strategy.issue(user, by=by.record, scopes={"reports:read"}, data={"of": MARK}, replace=False)
        with pytest.raises(InsufficientScope) as insufficient:
            await self.strategy(NOW, token).authenticate(token, manager, scopes={"reports:write"})
        successor = await strategy.roll_token(token.record, user, by=by.record, overlap=timedelta(0))
        self.tokens += [token, successor]
        self.objects += [token, successor, insufficient.value]

    async def issue(self, now: datetime, user: User, presented: str = "") -> IssuedToken:
        """Log in and remember the token."""
        token = await self.strategy(now, presented).write_token(user)
        self.tokens.append(token)
        self.objects.append(token)
        return token

    def secrets(self) -> Iterable[str]:
        """Yield each token and its 43 secret characters, which must not appear anywhere."""
        for token in self.tokens:
            yield str(token)
            yield str(token)[-49:-6]


@pytest.fixture
async def story(stored: tuple[Backend, Path], caplog: pytest.LogCaptureFixture) -> AsyncIterator[Story]:
    """Return the story, with all logging switched on."""
    caplog.set_level(logging.DEBUG)
    engine: AsyncEngine = stored[0].create_engine(echo="debug")
    await create_empty_tables(engine)
    async with AsyncSession(engine, expire_on_commit=False) as session:
        yield Story(App(session=session, store=store_on(session)))
    await engine.dispose()


async def test_no_file_of_the_database_holds_a_token(story: Story, stored: tuple[Backend, Path]) -> None:
    """No file of the database, including the write-ahead log, holds a token or its secret."""
    await story.play()

    files = [path.read_bytes() for path in stored[1].rglob("*") if path.is_file()]

    held = [secret for secret in story.secrets() for file in files if secret.encode() in file]

    assert held == []
    assert any(story.email.encode() in file for file in files)


async def test_no_log_holds_a_token(story: Story, caplog: pytest.LogCaptureFixture) -> None:
    """No log message, including every statement with its parameters, holds a token or its secret."""
    await story.play()

    assert [secret for secret in story.secrets() if secret in caplog.text] == []
    assert MARK in caplog.text


async def test_no_repr_and_no_event_holds_a_token(story: Story) -> None:
    """No object shows a token in its repr, and no field of an event holds one except the request."""
    await story.play()

    shown = [repr(thing) + str(vars(thing) if hasattr(thing, "__dict__") else "") for thing in story.objects]
    published = [
        repr(getattr(event, field.name)) for event in story.events for field in fields(event) if field.name != "request"
    ]

    assert [secret for secret in story.secrets() for text in (*shown, *published) if secret in text] == []
    assert {type(event).__name__ for event in story.events} == {
        *("TokenIssued", "TokenRefreshed", "TokenRotated", "TokenReauthenticated", "TokenRevoked", "TokenExpired"),
        "TokenLimitHit",
    }


@pytest.fixture
def saved_redis() -> Iterator[RedisServer]:
    """Run a Redis that writes everything to disk uncompressed."""
    with skip_if_unavailable(), redis("any", "--appendonly", "yes", "--rdbcompression", "no") as server:
        yield server


@pytest.mark.server
async def test_no_command_and_no_file_of_redis_holds_a_token(saved_redis: RedisServer, tmp_path: Path) -> None:
    """No command sent to Redis, no key or value in it, and no file of it holds a token."""
    url = saved_redis.url()
    backend = RedisBackend(url=SQLITE["sqlite"](tmp_path).url, connect=partial(Redis.from_url, url))
    await backend.empty()
    async with (
        backend.serving() as open_app,
        open_app() as app,
        Redis.from_url(url, decode_responses=True) as client,
        client.monitor() as monitor,
    ):
        story, user = Story(app), await create_user(app.session)
        await monitor.connect()
        await story.play()
        await story.issue(NOW, user)
        await client.echo(MARK)
        sent = []
        async for command in monitor.listen():
            sent.append(str(command))
            if "ECHO" in command["command"]:
                break
        held = [key + repr(await client.dump(key)) async for key in client.scan_iter()]
        await client.save()
    files = [path.read_bytes().decode("latin-1") for path in saved_redis.home.path.rglob("*") if path.is_file()]

    texts, user_id = [*sent, *held, *files], str(user.id)
    assert [secret for secret in story.secrets() for text in texts if secret in text] == []
    assert len(held) == 2
    assert any(user_id in command for command in sent)
    assert any(user_id in file for file in files)
