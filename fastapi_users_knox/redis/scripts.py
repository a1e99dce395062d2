"""The Lua scripts, and the function that runs them on the application's client."""

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib.resources import files
from typing import Any, cast

from redis.asyncio import Redis, RedisCluster
from redis.commands.core import AsyncScript
from redis.exceptions import NoScriptError, RedisClusterException, RedisError

from fastapi_users_knox.errors import StoreUnavailable

__all__ = ["Client", "call", "raising_unavailable", "run"]

Client = Redis | RedisCluster

_directory = files(__package__)
_SHARED = {name: (_directory / f"{name}.lua").read_bytes() for name in ("fields", "records", "catalogue", "removing")}
_SCRIPTS = {
    # redis-py's own class. Each is created once, because it hashes the text. A call passes the client that runs it.
    name: AsyncScript(
        cast("Redis", None), b"".join(map(_SHARED.__getitem__, shared)) + (_directory / f"{name}.lua").read_bytes()
    )
    for shared, names in (
        (("fields",), ("get",)),  # It runs at every request, so it contains only what it needs.
        (("fields", "records", "catalogue"), ("renew", "rotate")),
        (("fields", "records", "catalogue", "removing"), ("add", "confirm", "list", "purge", "remove", "remove_all")),
    )
    for name in names
}


async def run(client: Client, script: str, keys: Sequence[str], **arguments: object) -> Any:  # noqa: ANN401 (a script's result)
    """Run a script in one round trip. If the server does not know the script yet, redis-py loads it first.

    Args:
        client: The application's client.
        script: The name of the script's file.
        keys: The script's keys, all in one slot.
        arguments: The arguments that the script's header lists. Those that are `None` are omitted.

    Raises:
        StoreUnavailable: Redis cannot be reached, or refuses the script.
    """
    passed = {name: value for name, value in arguments.items() if value is not None}
    return await call(client, script, keys, json.dumps(passed))


async def call(client: Client, script: str, keys: Sequence[str], argument: str) -> Any:  # noqa: ANN401 (as above)
    """Run a script as `run` does, with one argument that is not converted to JSON."""
    # The keys are passed as bytes, so that they equal the keys built by the scripts, whatever the client's encoding.
    encoded, loading = [key.encode() for key in keys], _SCRIPTS[script]
    with raising_unavailable():
        try:
            return await client.evalsha(loading.sha, len(encoded), *encoded, argument)
        except NoScriptError:
            return await loading(encoded, [argument], client)


@contextmanager
def raising_unavailable() -> Iterator[None]:
    """Raise `StoreUnavailable` instead of the errors of redis-py and of the network."""
    try:
        yield
    except (RedisError, RedisClusterException, OSError) as error:
        raise StoreUnavailable.because(error) from None
