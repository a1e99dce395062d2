"""The store contract, on every kind of Redis, with every kind of client, and for every kind of user id."""

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
from tests.redis.stepping import stepping

Store = RedisTokenStore[Any, Any]


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Run tests that open several stores with each server's usual client, and all other tests with every client."""
    if metafunc.cls is not None and "connect" in metafunc.fixturenames:
        opens_several = "open_store" in inspect.signature(metafunc.function).parameters
        names = metafunc.cls.every_server if opens_several else metafunc.cls.every_client
        metafunc.parametrize("connect", names, indirect=True, scope="class")


@dataclass(frozen=True, kw_only=True)
class Clients:
    """Connected clients. A test takes one for each store that it opens, and the next test reuses them.

    Connecting to a cluster takes longer than most tests. In a race it could also take longer than the time limit of
    a renewal, which the store would then give up.
    """

    connect: Connect
    stack: AsyncExitStack
    idle: list[Redis | RedisCluster] = field(default_factory=list)

    @asynccontextmanager
    async def take(self) -> AsyncIterator[Redis | RedisCluster]:
        """Return a client that no other store is using."""
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
    """The Redis store fulfils the store contract."""

    # If several stores race, the scripts in Redis decide, not the client that runs them.
    every_server: ClassVar[Sequence[str]] = tuple(REDIS)
    every_client: ClassVar[Sequence[str]] = (*REDIS, *CLIENTS)
    parse_id: ClassVar[Any] = uuid.UUID

    @pytest.fixture(scope="session")
    @classmethod
    def anyio_backend(cls) -> str:
        """Run on asyncio, in one event loop for all tests, because the connections belong to it."""
        return "asyncio"

    @pytest.fixture(scope="class")
    @classmethod
    def connect(cls, request: pytest.FixtureRequest) -> Connect:
        """Return a function that creates clients of each kind."""
        return connect_by(request.param, request)

    @pytest.fixture(scope="class")
    @classmethod
    async def clients(cls, connect: Connect) -> AsyncIterator[Clients]:
        """Return the clients, which stay connected for all tests of the class."""
        async with AsyncExitStack() as stack:
            yield Clients(connect=connect, stack=stack)

    @pytest.fixture
    async def open_store(self, clients: Clients, step: int) -> OpenStore:
        """Return a function that opens a store on a client of its own; Redis is empty at first."""
        async with clients.take() as redis:
            await redis.flushall()

        @asynccontextmanager
        async def open_store() -> AsyncIterator[Store]:
            async with clients.take() as redis:
                yield stepping(step)(redis, parse_id=self.parse_id, users="user")

        return open_store

    @pytest.fixture
    def step(self) -> int:
        """Return the number of records that a script examines."""
        return 100

    @pytest.fixture
    def user_ids(self) -> Sequence[Any]:
        """Return two user ids. The users need not exist, because Redis does not know users."""
        return [uuid.uuid4(), uuid.uuid4()]

    @pytest.fixture
    async def lost_store(self) -> AsyncIterator[Store]:
        """Return a store whose server cannot be reached."""
        async with Redis(port=1, retry=Retry(NoBackoff(), 1)) as redis:
            yield RedisTokenStore(redis, parse_id=self.parse_id, users="user")


@pytest.mark.filterwarnings("ignore:.*read_from_replicas:DeprecationWarning")
class TestReadingFromReplicas(TestRedisTokenStore):
    """The Redis store fulfils the contract with cluster clients that are configured to read from replicas."""

    every_server = tuple(TO_REPLICAS)
    every_client = tuple(TO_REPLICAS)


class TestCatalogue(TestRedisTokenStore):
    """The Redis store fulfils the contract if users with a few records have a catalogue, and verbs run in parts."""

    every_client = tuple(REDIS)

    @pytest.fixture
    def step(self, request: pytest.FixtureRequest) -> int:
        """Return a number that most tests exceed; but a removal must overtake ten callers that do nothing but add."""
        return 20 if "meets_remove_all" in request.function.__name__ else 2


class TestCatalogueOfTwo(TestCatalogue):
    """The Redis store fulfils the contract if every user with two records has a catalogue."""

    every_server = ("redis-7",)
    every_client = ("redis-7",)

    @pytest.fixture
    def step(self, request: pytest.FixtureRequest) -> int:
        """Return the smallest number."""
        return 20 if "meets_remove_all" in request.function.__name__ else 1


class TestIntegerIds(TestRedisTokenStore):
    """The Redis store fulfils the contract if user ids are integers."""

    every_server = ("redis-7",)
    every_client = ("redis-7",)
    parse_id = int

    @pytest.fixture
    def user_ids(self) -> Sequence[Any]:
        """Return two user ids; one is a prefix of the other."""
        return [1, 11]


class TestTextIds(TestRedisTokenStore):
    """The Redis store fulfils the contract if user ids are strings, such as MongoDB's ObjectIds."""

    every_server = ("redis-7",)
    every_client = ("redis-7",)
    parse_id = str

    @pytest.fixture
    def user_ids(self) -> Sequence[Any]:
        """Return two user ids; one contains the special characters of patterns and hash tags."""
        return ["507f1f77bcf86cd799439011", "{*}:user:ä"]
