"""The command `check`."""

import re
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Any
from uuid import uuid4

import pytest
from pydantic import SecretStr
from sqlalchemy import Column, ForeignKey, MetaData, Table, delete, insert
from sqlalchemy.orm import Session

from fastapi_users_knox import KnoxSettings
from fastapi_users_knox.redis.checks import judge
from fastapi_users_knox.settings.settings import utc_now
from fastapi_users_knox.testing.contract import new_digest
from tests.cli import application
from tests.cli.place import Place
from tests.models import Base
from tests.redis_servers import RedisServer, SentinelServers, redis
from tests.servers import skip_if_unavailable

APPS = {"--database": "tests.cli.application:open_strategy", "--redis": "tests.cli.application:open_capped_on_redis"}
DAY = timedelta(days=1)
TOKENS = Base.metadata.tables["knox_token"]
USERS = Base.metadata.tables["user"]


def problems(document: Mapping[str, Any]) -> dict[str, str]:
    """Return what was found, by check, for the problems only."""
    found = {check["check"]: check["detail"] for check in document["checks"] if check["status"] == "problem"}
    assert len(found) == document["problems"]
    assert all(check["cure"] for check in document["checks"] if check["status"] == "problem")
    return found


def statuses(document: Mapping[str, Any]) -> dict[str, str]:
    """Return the status of each check."""
    return {check["check"]: check["status"] for check in document["checks"]}


@pytest.fixture
def app(place: Place, monkeypatch: pytest.MonkeyPatch) -> Place:
    """Return each kind of place, with the test's application."""
    return in_application(place, monkeypatch)


@pytest.fixture
def sqlite_app(sqlite: Place, monkeypatch: pytest.MonkeyPatch) -> Place:
    """Return a database file, with the test's application, which enforces foreign keys."""
    monkeypatch.setattr(application, "PRAGMA", "PRAGMA foreign_keys = ON")
    return in_application(sqlite, monkeypatch)


def in_application(place: Place, monkeypatch: pytest.MonkeyPatch) -> Place:
    """Let the program find the tokens of a place through the application."""
    monkeypatch.setenv(application.DATABASE, place.options[1])
    monkeypatch.setenv(application.REDIS, place.options[1])
    place.options = ["--app", APPS[place.options[0]]]
    return place


async def test_a_table_is_as_it_should_be(sql: Place) -> None:
    """The table that the class creates has no problems, on each kind of database."""
    jane = await sql.create_user()
    await sql.log_in(jane)

    document = await sql.ask("check")

    assert problems(document) == {}
    found = statuses(document)
    assert found.pop("settings") == "unknown"
    assert {*found} >= {"columns", "primary key", "unique key", "index of users", "index of expiry", "foreign key"}
    assert {*found.values()} == {"ok"}


async def test_a_table_without_keys_has_problems(sql: Place) -> None:
    """A table without keys and indexes is found, and each problem has a cure."""
    async with replaced_by(sql, *(Column(column.name, column.type) for column in TOKENS.columns)):
        document = await sql.ask("check", code=1)

    assert problems(document) == {
        "primary key": "the table knox_token has no primary key (id): removals find a record by it",
        "unique key": "the table knox_token has no unique key (digest): each request finds its token by it",
        "index of users": "the table knox_token has no index of users (user_id, expiry_hour): logins, lists and the "
        "deletion of a user need it",
        "index of expiry": "the table knox_token has no index of expiry (expiry_hour): purges need it",
        "foreign key": "user_id is no foreign key in the database",
    }


async def test_missing_columns_are_found(sqlite: Place) -> None:
    """A table from before a migration lacks columns, and nothing else is counted in it."""
    columns = [column for column in TOKENS.columns if column.name not in {"data", "scopes"}]
    async with replaced_by(sqlite, *(Column(column.name, column.type) for column in columns)):
        document = await sqlite.ask("check", code=1)

    assert problems(document)["columns"] == "the table knox_token has no data, scopes"
    assert not {"expired tokens", "foreign key kept"} & {*statuses(document)}


async def test_a_missing_table_is_found(sqlite: Place) -> None:
    """If there is no table, that is the only problem."""
    async with replaced_by(sqlite):
        document = await sqlite.ask("check", code=1)

    assert problems(document) == {"table": "there is no table knox_token"}


async def test_a_foreign_key_must_cascade(sqlite: Place) -> None:
    """A foreign key without ON DELETE CASCADE is a problem."""
    columns = [Column(column.name, column.type) for column in TOKENS.columns if column.name != "user_id"]
    key = Column("user_id", TOKENS.c.user_id.type, ForeignKey(USERS.c.id))
    async with replaced_by(sqlite, *columns, key):
        document = await sqlite.ask("check", code=1)

    assert problems(document)["foreign key"] == "the foreign key user_id has no ON DELETE CASCADE"


async def test_tokens_without_users_are_found(sqlite: Place) -> None:
    """Tokens of users whom SQLite has deleted without their tokens are a problem."""
    await sqlite.log_in(await sqlite.create_user())
    async with sqlite.open_app() as opened:
        await opened.session.execute(delete(USERS))
        await opened.session.commit()

    document = await sqlite.ask("check", code=1)

    assert problems(document) == {"foreign key kept": "1 tokens belong to users who do not exist"}


async def test_sqlite_must_enforce_foreign_keys(sqlite_app: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    """With `--app`, the program checks that the application's connections enforce foreign keys."""
    enforced = await sqlite_app.ask("check")
    monkeypatch.setattr(application, "PRAGMA", "PRAGMA foreign_keys = OFF")
    unenforced = await sqlite_app.ask("check", code=1)

    assert problems(enforced) == {}
    assert problems(unenforced) == {"foreign keys enforced": "SQLite does not enforce foreign keys"}


async def test_a_class_without_a_foreign_key_is_not_checked(sqlite_app: Place) -> None:
    """If the class has no foreign key, the program says that it has not checked it."""
    async with sqlite_app.open_app() as opened:
        await opened.session.run_sync(lambda session: application.Loose.metadata.create_all(session.connection()))
        await opened.session.commit()

    result = await sqlite_app.run_with(["--app", "tests.cli.application:open_loose"], "check")

    assert "user_id of the mapped class is no foreign key" in result.stdout


async def test_the_transaction_of_the_application_stays_open(sqlite_app: Place) -> None:
    """If the application has begun a transaction, the checks run in it and do not commit it."""
    application.open_transactions.clear()

    await sqlite_app.run_with(["--app", "tests.cli.application:open_begun"], "check")

    assert application.open_transactions == [True]


async def test_clocks_must_agree(app: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    """A clock that differs from that of the server is a problem; SQLite has no server."""
    monkeypatch.setattr(application, "AHEAD", timedelta(minutes=10))
    document = await app.ask("check", code=1)

    details = [detail for check, detail in problems(document).items() if check.endswith("clock")]
    assert len(details) == sum(check.endswith("clock") for check in statuses(document))
    assert all(re.fullmatch(r"the clocks differ by (59|60)\d\.\d s", detail) for detail in details)


async def test_expired_tokens_must_not_pile_up(sqlite: Place) -> None:
    """More than a thousand expired tokens, and more than there are live ones, are a problem."""
    token = await sqlite.log_in(await sqlite.create_user())
    async with sqlite.open_app() as opened:
        past = utc_now() - DAY
        same = {"user_id": token.record.user_id, "audience": "", "created_at": past, "authenticated_at": past}
        rows = [{**same, "id": uuid4(), "digest": new_digest(), "expires_at": past} for _ in range(1001)]
        await opened.session.execute(insert(TOKENS), rows)
        await opened.session.commit()

    document = await sqlite.ask("check", code=1)

    assert problems(document) == {"expired tokens": "there are 1001 expired tokens, and 1 live ones"}


NOW = utc_now()


@pytest.mark.parametrize(
    ("settings", "check", "detail"),
    [
        (
            KnoxSettings.model_construct(digest_keys=(SecretStr("0123456789"),)),
            "digest keys",
            "a digest key has 10 bytes",
        ),
        (
            KnoxSettings(digest_keys=(SecretStr("k" * 32),), accept_unkeyed_until=NOW - DAY),
            "accept_unkeyed_until",
            f"accept_unkeyed_until was {NOW - DAY:%Y-%m-%d}",
        ),
        (
            KnoxSettings(not_before=NOW + DAY),
            "not_before",
            f"not_before is in the future, so all tokens are refused until {NOW + DAY:%Y-%m-%d %H:%M}",
        ),
    ],
)
async def test_settings_are_checked(
    sqlite_app: Place, monkeypatch: pytest.MonkeyPatch, settings: KnoxSettings, check: str, detail: str
) -> None:
    """With `--app`, the settings are checked, and no key is printed."""
    monkeypatch.setattr(application, "SETTINGS", settings)

    document = await sqlite_app.ask("check", code=1)
    shown = (await sqlite_app.run("check", code=1)).stdout

    assert problems(document) == {check: detail}
    assert "PROBLEM" in shown
    assert "Cure: " in shown
    assert "0123456789" not in f"{document}{shown}"


@pytest.fixture
def durable_server() -> Iterator[RedisServer]:
    """Run a Redis that is set up as the documentation says."""
    with skip_if_unavailable(), redis("any", "--appendonly", "yes") as server:
        yield server


@pytest.mark.server
async def test_a_durable_redis_has_no_problem(sqlite: Place, durable_server: RedisServer) -> None:
    """A Redis that is set up as the documentation says has no problem; each other setting is one."""
    sqlite.options = ["--redis", durable_server.url()]
    good = await sqlite.ask("check")
    durable_server.ask("CONFIG", "SET", "appendonly", "no")
    durable_server.ask("CONFIG", "SET", "maxmemory-policy", "allkeys-lru")
    bad = await sqlite.ask("check", code=1)

    assert problems(good) == {}
    assert problems(bad) == {
        "Redis: persistence": "the append-only file is off",
        "Redis: eviction": "maxmemory-policy is allkeys-lru, so full memory logs users out",
    }


async def test_replicas_are_checked(sqlite: Place, redis_sentinel_servers: SentinelServers) -> None:
    """A master with a replica needs `min-replicas-to-write`, and a replica is the wrong server."""
    master, replica = redis_sentinel_servers.master, redis_sentinel_servers.replica
    sqlite.options = ["--redis", master.url()]
    alone = problems(await sqlite.ask("check", code=1))
    master.ask("CONFIG", "SET", "min-replicas-to-write", "1")
    waiting = problems(await sqlite.ask("check", code=1))
    master.ask("CONFIG", "SET", "min-replicas-to-write", "0")
    sqlite.options = ["--redis", replica.url()]
    wrong = problems(await sqlite.ask("check", code=1))

    assert alone["Redis: replicas"] == "there are replicas, but min-replicas-to-write is 0"
    assert "Redis: replicas" not in waiting
    assert wrong["Redis: role"] == "the server is a replica, which refuses to read tokens"


@pytest.mark.server
async def test_what_redis_does_not_permit_is_not_checked(sqlite: Place, durable_server: RedisServer) -> None:
    """If the Redis user may not ask, the program says so, and that is no problem."""
    durable_server.ask("ACL", "SETUSER", "knox", "on", ">password", "~*", "+@all", "-info")
    sqlite.options = ["--redis", durable_server.url().replace("//", "//knox:password@")]

    document = await sqlite.ask("check")

    assert statuses(document)["Redis"] == "unknown"


def test_old_servers_are_refused() -> None:
    """A server before Redis 6.2 is a problem."""
    facts = {
        "redis_version": "6.0.16",
        "role": "master",
        "aof_enabled": 1,
        "maxmemory_policy": "noeviction",
        "connected_slaves": 0,
    }

    found = [finding.detail for finding in judge("Redis", facts) if finding.status == "problem"]

    assert found == ["the version is 6.0.16"]


@asynccontextmanager
async def replaced_by(place: Place, *columns: Column[Any]) -> AsyncIterator[None]:
    """Replace the table of the tokens by one with these columns, or by none, and restore it at the end."""

    def replace(session: Session) -> None:
        TOKENS.drop(session.connection())
        if columns:
            Table(TOKENS.name, MetaData(), *columns).create(session.connection())

    def restore(session: Session) -> None:
        Table(TOKENS.name, MetaData()).drop(session.connection(), checkfirst=True)
        Base.metadata.create_all(session.connection())

    async with place.open_app() as opened:
        await opened.session.run_sync(replace)
        await opened.session.commit()
    try:
        yield
    finally:
        async with place.open_app() as opened:
            await opened.session.run_sync(restore)
            await opened.session.commit()
