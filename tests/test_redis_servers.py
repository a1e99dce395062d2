"""The private Redis servers of the tests can be used, killed, paused and started again, and leave nothing behind."""

import asyncio
import re
import socket
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager

import pytest
from redis.asyncio import Redis, RedisCluster
from redis.asyncio.sentinel import Sentinel
from redis.exceptions import OutOfMemoryError

from tests.redis_servers import (
    ORDER,
    ClusterServers,
    Program,
    RedisServer,
    SentinelServers,
    redis,
    redis_cluster,
    redis_sentinel,
)
from tests.servers import HOST, PortTaken, ServerUnavailable, free_ports, skip_if_unavailable

pytestmark = [pytest.mark.server, pytest.mark.unmeasured]

VERSIONS: dict[Program, str] = {
    "redis-6.2": r"redis_version:6\.2\.",
    "redis-7": r"redis_version:([7-9]|\d\d)\.",
    "valkey": "server_name:valkey",
}
# Clusters and sentinels take seconds to start, so they run with one program only, as in all other tests. What they do
# when a master is killed is seen in `tests/redis/test_failover.py`.
GROUPS = pytest.mark.parametrize("program", ["any"], indirect=True)
TYPED_SENTINEL: Callable[[list[tuple[str, int]]], Sentinel] = Sentinel  # The arguments of `Sentinel` have no types.


@pytest.fixture(scope="module", params=ORDER)
def program(request: pytest.FixtureRequest) -> Program:
    """Return the name of each program."""
    name: Program = request.param
    return name


@pytest.fixture(scope="module")
def server(program: Program) -> Iterator[RedisServer]:
    """Run a server of each program."""
    with skip_if_unavailable(), redis(program) as server:
        yield server


async def put(server: RedisServer, value: str) -> None:
    """Write the value of the tests' key."""
    async with Redis.from_url(server.url()) as client:
        await client.set("key", value)


async def get(server: RedisServer) -> object:
    """Read the value of the tests' key."""
    async with Redis.from_url(server.url(), decode_responses=True) as client:
        return await client.get("key")


def is_closed(port: int) -> bool:
    """Return whether nothing listens on a port."""
    with socket.socket() as probe:
        return probe.connect_ex((HOST, port)) != 0


async def test_a_server_serves(server: RedisServer) -> None:
    """A client can read from a server what it has written."""
    await put(server, "kept")

    assert await get(server) == "kept"


def test_each_program_is_what_its_name_says(server: RedisServer, program: Program) -> None:
    """Each name starts the program that it stands for."""
    assert re.search(VERSIONS[program], str(server.ask("INFO", "server")))


async def test_a_killed_server_keeps_its_port_and_forgets(server: RedisServer) -> None:
    """A server that was killed and started again has the same URL and no data."""
    await put(server, "lost")

    server.kill()
    assert is_closed(server.port)
    server.start()

    assert await get(server) is None


async def test_a_killed_server_keeps_its_data_with_an_append_only_file(program: Program) -> None:
    """A server with an append-only file has all data when it was killed and started again."""
    with skip_if_unavailable(), redis(program, "--appendonly", "yes", "--appendfsync", "always") as server:
        await put(server, "kept")

        server.kill()
        server.start()

        assert await get(server) == "kept"


async def test_a_paused_server_answers_later(server: RedisServer) -> None:
    """A command that is sent to a paused server is answered after the pause."""
    async with Redis.from_url(server.url()) as client:
        await client.ping()

        with server.paused():
            question = asyncio.ensure_future(client.echo("late"))
            answered, _ = await asyncio.wait({question}, timeout=0.2)

        assert (bool(answered), await question) == (False, b"late")


async def test_a_server_may_want_a_password(program: Program) -> None:
    """A server that requires a password can be started and used."""
    with skip_if_unavailable(), redis(program, "--requirepass", "secret") as server:
        async with Redis.from_url(server.url(), password="secret") as client:
            assert await client.ping()


async def test_a_server_may_be_full(program: Program) -> None:
    """A server with a memory limit refuses writes beyond the limit."""
    with skip_if_unavailable(), redis(program, "--maxmemory", "3mb", "--maxmemory-policy", "noeviction") as server:
        async with Redis.from_url(server.url()) as client:
            with pytest.raises(OutOfMemoryError):
                await client.mset({f"key:{number}": "x" * 1000 for number in range(10_000)})


async def test_a_server_may_be_a_replica(server: RedisServer, program: Program) -> None:
    """A server that is started as a replica gets the data that is written to its master."""
    with skip_if_unavailable(), redis(program, "--replicaof", HOST, str(server.port)) as replica:
        async with Redis.from_url(server.url()) as client:
            await client.set("key", "copied")
            assert await client.wait(1, 60_000) == 1

        assert await get(replica) == "copied"


async def test_a_taken_port_is_reported_and_passed_over(program: Program) -> None:
    """A server whose port is taken raises `PortTaken`, and `start_on_one_of` tries the next port."""
    with skip_if_unavailable(), redis(program) as first, redis(program) as second:
        second.kill()
        second.port = first.port

        with pytest.raises(PortTaken, match="Address already in use"):
            second.start()
        second.start_on_one_of([first.port, *free_ports()])

        assert await get(second) is None


def test_a_missing_program_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """If the machine does not have a program, the error names it."""
    monkeypatch.setattr("tests.redis_servers.SEARCH_PATH", "/nowhere")

    with pytest.raises(ServerUnavailable, match="no redis-server on the PATH"), redis("redis-7"):
        pass


@GROUPS
async def test_a_cluster_serves(program: Program) -> None:
    """A client can read from a cluster what it has written, on all of its nodes."""
    with skip_if_unavailable(), redis_cluster(program) as servers:
        async with RedisCluster(host=servers.host, port=servers.port, decode_responses=True) as client:
            for number in range(30):
                await client.set(f"key:{number}", number)
            values = [await client.get(f"key:{number}") for number in range(30)]

        assert values == [str(number) for number in range(30)]
        assert all(master.ask("DBSIZE") != "0" for master in servers.masters)


async def read_by_sentinel(servers: SentinelServers) -> tuple[object, int]:
    """Return the value of the tests' key, and the port of the server that it was read from."""
    async with (
        TYPED_SENTINEL(servers.sentinels) as sentinel,
        sentinel.master_for(servers.master_name, decode_responses=True) as client,
    ):
        return await client.get("key"), (await client.info("server"))["tcp_port"]


async def put_in_both(servers: SentinelServers) -> None:
    """Write the tests' key, and return when the replica has it."""
    async with Redis.from_url(servers.master.url()) as client:
        await client.set("key", "kept")
        assert await client.wait(1, 60_000) == 1


@GROUPS
async def test_a_sentinel_knows_the_master(program: Program) -> None:
    """A client finds the master through a sentinel, and the new master after a fail-over, both with the data."""
    with skip_if_unavailable(), redis_sentinel(program) as servers:
        await put_in_both(servers)
        assert await read_by_sentinel(servers) == ("kept", servers.master.port)

        servers.fail_over()

        assert await read_by_sentinel(servers) == ("kept", servers.replica.port)


def members(servers: RedisServer | ClusterServers | SentinelServers) -> list[RedisServer]:
    """Return the single servers of a group."""
    if isinstance(servers, SentinelServers):
        return [servers.master, servers.replica, *servers.watchers]
    return servers.nodes if isinstance(servers, ClusterServers) else [servers]


@GROUPS
@pytest.mark.parametrize("run", [redis, redis_cluster, redis_sentinel])
def test_nothing_stays_behind(
    run: Callable[[Program], AbstractContextManager[RedisServer | ClusterServers | SentinelServers]], program: Program
) -> None:
    """After the block, the servers' directories are removed and nothing listens on their ports."""
    with skip_if_unavailable(), run(program) as servers:
        all_there = all(server.home.path.exists() and not is_closed(server.port) for server in members(servers))

    assert all_there
    assert all(is_closed(server.port) and not server.home.path.exists() for server in members(servers))
