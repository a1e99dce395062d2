"""The files of the page on Redis work as the page describes."""

import uuid
from pathlib import Path
from typing import Any

import pytest
from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from sqlalchemy import update

from fastapi_users_knox import StoreUnavailable
from fastapi_users_knox.redis import RedisTokenStore
from fastapi_users_knox.testing.contract import add, find, new_record
from tests.docs.folder import LOGIN, SRC, calling, changed_by, knock, load, log_in, register
from tests.docs.test_settings import NOW
from tests.redis_servers import ClusterServers, RedisServer, SentinelServers, redis
from tests.servers import skip_if_unavailable


@pytest.fixture
def redis_server(redis_7_server: RedisServer, monkeypatch: pytest.MonkeyPatch) -> RedisServer:
    """Return an empty Redis, and pass its URL to the documented files."""
    redis_7_server.ask("FLUSHALL")
    monkeypatch.setenv("REDIS_URL", redis_7_server.url())
    return redis_7_server


async def is_kept(store: RedisTokenStore[Any, Any], user_id: object) -> bool:
    """Return whether the store finds a record that was just added."""
    added = await add(store, new_record(user_id))
    return await find(store, added.record, added.digest) is not None


async def test_the_tokens_move_to_redis(
    redis_server: RedisServer, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After the change shown, users log in and out as before, and their tokens are in Redis."""
    changed_by("redis.diff", folder, monkeypatch)
    async with calling(load("app").app) as client:
        await register(client)
        laptop, phone = await log_in(client), await log_in(client)
        stored = redis_server.ask("KEYS", "knox:*")
        before = await knock(client, laptop, phone)
        await client.post("/auth/logout-all", headers=phone)

        assert (before, await knock(client, laptop, phone)) == ([200, 200], [401, 401])
        assert len(stored) == 3
        assert redis_server.ask("KEYS", "*") == []
    await load("db").engine.dispose()


async def test_a_login_with_an_old_password_fails(
    redis_server: RedisServer, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A login during which the password changes fails as bad credentials do, and leaves no record."""
    changed_by("redis.diff", folder, monkeypatch)
    db, tokens = load("db"), load("tokens")

    class Overtaken(RedisTokenStore[Any, Any]):
        """A store for which the password is changed just before each record is added."""

        async def add(self, *args: Any, **options: Any) -> Any:
            async with db.engine.begin() as connection:
                await connection.execute(update(db.User).values(hashed_password="another"))
            return await super().add(*args, **options)

    monkeypatch.setattr(tokens, "RedisTokenStore", Overtaken)
    async with calling(load("app").app) as client:
        await register(client)
        answer = await client.post("/auth/login", data=LOGIN)
    await db.engine.dispose()

    assert answer.json() == {"detail": "LOGIN_BAD_CREDENTIALS"}
    assert redis_server.ask("KEYS", "*") == []


async def test_ids_may_be_numbers_or_texts(redis_server: RedisServer) -> None:
    """Two applications with different kinds of ids share a Redis under different key prefixes."""
    module = load("redis_ids")
    module.redis.connection_pool.connection_kwargs["port"] = redis_server.port

    assert await is_kept(module.numbers, 7)
    assert await is_kept(module.texts, "507f1f77bcf86cd799439011")
    await module.redis.aclose()
    assert {key.partition(":")[0] for key in map(str, redis_server.ask("KEYS", "*"))} == {"shop", "blog"}


async def test_the_master_is_found_by_sentinels(redis_sentinel_servers: SentinelServers) -> None:
    """The client shown finds the master through the sentinels."""
    module = load("redis_sentinel")
    module.sentinel.sentinels = [Redis(host=host, port=port) for host, port in redis_sentinel_servers.sentinels]
    module.redis.connection_pool.service_name = redis_sentinel_servers.master_name

    assert await is_kept(await module.get_token_store(), uuid.uuid4())
    for client in (module.redis, *module.sentinel.sentinels):
        await client.aclose()


async def test_a_cluster_is_reached(redis_cluster_servers: ClusterServers, monkeypatch: pytest.MonkeyPatch) -> None:
    """The client shown works with a cluster."""
    monkeypatch.setenv("REDIS_URL", redis_cluster_servers.url())
    module = load("redis_cluster")

    assert await is_kept(await module.get_token_store(), uuid.uuid4())
    await module.redis.aclose()


def settings_in(name: str) -> list[list[str]]:
    """Return the lines of a documented Redis configuration."""
    return [line.split() for line in (SRC / name).read_text().splitlines()]


async def test_a_revocation_survives_a_crash() -> None:
    """With the settings shown, a revocation survives a crash, and a full Redis refuses nothing but logins."""
    options = [word for name, value in settings_in("redis.conf") for word in (f"--{name}", value)]
    with skip_if_unavailable(), redis("redis-7", *options) as server:
        async with Redis.from_url(server.url(), retry=Retry(NoBackoff(), 1)) as client:
            store = RedisTokenStore[Any, uuid.UUID](client)
            kept, revoked = [await add(store, new_record(uuid.uuid4())) for _ in range(2)]
            await store.remove(revoked.record.user_id, revoked.record.id, audience="web", now=NOW)
            server.kill()
            server.start()
            server.ask("CONFIG", "SET", "maxmemory", "1")

            with pytest.raises(StoreUnavailable):
                await add(store, new_record(uuid.uuid4()))
            assert await find(store, revoked.record, revoked.digest) is None
            assert await find(store, kept.record, kept.digest) is not None
            assert await store.remove(kept.record.user_id, kept.record.id, audience="web", now=NOW) == kept.record


async def test_without_a_replica_nothing_is_accepted() -> None:
    """With the settings shown, a master without a replica answers 503 to reads as well."""
    with skip_if_unavailable(), redis("redis-7") as server:
        async with Redis.from_url(server.url()) as client:
            store = RedisTokenStore[Any, uuid.UUID](client)
            added = await add(store, new_record(uuid.uuid4()))
            for setting in settings_in("redis_replicas.conf"):
                server.ask("CONFIG", "SET", *setting)

            with pytest.raises(StoreUnavailable):
                await find(store, added.record, added.digest)
