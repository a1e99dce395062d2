"""The command `stats`."""

import json
import uuid
from datetime import timedelta
from typing import Any

import pytest
from redis.asyncio import Redis

from fastapi_users_knox import KnoxSettings
from fastapi_users_knox.redis import RedisTokenStore
from fastapi_users_knox.settings.settings import utc_now
from fastapi_users_knox.testing.contract import add, new_record
from tests.cli import application
from tests.cli.place import Place

HOUR, DAY = timedelta(hours=1), timedelta(days=1)
WEB = KnoxSettings(audience="web")
EMPTY = {"under_1_hour": 0, "under_1_day": 0, "under_7_days": 0, "under_30_days": 0, "longer": 0}


async def test_an_empty_store_has_only_zeros(place: Place) -> None:
    """Without tokens, all numbers are 0."""
    document = await place.ask("stats")

    assert document == {
        "live": 0,
        "expired": 0,
        "users": 0,
        "audiences": {},
        "ages": EMPTY,
        "last_used": {**EMPTY, "never": 0},
        "top_users": [],
    }


async def test_tokens_are_counted(place: Place) -> None:
    """`stats` counts the live tokens by audience, age and last use, and names the users who have the most."""
    jane, other = await place.create_user(), await place.create_user()
    for ago in (HOUR / 2, 2 * HOUR, 2 * DAY):
        await place.log_in(jane, ago=ago, token_ttl=None)
    for ago in (8 * DAY, 31 * DAY):
        await place.log_in(other, ago=ago, token_ttl=None, settings=WEB)
    used = await place.log_in(jane, ago=DAY / 2, token_ttl=None)
    async with place.strategy(ago=DAY / 4) as strategy, place.open_app() as app:
        await strategy.authenticate(used, app.user_manager)

    document = await place.ask("stats", "--top", 1)

    assert (document["live"], document["expired"], document["users"]) == (6, 0, 2)
    assert document["audiences"] == {"": {"live": 4, "expired": 0}, "web": {"live": 2, "expired": 0}}
    assert document["ages"] == {
        "under_1_hour": 1,
        "under_1_day": 2,
        "under_7_days": 1,
        "under_30_days": 1,
        "longer": 1,
    }
    assert document["last_used"] == {**EMPTY, "under_1_day": 1, "never": 5}
    assert document["top_users"] == [{"user_id": str(jane.id), "live": 4}]


async def test_expired_tokens_are_counted(sql: Place) -> None:
    """Expired tokens are counted by audience, but not by age, use and user."""
    jane, other = await sql.create_user(), await sql.create_user()
    await sql.log_in(jane, ago=DAY, settings=WEB)
    await sql.log_in(other)

    document = await sql.ask("stats")

    assert (document["live"], document["expired"], document["users"]) == (1, 1, 1)
    assert document["audiences"]["web"] == {"live": 0, "expired": 1}
    assert sum(document["ages"].values()) == sum(document["last_used"].values()) == 1


async def test_the_settings_of_the_application_decide(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    """With `--app`, tokens of its audience that are past the cap count as expired."""
    settings = KnoxSettings(token_ttl=DAY, auto_refresh_max_ttl=2 * DAY)
    jane = await place.create_user()
    for ago in (3 * DAY, HOUR):
        await place.log_in(jane, ago=ago, token_ttl=None)
        await place.log_in(jane, ago=ago, token_ttl=None, settings=WEB)
    await place.log_in(jane, ago=3 * DAY, token_ttl=None, settings=WEB)
    monkeypatch.setenv(application.DATABASE, place.options[1])
    monkeypatch.setenv(application.REDIS, place.options[1])
    monkeypatch.setattr(application, "SETTINGS", settings)
    name = {"--database": "open_strategy", "--redis": "open_capped_on_redis"}[place.options[0]]

    shown = (await place.run_with(["--app", f"tests.cli.application:{name}"], "stats")).stdout

    assert "4 live tokens of 1 users, 1 expired tokens" in shown


async def test_the_numbers_are_shown_in_tables(sqlite: Place) -> None:
    """Without `--json`, `stats` prints tables."""
    await sqlite.log_in(await sqlite.create_user())

    shown = (await sqlite.run("stats")).stdout

    for text in ("By audience", "(empty)", "Live tokens by age", "under 1 hour", "Users with the most live tokens"):
        assert text in shown
    assert shown.endswith("1 live tokens of 1 users, 0 expired tokens\n")


async def test_many_users_and_tokens_are_read_in_parts(redis: Place) -> None:
    """More users, and more tokens of one user, than one command reads are all counted once."""
    users = [uuid.uuid4() for _ in range(150)]
    async with Redis.from_url(redis.options[1]) as client:
        store = RedisTokenStore[Any, uuid.UUID](client)
        for user_id in [*users, *[users[0]] * 700]:
            await add(store, new_record(user_id, created_at=utc_now(), expires_at=None))

    document = await redis.ask("stats", "--top", 2)

    assert (document["live"], document["users"]) == (850, 150)
    assert document["top_users"][0] == {"user_id": str(users[0]), "live": 701}


async def test_a_record_that_expires_meanwhile_is_not_counted(redis: Place) -> None:
    """An index may name records that Redis has deleted, and records that are not confirmed."""
    jane = await redis.create_user()
    await redis.log_in(jane, name="laptop")
    await redis.log_in(jane, name="phone")
    async with Redis.from_url(redis.options[1]) as client:
        [first, second] = [key async for key in client.scan_iter(match="knox:*") if b"user" not in key]
        await client.delete(first)
        fields = json.loads(await client.get(second) or "")
        await client.set(second, json.dumps([*fields[:5], 0, *fields[6:]]))

    assert (await redis.ask("stats"))["live"] == 0
