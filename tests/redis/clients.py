"""The kinds of Redis clients that an application may use."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import pytest
from redis._parsers import _AsyncRESP2Parser, _AsyncRESP3Parser
from redis.asyncio import Connection
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.cluster import LoadBalancingStrategy

from tests.backends import REDIS, Connect

# Unless a parser is named, redis-py uses the parser of hiredis, which is installed.
CLIENTS: Mapping[str, tuple[str, Mapping[str, Any]]] = {
    "decoding": ("redis-7", {"decode_responses": True}),
    "resp2": ("redis-7", {"protocol": 2}),
    "resp3": ("redis-7", {"protocol": 3}),
    "resp2-without-hiredis": ("redis-6.2", {"protocol": 2, "parser_class": _AsyncRESP2Parser}),
    "resp3-without-hiredis": ("redis-7", {"protocol": 3, "parser_class": _AsyncRESP3Parser, "decode_responses": True}),
    "cluster-decoding": ("redis-cluster", {"decode_responses": True}),
}
TO_REPLICAS: Mapping[str, tuple[str, Mapping[str, Any]]] = {
    "cluster-reading-from-replicas": ("redis-cluster", {"read_from_replicas": True}),
    "cluster-balancing-over-replicas": (
        "redis-cluster",
        {"load_balancing_strategy": LoadBalancingStrategy.ROUND_ROBIN_REPLICAS},
    ),
}


def connect_by(name: str, request: pytest.FixtureRequest) -> Connect:
    """Return a function that creates this kind of client, or the usual client of this kind of Redis."""
    redis, options = {**CLIENTS, **TO_REPLICAS}.get(name, (name, {}))
    fixture, connect = REDIS[redis]
    return connect(request.getfixturevalue(fixture), **options)


@dataclass(kw_only=True)
class Patience:
    """How long a client waits for replies: unlike redis-py's option, a test can change it while connections are open.

    Attributes:
        seconds: The time, of which a test that gets its replies needs only as much as the machine takes.
    """

    seconds: float = 60.0

    def options(self) -> dict[str, Any]:
        """Return the options of a client that waits this long, and that retries a call once."""
        patience = self

        class PatientConnection(Connection):
            """A connection whose timeout is read anew for each reply."""

            async def read_response(self, *arguments: Any, **options: Any) -> Any:
                """Wait for a reply."""
                self.socket_timeout = patience.seconds
                return await super().read_response(*arguments, **options)

        return {"connection_class": PatientConnection, "retry": Retry(NoBackoff(), 1)}

    @contextmanager
    def lost(self) -> Iterator[None]:
        """Do not wait long during the block, in which nothing is answered."""
        usual, self.seconds = self.seconds, 0.05
        try:
            yield
        finally:
            self.seconds = usual
