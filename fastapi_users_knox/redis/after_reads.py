"""The writes that a read causes. They must neither fail the request nor delay it for long."""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from datetime import datetime
from typing import TypeVar
from uuid import UUID
from weakref import WeakKeyDictionary

from fastapi_users_knox.attempts import Attempts
from fastapi_users_knox.errors import describe
from fastapi_users_knox.redis.scripts import Client

__all__ = ["MAX_DELAY", "bounded", "write_after_read"]

_logger = logging.getLogger("fastapi_users_knox")

T = TypeVar("T")

# Seconds that such a write may delay a request; the contract of `TokenStore` allows one second. With less time, writes
# are skipped more often while Redis is slow. With more time, requests wait longer while Redis does not answer.
MAX_DELAY = 0.5
_attempts: WeakKeyDictionary[Client, Attempts] = WeakKeyDictionary()


def bounded() -> asyncio.Timeout:
    """Return a context manager that raises `TimeoutError` if its block takes longer than `MAX_DELAY`."""
    return asyncio.timeout(MAX_DELAY)


async def write_after_read(
    write: Callable[[], Awaitable[T]], *, client: Client, what: tuple[str, UUID], now: datetime, tried_since: datetime
) -> T | None:
    """Write within `MAX_DELAY`, or skip the write and log why.

    Args:
        write: The write.
        client: The application's client.
        what: What the write does, for the log, such as "deleting an expired token", and the id of the record.
        now: The current time.
        tried_since: The write is skipped if this process has attempted it since then.

    Returns `None` if the write was skipped, or if this process has attempted the same write since `tried_since`.
    """
    if not _attempts.setdefault(client, Attempts()).claim(what, now, tried_since=tried_since):
        return None
    try:
        async with bounded():
            return await write()
    except Exception as error:  # noqa: BLE001 (no error of the write may fail the request)
        _logger.warning("Skipped %s: %s", what[0], describe(error))
        return None
