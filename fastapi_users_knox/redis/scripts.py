"""The scripts, and how they are run: by the client's own means, with its errors told as ours."""

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib.resources import files
from typing import Any, cast

from redis.asyncio import Redis, RedisCluster
from redis.commands.core import AsyncScript
from redis.exceptions import RedisClusterException, RedisError

from fastapi_users_knox.errors import StoreUnavailable

__all__ = ["Client", "reaching", "run"]

Client = Redis | RedisCluster

_directory = files(__package__)
_FIELDS, _RECORDS = ((_directory / name).read_bytes() for name in ("fields.lua", "records.lua"))
_SCRIPTS = {
    # The client library's own, but made once, as it hashes the text; which client is to run it, each call says.
    name: AsyncScript(cast("Redis", None), _FIELDS + shared + (_directory / f"{name}.lua").read_bytes())
    for shared, names in (
        (b"", ("get",)),  # Read at every request, so it brings only what it needs.
        (_RECORDS, ("add", "confirm", "list", "purge", "remove", "renew", "rotate")),
    )
    for name in names
}


async def run(client: Client, script: str, keys: Sequence[str], **told: object) -> Any:  # noqa: ANN401 (a script's own)
    """Run a script, in one round trip where the server knows it; the client library loads it where it does not.

    Args:
        client: The application's.
        script: The name of its file.
        keys: All in one slot.
        told: What the script's header says; `None` is left out.

    Raises:
        StoreUnavailable: Redis cannot be reached, or refuses.
    """
    known = {name: value for name, value in told.items() if value is not None}
    with reaching():
        # In bytes, as the scripts make keys of their own, whatever the client's encoding is.
        return await _SCRIPTS[script]([key.encode() for key in keys], [json.dumps(known)], client)


@contextmanager
def reaching() -> Iterator[None]:
    """Turn what Redis in trouble raises into `StoreUnavailable`."""
    try:
        yield
    except (RedisError, RedisClusterException, OSError) as error:
        raise StoreUnavailable.because(error) from None
