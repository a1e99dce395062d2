"""If the store fails, neither the log nor the exception shows a token or a digest."""

import base64
import logging
import uuid
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial
from pathlib import Path

import pytest
from fastapi.requests import HTTPConnection
from redis.asyncio import Redis
from sqlalchemy import CheckConstraint, MetaData, Table
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession, create_async_engine
from sqlalchemy.orm import DeclarativeBase

from fastapi_users_knox import KnoxSettings, KnoxStrategy, tokens
from tests.backends import NOW, SQLITE, App, Backend, RedisBackend
from tests.conftest import backend_of
from tests.models import KnoxToken, User, create_empty_tables, create_user, store_on
from tests.redis_servers import RedisServer, redis
from tests.servers import skip_if_unavailable

pytestmark = pytest.mark.anyio

MARK = "mark-that-the-log-must-hold"
LATER = NOW + timedelta(hours=1)
NO_USE, NO_NAMELESS = "last_used_at IS NULL", "name IS NOT NULL"


@dataclass(kw_only=True)
class Trouble:
    """An application's log, and the secrets that it must not show."""

    caplog: pytest.LogCaptureFixture
    secrets: list[str]

    def keep(self, token: str) -> None:
        """Add a token as a secret, and its digest as drivers, Redis and Python write it."""
        digest = tokens.digest(token)
        encoded = [base64.b64encode(digest), base64.urlsafe_b64encode(digest)]
        spelt = [
            digest.hex(),
            digest.hex().upper(),
            repr(digest)[2:-1],
            *(text.decode().rstrip("=") for text in encoded),
        ]
        self.secrets += [token, token[-49:-6], *spelt, MARK]

    @contextmanager
    def logged(self) -> Iterator[None]:
        """Log an exception with its traceback, as an application's handler or a server does."""
        try:
            yield
        except Exception:
            logging.getLogger("application").exception("It failed")

    def shown(self) -> list[str]:
        """Return the secrets that the log shows."""
        return [secret for secret in self.secrets if secret in self.caplog.text]


@pytest.fixture(params=["sqlite", "sqlite-wal-begin", "postgresql-asyncpg", "mariadb"])
def stored(request: pytest.FixtureRequest, tmp_path: Path) -> Backend:
    """Return a database of each kind."""
    return backend_of(request.param, request, tmp_path)


@pytest.fixture
def own_redis() -> Iterator[RedisServer]:
    """Run a separate Redis, so that the test may change its settings."""
    with skip_if_unavailable(), redis("any") as server:
        yield server


@pytest.fixture
def trouble(caplog: pytest.LogCaptureFixture) -> Trouble:
    """Return the log."""
    return Trouble(caplog=caplog, secrets=[])


def strategy_of(app: App, now: datetime = NOW) -> KnoxStrategy[User, uuid.UUID]:
    """Return a strategy for a request whose user agent is one of the secrets."""
    request = HTTPConnection({"type": "http", "headers": [(b"user-agent", MARK.encode())], "client": ("127.0.0.1", 1)})
    settings, users = KnoxSettings(auto_refresh=True), app.user_manager.user_db
    return KnoxStrategy(app.store, settings, request=request, user_db=users, clock=lambda: now)


async def use_all(trouble: Trouble, app: App, user: User, token: str) -> None:
    """Read, log in, list and log out everywhere, and log every exception."""
    strategy = strategy_of(app, LATER)
    with trouble.logged():
        await strategy.read_token(token, app.user_manager)
    with trouble.logged():
        await strategy.write_token(user)
    with trouble.logged():
        await strategy.list_records(user)
    with trouble.logged():
        await strategy.logout_all(user)


def engine_of(app: App) -> AsyncEngine:
    """Return the engine of a request's session."""
    assert isinstance(app.session.bind, AsyncEngine)
    return app.session.bind


def table_of(model: type[DeclarativeBase]) -> Table:
    """Return the table of a mapped class."""
    assert isinstance(model.__table__, Table)
    return model.__table__


async def refuse(engine: AsyncEngine, rule: str) -> None:
    """Add a CHECK constraint to the token table, so that the database refuses rows with an error about them."""
    metadata = MetaData()
    table_of(User).to_metadata(metadata)
    table = table_of(KnoxToken).to_metadata(metadata)
    table.append_constraint(CheckConstraint(rule))
    async with engine.begin() as connection:
        await connection.run_sync(table_of(KnoxToken).drop)
        await connection.run_sync(table.create)


@pytest.fixture
async def app(stored: Backend) -> AsyncIterator[App]:
    """Return the session and the store of a request."""
    engine = stored.create_engine()
    await create_empty_tables(engine)
    async with AsyncSession(engine, expire_on_commit=False) as session:
        yield App(session=session, store=store_on(session))
    async with engine.begin() as connection:
        await connection.run_sync(table_of(KnoxToken).drop)
        await connection.run_sync(table_of(KnoxToken).create)
    await engine.dispose()


async def test_a_skipped_write_is_logged_without_its_parameters(app: App, trouble: Trouble) -> None:
    """A refresh that the database refuses is logged with the reason, but without token, digest and client."""
    await refuse(engine_of(app), NO_USE)
    user = await create_user(app.session)
    token = await strategy_of(app).write_token(user)
    trouble.keep(token)

    assert await strategy_of(app, LATER).read_token(token, app.user_manager) is not None

    assert "Skipped updating last_used_at and expires_at" in trouble.caplog.text
    assert "IntegrityError" in trouble.caplog.text or "OperationalError" in trouble.caplog.text
    assert trouble.shown() == []


async def test_a_mistake_in_the_table_is_raised_without_its_parameters(
    app: App, trouble: Trouble, monkeypatch: pytest.MonkeyPatch
) -> None:
    """If the database refuses the row of a login, the traceback shows no value of the row."""
    await refuse(engine_of(app), NO_NAMELESS)
    user = await create_user(app.session)
    made = noted_tokens(monkeypatch)

    with trouble.logged():
        await strategy_of(app).write_token(user)

    trouble.keep(made[0])
    assert "It failed" in trouble.caplog.text
    assert trouble.shown() == []


async def test_an_outage_is_raised_without_its_parameters(app: App, trouble: Trouble, stored: Backend) -> None:
    """The traceback of an unavailable database shows no parameter of the failed statement."""
    user = await create_user(app.session)
    token = await strategy_of(app).write_token(user)
    trouble.keep(token)
    lost = create_async_engine(stored.lost_url)
    async with AsyncSession(lost) as session:
        await use_all(trouble, App(session=session, store=store_on(session)), user, token)
    await lost.dispose()

    assert trouble.caplog.text.count("StoreUnavailable: ") == 4
    assert trouble.shown() == []


def noted_tokens(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Collect the text of every token that is generated, including tokens that are never returned."""
    made: list[str] = []
    generate = tokens.generate

    def note(tag: str, *, prefix: str) -> str:
        made.append(generate(tag, prefix=prefix))
        return made[-1]

    monkeypatch.setattr(tokens, "generate", note)
    return made


REDIS_REFUSALS = {
    "no memory": ("CONFIG", "SET", "maxmemory", "1"),
    "no scripts": ("ACL", "SETUSER", "default", "-@scripting"),
    "no keys": ("ACL", "SETUSER", "default", "resetkeys", "~other:*"),
    "no such command": ("ACL", "SETUSER", "default", "-@write"),
}


@pytest.mark.server
@pytest.mark.parametrize("refusal", REDIS_REFUSALS.values(), ids=REDIS_REFUSALS)
async def test_redis_in_trouble_shows_no_arguments(
    own_redis: RedisServer,
    tmp_path: Path,
    trouble: Trouble,
    refusal: tuple[str, ...],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Redis' error messages are logged and raised without the keys and arguments that they repeat."""
    made = noted_tokens(monkeypatch)
    connect = partial(Redis.from_url, own_redis.url())
    backend = RedisBackend(url=SQLITE["sqlite"](tmp_path).url, connect=connect)
    await backend.empty()
    async with backend.serving() as open_app, open_app() as app:
        user = await create_user(app.session)
        token = await strategy_of(app).write_token(user)
        own_redis.ask(*refusal)
        await use_all(trouble, app, user, token)

    for each in made:
        trouble.keep(each)
    assert trouble.caplog.text
    assert trouble.shown() == []


@pytest.mark.server
async def test_a_redis_that_repeats_a_command_shows_no_arguments(tmp_path: Path, trouble: Trouble) -> None:
    """If Redis does not know a command and quotes it, neither log nor traceback shows the command's arguments."""
    token = tokens.generate("00", prefix="")
    trouble.keep(token)
    with skip_if_unavailable(), redis("any", "--rename-command", "EVALSHA", "HIDDEN") as server:
        connect = partial(Redis.from_url, server.url())
        backend = RedisBackend(url=SQLITE["sqlite"](tmp_path).url, connect=connect)
        async with backend.serving() as open_app, open_app() as app:
            with trouble.logged():
                await strategy_of(app).read_token(token, app.user_manager)

    assert "ResponseError" in trouble.caplog.text
    assert trouble.shown() == []


async def test_an_error_of_the_application_s_own_rows_stays_as_it_is(app: App) -> None:
    """A database error about the application's own pending rows is raised unchanged by a login."""
    user = await create_user(app.session)
    email = user.email
    app.session.add(User(email=email, hashed_password="hash"))

    with pytest.raises(IntegrityError) as refused:
        await strategy_of(app).write_token(user)

    assert email in str(refused.value.params)
    assert refused.value.__cause__ is refused.value.orig
