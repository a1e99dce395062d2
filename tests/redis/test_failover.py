"""When a replica takes over from its master, no revoked token is accepted, and only the last writes may be lost."""

import uuid
from asyncio import Event, TaskGroup, to_thread
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from itertools import cycle
from typing import Literal

import pytest
from redis.asyncio import Redis, RedisCluster

from fastapi_users_knox.tokens import routing_tag
from tests.backends import sentinel_master
from tests.redis.site import Site, patience, serving
from tests.redis_servers import (
    ClusterServers,
    Program,
    RedisServer,
    SentinelServers,
    redis,
    redis_cluster,
    redis_sentinel,
    settle,
)
from tests.servers import HOST, skip_if_unavailable

pytestmark = [pytest.mark.anyio, pytest.mark.server, pytest.mark.unmeasured]

Record = Callable[[str, object], None]

CROWD: Mapping[str, uuid.UUID] = {f"{number}@example.org": uuid.uuid4() for number in range(20)}
SOME, MANY = 20, 60  # numbers of logins


@dataclass(kw_only=True)
class Logins:
    """Users who log in again and again.

    Attributes:
        site: The application.
        acknowledged: The tokens that were issued, in their order.
        statuses: The statuses of all login responses.
    """

    site: Site
    acknowledged: list[str] = field(default_factory=list)
    statuses: set[int] = field(default_factory=set)
    _are_over: bool = False
    _has_come: Event = field(default_factory=Event)

    async def more(self, count: int) -> None:
        """Wait until this many more tokens have been issued."""
        enough = len(self.acknowledged) + count
        while len(self.acknowledged) < enough:
            self._has_come.clear()
            await self._has_come.wait()

    @asynccontextmanager
    async def going_on(self) -> AsyncIterator[None]:
        """During the block, let four clients log users in, one login after the other."""
        async with TaskGroup() as tasks:
            for number in range(4):
                tasks.create_task(self._log_in(list(CROWD)[number::4]))
            try:
                yield
            finally:
                self._are_over = True

    async def _log_in(self, emails: Sequence[str]) -> None:
        for email in cycle(emails):
            response = await self.site.log_in(email)
            self.statuses.add(response.status_code)
            if response.status_code == 200:
                self.acknowledged.append(response.json()["access_token"])
                self._has_come.set()
            if self._are_over:
                return

    async def lost(self) -> set[str]:
        """Return the issued tokens that are refused now."""
        return {token for token in self.acknowledged if await self.site.read(token) != 200}


@dataclass(frozen=True, kw_only=True)
class Before:
    """Two tokens from before the fail-over, which the replica has received.

    Attributes:
        live: A live token.
        revoked: A revoked token.
    """

    live: str
    revoked: str

    async def read(self, site: Site) -> list[int]:
        """Present the live and the revoked token, and return the statuses."""
        return [await site.read(token) for token in (self.live, self.revoked)]


async def prepare(site: Site, master: RedisServer, replica: RedisServer, email: str = next(iter(CROWD))) -> Before:
    """Log in twice and out once, and wait until the replica has received it."""
    before = Before(live=await site.token(email), revoked=await site.token(email))
    assert await site.log_out(before.revoked) == 204
    settle(master, replica)
    return before


# Sentinel


@pytest.fixture
def watched(request: pytest.FixtureRequest) -> Iterator[SentinelServers]:
    """Run a master and its replica with one sentinel, or with the number that the test chooses."""
    sentinels: Literal[1, 3] = getattr(request, "param", 1)
    with skip_if_unavailable(), redis_sentinel("redis-7", sentinels=sentinels) as servers:
        yield servers


@pytest.fixture
async def watched_site(watched: SentinelServers) -> AsyncIterator[Site]:
    """Run the application with a client that finds the master through the sentinels."""
    connect = sentinel_master(watched.sentinels, watched.master_name, **patience())
    async with connect as client, serving(client, people=CROWD) as site:
        yield site


@pytest.mark.parametrize("watched", [1, 3], indirect=True)
async def test_a_master_dies(watched: SentinelServers, watched_site: Site, record_testsuite_property: Record) -> None:
    """When a master dies, logins answer 503 until its replica has taken over, and only earlier tokens may be lost."""
    before = await prepare(watched_site, watched.master, watched.replica)
    logins = Logins(site=watched_site)

    async with logins.going_on():
        await logins.more(MANY)
        await to_thread(watched.master.kill)
        await to_thread(watched.await_new_master)
        acknowledged = len(logins.acknowledged)
        await logins.more(SOME)

    lost = await logins.lost()
    record_testsuite_property("lost", f"{len(lost)} of {acknowledged}")
    assert logins.statuses == {200, 503}
    assert await before.read(watched_site) == [200, 401]
    assert lost <= set(logins.acknowledged[:acknowledged])


async def test_a_master_is_replaced_by_order(
    watched: SentinelServers, watched_site: Site, record_testsuite_property: Record
) -> None:
    """With `min-replicas-to-write`, a fail-over by order loses only earlier tokens, and restores no revoked tokens."""
    watched.master.ask("CONFIG", "SET", "min-replicas-to-write", "1")
    before = await prepare(watched_site, watched.master, watched.replica)
    logins = Logins(site=watched_site)

    async with logins.going_on():
        await logins.more(MANY)
        await to_thread(watched.fail_over)
        acknowledged = len(logins.acknowledged)
        during = await before.read(watched_site)
        await to_thread(demote, watched)
        await logins.more(SOME)

    lost = await logins.lost()
    record_testsuite_property("lost", f"{len(lost)} of {acknowledged}")
    assert logins.statuses <= {200, 503}
    assert during in ([503, 503], [503, 401], [200, 503], [200, 401])  # Either server may get either request.
    assert await before.read(watched_site) == [200, 401]
    assert lost <= set(logins.acknowledged[:acknowledged])


def demote(servers: SentinelServers) -> None:
    """Make the replaced master a replica now, which the sentinels would do ten seconds later."""
    servers.master.ask("REPLICAOF", HOST, str(servers.replica.port))
    servers.master.ask("CLIENT", "KILL", "TYPE", "normal")


# open connections to a former master


@dataclass(frozen=True, kw_only=True)
class Pair:
    """A master and its replica, and one application on each.

    Attributes:
        master: The master.
        replica: The replica.
        site: The application on the master.
        other: The application on the replica.
    """

    master: RedisServer
    replica: RedisServer
    site: Site
    other: Site


@pytest.fixture(params=["redis-6.2", "redis-7", "valkey"])
async def pair(request: pytest.FixtureRequest) -> AsyncIterator[Pair]:
    """Run a master, its replica, and an application on each."""
    program: Program = request.param
    with (
        skip_if_unavailable(),
        redis(program) as master,
        redis(program, "--replicaof", HOST, str(master.port)) as replica,
    ):
        async with (
            Redis.from_url(master.url(), **patience()) as client,
            Redis.from_url(replica.url(), **patience()) as other_client,
            serving(client, people=CROWD) as site,
            serving(other_client, people=CROWD) as other,
        ):
            yield Pair(master=master, replica=replica, site=site, other=other)


async def test_a_replica_lets_nobody_in(pair: Pair) -> None:
    """A replica answers 503 to every token and login, because it may not have received a revocation yet."""
    before = await prepare(pair.site, pair.master, pair.replica)

    answers = await before.read(pair.other)

    assert answers == [503, 503]
    assert (await pair.other.log_in(next(iter(CROWD)))).status_code == 503


async def test_a_former_master_lets_nobody_in(pair: Pair) -> None:
    """A client that is still connected to a former master gets 503 instead of an answer from outdated data."""
    before = await prepare(pair.site, pair.master, pair.replica)
    pair.replica.ask("REPLICAOF", "NO", "ONE")
    pair.master.ask("REPLICAOF", HOST, str(pair.replica.port))

    ended = await pair.other.log_out(before.live)
    answers = await before.read(pair.site)

    assert ended == 204
    assert answers == [503, 503]


async def test_a_master_whose_replica_has_left_it_lets_nobody_in(pair: Pair) -> None:
    """With `min-replicas-to-write`, a master that was replaced and does not know it answers 503 to every token."""
    before = await prepare(pair.site, pair.master, pair.replica)
    pair.master.ask("CONFIG", "SET", "min-replicas-to-write", "1")
    pair.replica.ask("REPLICAOF", "NO", "ONE")
    while pair.master.facts("INFO", "replication")["connected_slaves"] != "0":
        pass

    ended = await pair.other.log_out(before.live)
    answers = await before.read(pair.site)

    assert ended == 204
    assert answers == [503, 503]


# Cluster


@pytest.fixture
def cluster() -> Iterator[ClusterServers]:
    """Run a cluster in which each master keeps serving its slots when another master fails."""
    with skip_if_unavailable(), redis_cluster("redis-7", replicas=1) as servers:
        for node in servers.nodes:
            node.ask("CONFIG", "SET", "cluster-require-full-coverage", "no")
        yield servers


@pytest.fixture
def emails(cluster: ClusterServers) -> Mapping[int, str]:
    """Return the e-mail address of one user for each master, by the master's number."""
    return {_holder(cluster, user_id): email for email, user_id in CROWD.items()}


def _holder(cluster: ClusterServers, user_id: uuid.UUID) -> int:
    return cluster.holder_of(f"knox:{{{routing_tag(user_id)}}}:user:{user_id}")


@pytest.fixture
async def cluster_site(cluster: ClusterServers) -> AsyncIterator[Site]:
    """Run the application on the cluster."""
    async with RedisCluster.from_url(cluster.url(), **patience()) as client, serving(client, people=CROWD) as site:
        yield site


async def test_a_master_of_a_cluster_dies(
    cluster: ClusterServers, cluster_site: Site, emails: Mapping[int, str]
) -> None:
    """When a master of a cluster dies, only its users get 503, until its replica has taken over."""
    theirs, others = [
        await prepare(cluster_site, cluster.masters[number], cluster.replicas[number], emails[number])
        for number in (0, 1)
    ]

    cluster.masters[0].kill()
    reads = [await before.read(cluster_site) for before in (theirs, others)]
    logins = [(await cluster_site.log_in(emails[number])).status_code for number in (0, 1)]
    await to_thread(cluster.await_new_master, 0)

    assert (reads, logins) == ([[503, 503], [200, 401]], [503, 200])
    assert await theirs.read(cluster_site) == [200, 401]
    assert await cluster_site.log_out_all(await cluster_site.token(emails[0])) == 204
    assert await theirs.read(cluster_site) == [401, 401]
