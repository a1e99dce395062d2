"""A Redis user with only the permissions that the documentation lists can run the whole store."""

import re
import uuid
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from redis.asyncio import Redis, RedisCluster
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff

import fastapi_users_knox.redis
from fastapi_users_knox.redis import RedisTokenStore
from fastapi_users_knox.testing.contract import (
    HOUR,
    NOW,
    SECOND,
    OpenStore,
    TokenStoreContract,
    add,
    find,
    new_digest,
    new_record,
)
from tests.redis_servers import ClusterServers, RedisServer

SRC = Path(__file__).parents[2] / "docs" / "src"
SCRIPTS = Path(fastapi_users_knox.redis.__file__).parent.glob("*.lua")
RULES = (SRC / "redis_acl.txt").read_text().split()
CLUSTER_RULES = (SRC / "redis_acl_cluster.txt").read_text().split()
WHO = f"{RULES[1]}:{RULES[3].removeprefix('>')}"


@pytest.fixture
def nodes(server: RedisServer) -> Iterator[Sequence[RedisServer]]:
    """Create the documented Redis user on each kind of server."""
    yield from with_user([server], RULES[1:])


def with_user(nodes: Sequence[RedisServer], rules: Sequence[str]) -> Iterator[Sequence[RedisServer]]:
    """Remove all data and scripts from the servers, and create the user, who is deleted after the test."""
    for node in nodes:
        node.ask("FLUSHALL")
        node.ask("SCRIPT", "FLUSH")
        node.ask("ACL", "SETUSER", *rules)
    yield nodes
    for node in nodes:
        node.ask("ACL", "DELUSER", rules[0])


def url_of(server: RedisServer) -> str:
    """Return the URL of a server, with the user's name and password."""
    return server.url().replace("//", f"//{WHO}@")


class TestRestrictedUser(TokenStoreContract):
    """The Redis store fulfils the store contract when it connects as the documented user."""

    @pytest.fixture
    def open_store(self, nodes: Sequence[RedisServer]) -> OpenStore:
        """Return a function that opens a store on a new client, which connects as the documented user."""

        @asynccontextmanager
        async def open_store() -> AsyncIterator[RedisTokenStore[Any, uuid.UUID]]:
            async with Redis.from_url(url_of(nodes[0])) as redis:
                yield RedisTokenStore(redis)

        return open_store

    @pytest.fixture
    def user_ids(self) -> Sequence[uuid.UUID]:
        """Return the ids of two users of the application."""
        return [uuid.uuid4(), uuid.uuid4()]

    @pytest.fixture
    async def lost_store(self) -> AsyncIterator[RedisTokenStore[Any, uuid.UUID]]:
        """Return a store whose server cannot be reached."""
        async with Redis(port=1, retry=Retry(NoBackoff(), 0)) as redis:
            yield RedisTokenStore(redis)


async def test_a_cluster_needs_three_commands_more(redis_cluster_servers: ClusterServers) -> None:
    """With the permissions for three more commands, every verb of the store works on a cluster."""
    user_id = uuid.uuid4()
    for nodes in with_user(redis_cluster_servers.masters, [*RULES[1:], *CLUSTER_RULES]):
        async with RedisCluster.from_url(url_of(nodes[0])) as redis:
            store = RedisTokenStore[Any, uuid.UUID](redis)
            added = [await add(store, new_record(user_id), limit=3) for _ in range(3)]

            assert await store.rotate(added[0], new_digest(), now=NOW)
            assert await store.renew(added[1], now=NOW + HOUR / 2, unused_since=NOW + SECOND)
            assert await find(store, added[1].record, added[1].digest) is not None
            assert await store.remove(user_id, added[1].record.id, audience="web", now=NOW) is not None
            assert len(await store.list(user_id, audience="web", now=NOW)) == 2
            assert await store.purge(audience="web", now=NOW + HOUR) == 2
            assert await store.remove_all(user_id, audience=None, now=NOW) == []


def test_the_user_may_do_no_more() -> None:
    """The documented permissions are exactly the commands that the scripts call and the client sends."""
    called = {name.lower() for path in SCRIPTS for name in re.findall(r"redis\.call\('(\w+)'", path.read_text())}

    assert RULES[4:6] == ["~knox:*", "-@all"]
    assert sorted(RULES[6:]) == sorted(f"+{name}" for name in {*called, "evalsha", "script|load", "scan"})
