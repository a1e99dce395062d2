"""The store contract, on every kind of Redis, by every kind of client, for every kind of user id."""

import uuid
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

import pytest
from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff

from fastapi_users_knox.redis import RedisTokenStore
from fastapi_users_knox.testing.contract import OpenStore, TokenStoreContract
from tests.backends import REDIS, Connect
from tests.redis.clients import CLIENTS, TO_REPLICAS, connect_by

Store = RedisTokenStore[Any, Any]


@pytest.mark.unmeasured
class TestRedisTokenStore(TokenStoreContract):
    """The Redis store keeps every promise."""

    parse_id: Any = uuid.UUID

    @pytest.fixture(params=[*REDIS, *CLIENTS])
    def connect(self, request: pytest.FixtureRequest) -> Connect:
        """Make clients of each kind."""
        return connect_by(request.param, request)

    @pytest.fixture
    async def open_store(self, connect: Connect) -> OpenStore:
        """Open a store on a client of its own, over an empty Redis."""
        async with connect() as redis:
            await redis.flushall()

        @asynccontextmanager
        async def open_store() -> AsyncIterator[Store]:
            async with connect() as redis:
                yield RedisTokenStore(redis, parse_id=self.parse_id, users="user")

        return open_store

    @pytest.fixture
    def user_ids(self) -> Sequence[Any]:
        """Name two users; Redis does not know them."""
        return [uuid.uuid4(), uuid.uuid4()]

    @pytest.fixture
    async def lost_store(self) -> AsyncIterator[Store]:
        """Open a store where nothing answers."""
        async with Redis(port=1, retry=Retry(NoBackoff(), 1)) as redis:
            yield RedisTokenStore(redis, parse_id=self.parse_id, users="user")


@pytest.mark.filterwarnings("ignore:.*read_from_replicas:DeprecationWarning")
class TestReadingFromReplicas(TestRedisTokenStore):
    """The store keeps every promise by a cluster's client that is told to read from replicas."""

    @pytest.fixture(params=TO_REPLICAS)
    def connect(self, request: pytest.FixtureRequest) -> Connect:
        """Make such clients, the older way and the newer."""
        return connect_by(request.param, request)


class TestIntegerIds(TestRedisTokenStore):
    """The store keeps every promise where users have numbers."""

    parse_id = int

    @pytest.fixture
    def connect(self, request: pytest.FixtureRequest) -> Connect:
        """Make the usual clients."""
        return connect_by("redis-7", request)

    @pytest.fixture
    def user_ids(self) -> Sequence[Any]:
        """Name two users."""
        return [1, 11]


class TestTextIds(TestRedisTokenStore):
    """The store keeps every promise where users have texts for ids, such as MongoDB's ObjectIds."""

    parse_id = str

    @pytest.fixture
    def connect(self, request: pytest.FixtureRequest) -> Connect:
        """Make the usual clients."""
        return connect_by("redis-7", request)

    @pytest.fixture
    def user_ids(self) -> Sequence[Any]:
        """Name two users, one of them by a text that has the marks of patterns and of slots in it."""
        return ["507f1f77bcf86cd799439011", "{*}:user:ä"]
