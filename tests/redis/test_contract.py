"""The store contract, on every kind of Redis, by every kind of client, for every kind of user id."""

import inspect
import uuid
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, ClassVar

import pytest
from redis.asyncio import Redis, RedisCluster
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff

from fastapi_users_knox.redis import RedisTokenStore
from fastapi_users_knox.testing.contract import OpenStore, TokenStoreContract
from tests.backends import REDIS, Connect
from tests.redis.clients import CLIENTS, TO_REPLICAS, connect_by

Store = RedisTokenStore[Any, Any]


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Run the promises about several stores by the usual clients alone."""
    if metafunc.cls is not None and "connect" in metafunc.fixturenames:
        opens_several = "open_store" in inspect.signature(metafunc.function).parameters
        names = metafunc.cls.every_server if opens_several else metafunc.cls.every_client
        metafunc.parametrize("connect", names, indirect=True, scope="class")


@dataclass(frozen=True, kw_only=True)
class Clients:
    """Clients that are connected: a test takes each for as long as its store is open, and the next test goes on.

    Connecting to a cluster takes longer than most tests do, and of callers who race each other none is to spend the
    time on it that the store gives to a renewal.
    """

    connect: Connect
    stack: AsyncExitStack
    idle: list[Redis | RedisCluster] = field(default_factory=list)

    @asynccontextmanager
    async def take(self) -> AsyncIterator[Redis | RedisCluster]:
        """Give a client that nobody else has."""
        client = self.idle.pop() if self.idle else await self._connected()
        yield client
        self.idle.append(client)

    async def _connected(self) -> Redis | RedisCluster:
        client = await self.stack.enter_async_context(self.connect())
        if isinstance(client, RedisCluster):
            await client.ping(target_nodes=RedisCluster.PRIMARIES)
        else:
            await client.ping()
        return client


@pytest.mark.unmeasured
class TestRedisTokenStore(TokenStoreContract):
    """The Redis store keeps every promise."""

    # What runs in Redis decides where several stores meet, and not by which client it is called.
    every_server: ClassVar[Sequence[str]] = tuple(REDIS)
    every_client: ClassVar[Sequence[str]] = (*REDIS, *CLIENTS)
    parse_id: ClassVar[Any] = uuid.UUID

    @pytest.fixture(scope="session")
    @classmethod
    def anyio_backend(cls) -> str:
        """Run on asyncio, in the one event loop of the connections."""
        return "asyncio"

    @pytest.fixture(scope="class")
    @classmethod
    def connect(cls, request: pytest.FixtureRequest) -> Connect:
        """Make clients of each kind."""
        return connect_by(request.param, request)

    @pytest.fixture(scope="class")
    @classmethod
    async def clients(cls, connect: Connect) -> AsyncIterator[Clients]:
        """Keep the clients, and their connections, for all tests of the class."""
        async with AsyncExitStack() as stack:
            yield Clients(connect=connect, stack=stack)

    @pytest.fixture
    async def open_store(self, clients: Clients) -> OpenStore:
        """Open a store on a client of its own, over an empty Redis."""
        async with clients.take() as redis:
            await redis.flushall()

        @asynccontextmanager
        async def open_store() -> AsyncIterator[Store]:
            async with clients.take() as redis:
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
    """The store keeps every promise by a cluster's client that is told to read from replicas, the older way or not."""

    every_server = tuple(TO_REPLICAS)
    every_client = tuple(TO_REPLICAS)


class TestIntegerIds(TestRedisTokenStore):
    """The store keeps every promise where users have numbers."""

    every_server = ("redis-7",)
    every_client = ("redis-7",)
    parse_id = int

    @pytest.fixture
    def user_ids(self) -> Sequence[Any]:
        """Name two users."""
        return [1, 11]


class TestTextIds(TestRedisTokenStore):
    """The store keeps every promise where users have texts for ids, such as MongoDB's ObjectIds."""

    every_server = ("redis-7",)
    every_client = ("redis-7",)
    parse_id = str

    @pytest.fixture
    def user_ids(self) -> Sequence[Any]:
        """Name two users, one of them by a text that has the marks of patterns and of slots in it."""
        return ["507f1f77bcf86cd799439011", "{*}:user:ä"]
