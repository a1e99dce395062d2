"""Checks of Redis servers: persistence, eviction, replicas and clocks."""

from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from redis.asyncio import RedisCluster
from redis.exceptions import NoPermissionError

from fastapi_users_knox.records.finding import Finding, clock_finding
from fastapi_users_knox.redis.scripts import Client, raising_unavailable

__all__ = ["check_servers", "judge"]

_MIN_VERSION = (6, 2)
_CURES = {  # for each check: what is found if all is well, and the cure of a problem
    "version": ("the version is supported", "use Redis 6.2 or later, or Valkey"),
    "role": ("the server is a master", "use the URL of the master; behind Sentinel, use --app with master_for"),
    "persistence": (
        "the append-only file is on",
        "set appendonly yes, and appendfsync always or everysec: otherwise a crash can undo logouts",
    ),
    "eviction": ("maxmemory-policy is noeviction", "set maxmemory-policy noeviction"),
    "replicas": (
        "writes wait for a replica, or there is none",
        "set min-replicas-to-write 1 and min-replicas-max-lag 10: otherwise a fail-over can undo logouts",
    ),
}


async def check_servers(client: Client, clock: Callable[[], datetime]) -> Sequence[Finding]:
    """Check the server, or all masters of a cluster."""
    findings: list[Finding] = []
    with raising_unavailable():
        try:
            async for name, facts, ahead in _facts(client, clock):
                findings += [*judge(name, facts), clock_finding(f"{name}: clock", ahead)]
        except NoPermissionError:
            findings.append(
                Finding(
                    check="Redis",
                    status="unknown",
                    detail="this Redis user may not ask: check as a user with +info +time",
                )
            )
    return findings


async def _facts(client: Client, clock: Callable[[], datetime]) -> AsyncIterator[tuple[str, Mapping[str, Any], float]]:
    """Yield for each server its name, what INFO says, and the seconds by which its clock is ahead."""
    nodes: Mapping[str, Mapping[str, Any]] = {"Redis": {}}
    if isinstance(client, RedisCluster):
        await client.initialize()
        nodes = {node.name: {"target_nodes": node} for node in client.get_primaries()}
    for name, target in nodes.items():
        facts: Mapping[str, Any] = await client.execute_command("INFO", **target)
        before = clock()
        seconds, microseconds = await client.execute_command("TIME", **target)
        between = before + (clock() - before) / 2
        server = datetime.fromtimestamp(seconds + microseconds / 1e6, UTC)
        yield name, facts, (server - between).total_seconds()


def judge(name: str, facts: Mapping[str, Any]) -> Iterator[Finding]:
    """Check what INFO says about a server."""
    version, policy, replicas = str(facts["redis_version"]), facts["maxmemory_policy"], facts["connected_slaves"]
    is_old = tuple(map(int, version.split(".")[:2])) < _MIN_VERSION
    lacks_replicas = replicas and "min_slaves_good_slaves" not in facts
    problems = {
        "version": f"the version is {version}" if is_old else None,
        "role": None if facts["role"] == "master" else "the server is a replica, which refuses to read tokens",
        "persistence": None if facts["aof_enabled"] else "the append-only file is off",
        "eviction": None if policy == "noeviction" else f"maxmemory-policy is {policy}, so full memory logs users out",
        "replicas": "there are replicas, but min-replicas-to-write is 0" if lacks_replicas else None,
    }
    for check, problem in problems.items():
        otherwise, cure = _CURES[check]
        yield Finding.of(f"{name}: {check}", problem, cure=cure, otherwise=otherwise)
