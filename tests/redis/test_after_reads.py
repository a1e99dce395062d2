"""A write that a read causes neither fails the request nor delays it for long, even if Redis does not answer."""

import uuid
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest
from redis.asyncio import Redis

from fastapi_users_knox import Found, KnoxSettings
from fastapi_users_knox.redis import RedisTokenStore
from fastapi_users_knox.testing.contract import new_digest, new_record, presented
from tests.backends import NOW
from tests.redis.site import patience, serving
from tests.redis.test_outage import PROGRAMS, full
from tests.redis_servers import Program, RedisServer, redis
from tests.servers import skip_if_unavailable

pytestmark = [pytest.mark.anyio, pytest.mark.server]

HOUR = timedelta(hours=1)
MINUTE = timedelta(minutes=1)


@pytest.fixture
def own_server() -> Iterator[RedisServer]:
    """Run a Redis 7 server that only this test uses."""
    with skip_if_unavailable(), redis("redis-7") as server:
        yield server


@pytest.mark.parametrize("program", PROGRAMS)
async def test_a_refresh_that_cannot_be_written_fails_no_request(program: Program) -> None:
    """A read whose refresh fails because Redis has no memory left succeeds, and a later read refreshes the token."""
    settings = KnoxSettings(auto_refresh=True, token_ttl=2 * HOUR)
    with skip_if_unavailable(), redis(program) as server:
        async with Redis.from_url(server.url(), **patience()) as client, serving(client, settings) as site:
            token = await site.token()

            with full(server):
                site.clock.now += HOUR
                during = [await site.read(token) for _ in range(2)]
            site.clock.now += HOUR - MINUTE
            after = await site.read(token)
            site.clock.now += HOUR

            assert (during, after) == ([200, 200], 200)
            assert await site.read(token) == 200


@pytest.mark.bounded
async def test_what_a_read_writes_does_not_wait(own_server: RedisServer, caplog: pytest.LogCaptureFixture) -> None:
    """If Redis does not answer, a renewal and a purge give up by themselves, even if the client has no timeout."""
    async with Redis.from_url(own_server.url(), socket_timeout=None, socket_connect_timeout=None) as client:
        store: RedisTokenStore[Any, Any] = RedisTokenStore(client)
        found = await stored(store)

        with own_server.paused():
            renewed = await store.renew(found, now=NOW + HOUR / 2, unused_since=NOW + MINUTE)
            purged = await store.purge(audience="web", now=NOW + 2 * HOUR, seen=found, tried_since=NOW)

    assert (renewed, purged) == (False, 0)
    assert caplog.messages == [
        "Skipped updating last_used_at and expires_at: TimeoutError",
        "Skipped deleting an expired token: TimeoutError",
    ]


@pytest.mark.bounded
async def test_an_answer_that_came_too_late_is_nobodys(own_server: RedisServer) -> None:
    """A late reply to a call that was given up is not taken for the reply to the next call."""
    async with Redis.from_url(own_server.url(), socket_timeout=None, max_connections=1) as client:
        store: RedisTokenStore[Any, Any] = RedisTokenStore(client)
        found, other = await stored(store), await stored(store)

        with own_server.paused():
            await store.renew(found, now=NOW + HOUR / 2, unused_since=NOW + MINUTE)

        assert await seen(store, other) == other
        assert await seen(store, found) is not None


async def stored(store: RedisTokenStore[Any, Any]) -> Found[Any, Any]:
    """Store a record of a new user, and return what a read would find."""
    record, digest = new_record(uuid.uuid4()), new_digest()
    await store.add(record, digest, now=NOW)
    return Found(record=record, digest=digest)


async def seen(store: RedisTokenStore[Any, Any], found: Found[Any, Any]) -> Found[Any, Any] | None:
    """Read a record again."""
    return await store.get(presented(found.record.user_id, found.digest), audience="web")
