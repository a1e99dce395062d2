"""What README and docs show is what runs."""

import difflib
import importlib.util
import json
import logging
import os
import re
import subprocess
import sys
import tomllib
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import Any

import anyio
import pytest
from fastapi import Depends, FastAPI
from fastapi.encoders import jsonable_encoder
from fastapi.exceptions import HTTPException
from fastapi_users import FastAPIUsers
from fastapi_users.authentication import AuthenticationBackend
from fastapi_users_db_sqlalchemy import SQLAlchemyUserDatabase
from httpx import ASGITransport, AsyncClient
from pydantic import SecretStr
from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from sqlalchemy import Column, Table, func, literal, select, text
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession, create_async_engine
from sqlalchemy.orm import class_mapper

import fastapi_users_knox.redis
import fastapi_users_knox.sqlalchemy
from example_app import db, users
from example_app.app import app as example_app
from fastapi_users_knox import (
    KnoxError,
    KnoxSettings,
    KnoxStrategy,
    StoreUnavailable,
    TokenLimitHit,
    TokenLimitReached,
    tokens,
)
from fastapi_users_knox.events import ClientInfo
from fastapi_users_knox.redis import RedisTokenStore
from fastapi_users_knox.sqlalchemy import SQLAlchemyTokenStore
from fastapi_users_knox.sqlalchemy.reading import fetch
from fastapi_users_knox.testing.contract import add, find, new_record
from tests.redis_servers import ClusterServers, RedisServer, SentinelServers, redis
from tests.servers import Server, skip_if_unavailable
from tests.test_example_app import PATIENCE, Overtaken, calling, example_database, knock, log_in, register

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
SRC = DOCS / "src"
# A page says `{.python}`, as ruff would format what stands in a block of `python`, the marks of inclusion too.
FENCE = re.compile(r"^ *``` ?(\S+)\n(.*?)^ *```$", re.MULTILINE | re.DOTALL)
INCLUDE = re.compile(r' *--8<-- "(.+)"\n')
OLD_KEY, NEW_KEY = "o" * 43, "n" * 43
NOW = datetime(2030, 1, 1, 12, tzinfo=UTC)
MINUTE = timedelta(minutes=1)

pytestmark = pytest.mark.usefixtures("environment")


@pytest.fixture
def environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Set what the documented files read."""
    monkeypatch.setenv("DATABASE_URL", f"sqlite+aiosqlite:///{tmp_path}/docs.db")
    monkeypatch.setenv("SECRET", "a secret of the tests that is long enough")
    monkeypatch.setenv("KNOX_DIGEST_KEYS", OLD_KEY)


@pytest.fixture
async def example_engine(tmp_path: Path) -> AsyncIterator[AsyncEngine]:
    """Open a database with the example's tables and one user."""
    async with example_database(tmp_path) as engine:
        async with calling(example_app, engine) as client:
            await register(client)
        yield engine


def load(name: str) -> ModuleType:
    """Run a documented file, anew each time."""
    spec = importlib.util.spec_from_file_location(f"docs_src_{name}", SRC / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@asynccontextmanager
async def serving(name: str, **replaced: Any) -> AsyncIterator[AsyncClient]:
    """Call a documented application that has a database of its own, with some of its names replaced."""
    module = load(name)
    vars(module).update(replaced)
    async with module.engine.begin() as connection:
        await connection.run_sync(module.Base.metadata.create_all)
    async with (
        module.app.router.lifespan_context(module.app),
        AsyncClient(transport=ASGITransport(module.app), base_url="http://example.org") as client,
    ):
        await register(client)
        yield client
    await module.engine.dispose()


class Person:
    """A user of the example at given moments, with a strategy of given settings."""

    def __init__(self, session: AsyncSession, user: db.User) -> None:
        """Take the session."""
        self.session = session
        self.user = user

    def strategy(self, settings: KnoxSettings, now: datetime) -> KnoxStrategy[db.User, uuid.UUID]:
        """Make a strategy for which it is now that time."""
        return KnoxStrategy(SQLAlchemyTokenStore(self.session, db.KnoxToken), settings, clock=lambda: now, request=None)

    async def issue(self, settings: KnoxSettings, now: datetime) -> str:
        """Log in."""
        return await self.strategy(settings, now).issue(self.user)

    async def is_let_in(self, token: str, settings: KnoxSettings, now: datetime) -> bool:
        """Use a token."""
        strategy = self.strategy(settings, now)
        manager = users.UserManager(SQLAlchemyUserDatabase(self.session, db.User), knox=strategy)
        return await strategy.read_token(token, manager) is not None


@pytest.fixture
async def person(example_engine: AsyncEngine) -> AsyncIterator[Person]:
    """Load the example's user."""
    async with AsyncSession(example_engine, expire_on_commit=False) as session:
        yield Person(session, (await session.execute(select(db.User))).scalar_one())


# The applications


@pytest.mark.parametrize("name", ["app_jwt", "app_knox"])
async def test_both_sides_of_the_swap_run(name: str) -> None:
    """With JWTs and with knox tokens, whoever has registered logs in by the same route and is let in."""
    async with serving(name) as client:
        assert await knock(client, await log_in(client), {}) == [200, 401]


async def test_after_the_swap_everybody_can_be_logged_out() -> None:
    """Logout-all ends every token of the user."""
    async with serving("app_knox") as client:
        laptop, phone = await log_in(client), await log_in(client)

        ended = await client.post("/auth/logout-all", headers=phone)

        assert (ended.status_code, await knock(client, laptop, phone)) == (204, [401, 401])


async def test_the_login_answers_as_shown() -> None:
    """The answer of a login has the documented fields, of the documented kinds."""
    shown = json.loads((SRC / "login.json").read_text())
    async with serving("app_knox") as client:
        answer = await client.post("/auth/login", data={"username": "jane@example.org", "password": "quite-a-good-one"})

    told = answer.json()
    assert tokens.parse(shown.pop("access_token"))
    assert tokens.parse(told.pop("access_token"))
    assert re.sub(r"\d", "9", told.pop("expiry")) == re.sub(r"\d", "9", shown.pop("expiry"))
    assert told == shown
    assert answer.headers["Cache-Control"] == "no-store"


async def test_jwts_are_kept_beside_knox_tokens(example_engine: AsyncEngine, person: Person) -> None:
    """A JWT is let in but cannot log out; a login gives a knox token."""
    module = load("keep_jwts")
    jwt = {"Authorization": f"Bearer {await module.get_jwt_strategy().write_token(person.user)}"}
    async with calling(module.app, example_engine) as client:
        knox = await log_in(client)
        refused = [(await client.post(f"/auth/{route}", headers=jwt)).status_code for route in ("logout", "logout-all")]

        assert await knock(client, jwt, knox) == [200, 200]
        assert refused == [401, 401]


async def test_audiences_keep_apart(example_engine: AsyncEngine) -> None:
    """A person makes a token for a machine; each kind is ended on its own, and a machine cannot make tokens."""
    module = load("audiences")
    async with calling(module.app, example_engine) as client:
        person = await log_in(client)
        browser = person | {"X-Device-Id": "browser"}
        made, also = [
            await client.post("/api-tokens", params={"name": name}, headers=browser) for name in ("backup", "ci")
        ]
        machine, second = [{"Authorization": f"Bearer {answer.json()['access_token']}"} for answer in (made, also)]
        refused = await client.post("/api-tokens", params={"name": "more"}, headers=machine)

        assert made.json().items() >= {"expiry": None, "token_type": "bearer"}.items()
        assert made.json()["access_token"].startswith("api_")
        assert (refused.status_code, await knock(client, person, machine, second)) == (401, [200, 200, 200])

        await client.post("/auth/logout-all", headers=person)
        assert await knock(client, person, machine) == [401, 200]

        await client.post("/api-tokens/logout-all", headers=machine)
        assert await knock(client, machine, second) == [401, 401]


async def test_the_listener_writes_an_audit_log(example_engine: AsyncEngine, caplog: pytest.LogCaptureFixture) -> None:
    """A login and a logout-all are logged, and so is a login beyond the limit; no token is."""
    module = load("listeners")
    caplog.set_level(logging.INFO, logger="audit")
    async with calling(example_app, example_engine) as client:
        example_app.dependency_overrides[users.get_knox_strategy] = module.get_knox_strategy
        headers = await log_in(client)
        await client.post("/auth/logout-all", headers=headers)
    module.audit(TokenLimitHit(user_id=uuid.uuid4(), client=ClientInfo(), limit=5))

    logged = [re.sub(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", "ID", line) for line in caplog.messages]
    assert logged == [
        "ID logged in from 127.0.0.1: token ID",
        "ID lost token ID: logout_all",
        "ID has 5 tokens already",
    ]
    assert headers["Authorization"].split()[-1] not in caplog.text


async def test_clients_of_knox_are_answered_as_by_knox(example_engine: AsyncEngine) -> None:
    """The login's answer has the user, and the header's prefix is knox's."""
    backend = AuthenticationBackend("knox", load("as_knox").transport, users.get_knox_strategy)
    fastapi_users = FastAPIUsers[db.User, uuid.UUID](users.get_user_manager, [backend])
    app = FastAPI()
    app.include_router(fastapi_users.get_auth_router(backend), prefix="/auth")
    app.get("/authenticated-route", dependencies=[Depends(fastapi_users.current_user(active=True))])(lambda: None)
    async with calling(app, example_engine) as client:
        answer = await client.post("/auth/login", data={"username": "jane@example.org", "password": "quite-a-good-one"})
        token = answer.json()["access_token"]

        assert answer.json()["user"]["email"] == "jane@example.org"
        assert answer.json()["token_type"] == "token"
        prefixed = [{"Authorization": f"{prefix} {token}"} for prefix in ("Token", "Bearer")]
        assert await knock(client, *prefixed) == [200, 401]


# Redis


@pytest.fixture
def redis_server(redis_7_server: RedisServer, monkeypatch: pytest.MonkeyPatch) -> RedisServer:
    """Give an empty Redis, and its URL to the documented files."""
    redis_7_server.ask("FLUSHALL")
    monkeypatch.setenv("REDIS_URL", redis_7_server.url())
    return redis_7_server


async def is_kept(store: RedisTokenStore[Any, Any], user_id: object) -> bool:
    """Tell whether a store on a documented client keeps a record."""
    added = await add(store, new_record(user_id))
    return await find(store, added.record, added.digest) is not None


async def test_the_tokens_move_to_redis(redis_server: RedisServer) -> None:
    """After the swap users log in and out as before, and their tokens are in Redis."""
    async with serving("app_redis") as client:
        laptop, phone = await log_in(client), await log_in(client)
        stored = redis_server.ask("KEYS", "knox:*")
        before = await knock(client, laptop, phone)
        await client.post("/auth/logout-all", headers=phone)

        assert (before, await knock(client, laptop, phone)) == ([200, 200], [401, 401])
        assert len(stored) == 3
        assert redis_server.ask("KEYS", "*") == []


async def test_a_login_with_an_old_password_fails(redis_server: RedisServer) -> None:
    """A login whose password is changed while it is under way fails as bad credentials do, and leaves nothing."""
    engine = create_async_engine(os.environ["DATABASE_URL"])
    store = partial(Overtaken, engine=engine, changes={"hashed_password": "another"})
    async with serving("app_redis", RedisTokenStore=store) as client:
        answer = await client.post("/auth/login", data={"username": "jane@example.org", "password": "quite-a-good-one"})
    await engine.dispose()

    assert answer.json() == {"detail": "LOGIN_BAD_CREDENTIALS"}
    assert redis_server.ask("KEYS", "*") == []


async def test_ids_may_be_numbers_or_texts(redis_server: RedisServer) -> None:
    """Two applications with ids of their own kinds keep apart by their prefixes."""
    module = load("redis_ids")
    module.redis.connection_pool.connection_kwargs["port"] = redis_server.port

    assert await is_kept(module.numbers, 7)
    assert await is_kept(module.texts, "507f1f77bcf86cd799439011")
    await module.redis.aclose()
    assert {key.partition(":")[0] for key in map(str, redis_server.ask("KEYS", "*"))} == {"shop", "blog"}


async def test_the_master_is_found_by_sentinels(redis_sentinel_servers: SentinelServers) -> None:
    """A client as shown reaches the master."""
    module = load("redis_sentinel")
    module.sentinel.sentinels = [Redis(host=host, port=port) for host, port in redis_sentinel_servers.sentinels]
    module.redis.connection_pool.service_name = redis_sentinel_servers.master_name

    assert await is_kept(RedisTokenStore(module.redis), uuid.uuid4())
    for client in (module.redis, *module.sentinel.sentinels):
        await client.aclose()


async def test_a_cluster_is_reached(redis_cluster_servers: ClusterServers, monkeypatch: pytest.MonkeyPatch) -> None:
    """A client as shown finds the nodes."""
    monkeypatch.setenv("REDIS_URL", redis_cluster_servers.url())
    module = load("redis_cluster")

    assert await is_kept(RedisTokenStore(module.redis), uuid.uuid4())
    await module.redis.aclose()


def settings_in(name: str) -> list[list[str]]:
    """Read a documented file of Redis's settings."""
    return [line.split() for line in (SRC / name).read_text().splitlines()]


async def test_what_is_ended_survives_a_crash() -> None:
    """With the settings shown, a Redis that is killed knows what was ended; full, it takes no login and all else."""
    options = [word for name, value in settings_in("redis.conf") for word in (f"--{name}", value)]
    with skip_if_unavailable(), redis("redis-7", *options) as server:
        async with Redis.from_url(server.url(), retry=Retry(NoBackoff(), 1)) as client:
            store = RedisTokenStore[Any, uuid.UUID](client)
            kept, ended = [await add(store, new_record(uuid.uuid4())) for _ in range(2)]
            await store.remove(ended.record.user_id, ended.record.id, audience="web", now=NOW)
            server.kill()
            server.start()
            server.ask("CONFIG", "SET", "maxmemory", "1")

            with pytest.raises(StoreUnavailable):
                await add(store, new_record(uuid.uuid4()))
            assert await find(store, ended.record, ended.digest) is None
            assert await find(store, kept.record, kept.digest) is not None
            assert await store.remove(kept.record.user_id, kept.record.id, audience="web", now=NOW) == kept.record


async def test_without_a_replica_nothing_is_accepted() -> None:
    """With the settings shown, a master without a replica answers 503 to a read as well."""
    with skip_if_unavailable(), redis("redis-7") as server:
        async with Redis.from_url(server.url()) as client:
            store = RedisTokenStore[Any, uuid.UUID](client)
            added = await add(store, new_record(uuid.uuid4()))
            for setting in settings_in("redis_replicas.conf"):
                server.ask("CONFIG", "SET", *setting)

            with pytest.raises(StoreUnavailable):
                await find(store, added.record, added.digest)


# The settings


async def test_the_limit_evicts_the_least_recently_used(person: Person) -> None:
    """A sixth login ends the token that was used longest ago, not the oldest."""
    settings = load("limits").settings
    issued = [await person.issue(settings, NOW + turn * MINUTE) for turn in range(5)]
    assert await person.is_let_in(issued[0], settings, NOW + 10 * MINUTE)

    issued.append(await person.issue(settings, NOW + 11 * MINUTE))

    live = [await person.is_let_in(token, settings, NOW + 12 * MINUTE) for token in issued]
    assert live == [True, False, True, True, True, True]


async def test_the_idle_are_logged_out_and_all_at_the_cap(person: Person) -> None:
    """A token lives on by being used, ends half an hour after its last use, and at the cap in any case."""
    settings = load("auto_refresh").settings
    used, idle = await person.issue(settings, NOW), await person.issue(settings, NOW)

    uses = [await person.is_let_in(used, settings, NOW + turn * 20 * MINUTE) for turn in range(37)]

    assert uses == [True] * 36 + [False]
    assert not await person.is_let_in(idle, settings, NOW + 30 * MINUTE)


async def test_a_digest_key_is_rotated_as_described(person: Person, monkeypatch: pytest.MonkeyPatch) -> None:
    """Tokens from before there were keys, and of the old key, survive every step if they are used."""
    before = await person.issue(KnoxSettings(token_ttl=None), NOW)
    settings, issued = [], []
    for keys in ((OLD_KEY,), (OLD_KEY, NEW_KEY), (NEW_KEY, OLD_KEY), (NEW_KEY,)):
        monkeypatch.setenv("KNOX_DIGEST_KEYS", ",".join(keys))
        settings.append(load("digest_keys").settings.model_copy(update={"accept_unkeyed_until": NOW + 9 * MINUTE}))
        issued.append(await person.issue(settings[-1], NOW))
    unused = await person.issue(settings[0], NOW)

    for turn, step in enumerate(settings):
        for token in (before, *issued[: turn + 1]):
            assert await person.is_let_in(token, step, NOW + (turn + 1) * 2 * MINUTE)
    assert not await person.is_let_in(unused, settings[-1], NOW + 9 * MINUTE)


async def test_the_kill_switch_refuses_earlier_logins(person: Person) -> None:
    """Tokens of logins before the moment are refused, those of later ones accepted."""
    settings = load("kill_switch").settings
    earlier = await person.issue(KnoxSettings(), settings.not_before - MINUTE)
    later = await person.issue(settings, settings.not_before)

    assert not await person.is_let_in(earlier, settings, settings.not_before + MINUTE)
    assert await person.is_let_in(later, settings, settings.not_before + MINUTE)


def test_a_key_made_as_shown_is_long_enough() -> None:
    """The command prints what `digest_keys` takes."""
    made = subprocess.run(["bash", SRC / "new_key.sh"], capture_output=True, check=True, text=True, timeout=PATIENCE)

    assert KnoxSettings(digest_keys=(SecretStr(made.stdout.strip()),)).digest_keys


# The database


async def test_the_purge_deletes_expired_tokens(
    example_engine: AsyncEngine, person: Person, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Run as a script, it deletes the rows of expired tokens, and tells how many."""
    for ttl in (MINUTE, None):
        await person.issue(KnoxSettings(token_ttl=ttl, audience=str(ttl)), datetime.now(UTC) - 2 * MINUTE)
    monkeypatch.setenv("DATABASE_URL", example_engine.url.render_as_string())

    with anyio.fail_after(PATIENCE):
        done = await anyio.run_process(
            [sys.executable, SRC / "purge.py"], env={**os.environ, "PYTHONPATH": str(ROOT)}, check=False
        )

    assert (done.stdout, done.stderr) == (b"1 expired tokens deleted\n", b"")
    assert await person.session.scalar(select(func.count()).select_from(db.KnoxToken)) == 1


async def test_foreign_keys_are_switched_on() -> None:
    """Each connection of the engine heeds them."""
    engine = load("sqlite_foreign_keys").engine
    async with engine.connect() as connection:
        assert await connection.scalar(text("PRAGMA foreign_keys")) == 1
    await engine.dispose()


async def test_a_read_may_be_one_trip(monkeypatch: pytest.MonkeyPatch, postgresql_server: Server) -> None:
    """On the engine with the option, a read leaves the session without a transaction."""
    monkeypatch.setenv("DATABASE_URL", postgresql_server.url("postgresql+asyncpg"))
    engine = load("autocommit").engine
    async with AsyncSession(engine) as session:
        rows = await fetch(session, select(literal(1)), {}, mapper=class_mapper(db.User))

        assert [tuple(row) for row in rows] == [(1,)]
        assert not session.in_transaction()
    await engine.dispose()


@pytest.mark.parametrize(("name", "users"), [("integer_ids", "User"), ("sqlmodel_users", "Member")])
async def test_users_may_have_other_ids_and_tables(name: str, users: str) -> None:
    """The table takes the type of the user's id, and a token is issued, found and limited."""
    module = load(name)
    engine = create_async_engine(os.environ["DATABASE_URL"])
    async with engine.begin() as connection:
        await connection.run_sync(module.Base.metadata.create_all)
    async with AsyncSession(engine, expire_on_commit=False) as session:
        user = getattr(module, users)(email="jane@example.org", hashed_password="hash")
        session.add(user)
        await session.commit()
        store = SQLAlchemyTokenStore[Any, Any](session, module.KnoxToken)
        strategy = KnoxStrategy(store, KnoxSettings(token_limit_per_user=1), request=None)

        token = await strategy.issue(user)

        record = await strategy.read_record(token)
        assert record is not None
        assert record.user_id == user.id
        with pytest.raises(TokenLimitReached):
            await strategy.issue(user)
    await engine.dispose()


def test_alembic_gets_the_imports_it_needs() -> None:
    """Every column type that autogenerate writes by its full name can be found by it after the imports."""
    names: dict[str, object] = {}
    exec((SRC / "alembic_imports.mako").read_text(), names)
    table = db.KnoxToken.__table__
    assert isinstance(table, Table)

    foreign = [
        written for written in map(as_autogenerate_writes, table.columns) if not written.startswith("sqlalchemy.")
    ]

    assert foreign
    for written in foreign:
        assert eval(written, names)


def as_autogenerate_writes(column: Column[object]) -> str:
    """Name a column's type as Alembic does."""
    return f"{type(column.type).__module__}.{type(column.type).__name__}"


# The pages


def swap(*kinds: str) -> str:
    """Compare two applications, hunk by hunk, without context or line numbers."""
    before, after = [(SRC / f"app_{kind}.py").read_text().splitlines(keepends=True) for kind in kinds]
    lines = list(difflib.unified_diff(before, after, n=0))[2:]
    hunks = re.split(r"^@@.*\n", "".join(lines), flags=re.MULTILINE)[1:]
    return "\n".join(re.sub(r"\A(\+\n)+|(?<=\n)(\+\n)+\Z", "", hunk) for hunk in hunks)


def test_the_swaps_are_the_differences_of_the_applications() -> None:
    """Each diff shown is that of two files that run."""
    assert (SRC / "swap.diff").read_text() == swap("jwt", "knox")
    assert (SRC / "redis.diff").read_text() == swap("knox", "redis")


def test_the_readme_is_short_and_shows_what_is_tested() -> None:
    """It has 100 lines at most, and each block of code is a file in docs/src."""
    readme = (ROOT / "README.md").read_text()
    files = {path.read_text() for path in SRC.iterdir() if path.is_file()}

    blocks = [block for _, block in FENCE.findall(readme)]

    assert len(readme.splitlines()) <= 100
    assert len(blocks) == 3
    assert set(blocks) <= files


def test_the_readme_links_to_what_is_there() -> None:
    """Each relative link leads to a file or a directory."""
    links = re.findall(r"\]\((?!https?://)([^)#]+)", (ROOT / "README.md").read_text())

    assert [link for link in links if not (ROOT / link).exists()] == []


def test_the_commands_exist() -> None:
    """Each target of make is one, and the extra to install as well."""
    targets = re.findall(r"^(\w+):", (ROOT / "Makefile").read_text(), re.MULTILINE)
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]

    tried = [line.removeprefix("make ") for line in (SRC / "try.sh").read_text().splitlines()]
    installed = [re.findall(r'^pip install "([\w-]+)\[(\w+)\]"$', path.read_text()) for path in SRC.glob("install*.sh")]

    assert tried
    assert set(tried) <= set(targets)
    assert sorted(installed) == [[(project["name"], extra)] for extra in ("redis", "sqlalchemy")]
    assert {"redis", "sqlalchemy"} <= set(project["optional-dependencies"])


def test_pages_include_every_file_and_have_no_code_of_their_own() -> None:
    """A block of code on a page is an included file, and every file is on a page or in the README."""
    included = set()
    for page in DOCS.rglob("*.md"):
        for language, block in FENCE.findall(page.read_text()):
            names = INCLUDE.fullmatch(block)
            assert names or language == "text", f"{page}: {block}"
            included |= {*(names.groups() if names else ())}

    assert included | {"try.sh"} == {path.name for path in SRC.iterdir() if path.is_file()}


def test_the_reference_has_every_public_name() -> None:
    """What is exported is in the reference."""
    pages = "".join(page.read_text() for page in (DOCS / "reference").iterdir())
    documented = set(re.findall(r"^::: (\S+)$", pages, re.MULTILINE))

    exported = {
        f"{package.__name__}.{name}"
        for package in (fastapi_users_knox, fastapi_users_knox.redis, fastapi_users_knox.sqlalchemy)
        for name in package.__all__
    }
    assert documented == exported


def test_the_errors_are_answered_as_the_table_says() -> None:
    """Each error has its row, with status, headers and detail."""
    rows = re.findall(r"^\| `(\w+)` \| ([^|]+) \| ([^|]*)\|", (DOCS / "reference" / "api.md").read_text(), re.MULTILINE)
    errors = {error.__name__: error for error in KnoxError.__subclasses__()}

    assert {name for name, *_ in rows} == set(errors)
    for name, answer, detail in rows:
        error = errors[name](1) if name == "TokenLimitReached" else errors[name]()
        if isinstance(error, HTTPException):
            headers = "".join(f", `{header}: {value}`" for header, value in (error.headers or {}).items())
            assert (answer, detail.strip()) == (f"{error.status_code}{headers}", f"`{jsonable_encoder(error.detail)}`")


def test_every_setting_of_knox_has_its_row() -> None:
    """The table maps knox's settings to ours as the settings' own descriptions do."""
    table = (DOCS / "knox.md").read_text()

    for name, field in KnoxSettings.model_fields.items():
        for theirs in re.findall(r"knox: `(\w+)`", field.description or ""):
            assert re.search(rf"^\| `{theirs}` \| [^|]+ \| `{name}`", table, re.MULTILINE), name
