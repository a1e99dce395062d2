"""The writes that a read causes. They must neither fail the request nor delay it for long."""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from datetime import datetime
from typing import TypeVar
from uuid import UUID
from weakref import WeakKeyDictionary

from fastapi_users_knox.errors import describe
from fastapi_users_knox.redis.scripts import Client
from fastapi_users_knox.store import Attempts

__all__ = ["MAX_DELAY", "write_after_read"]

_logger = logging.getLogger("fastapi_users_knox")

T = TypeVar("T")

MAX_DELAY = 0.5  # seconds that such a write may delay a request; the contract of `TokenStore` allows one
_attempts: WeakKeyDictionary[Client, Attempts] = WeakKeyDictionary()


async def write_after_read(
    write: Callable[[], Awaitable[T]], *, client: Client, what: tuple[str, UUID], now: datetime, tried_since: datetime
) -> T | None:
    """Write within `MAX_DELAY`, or skip the write and log why.

    Returns `None` if the write was skipped, or if this process has attempted the same write since `tried_since`.
    """
    if not _attempts.setdefault(client, Attempts()).claim(what, now, tried_since=tried_since):
        return None
    try:
        async with asyncio.timeout(MAX_DELAY):
            return await write()
    except Exception as error:  # noqa: BLE001 (no error of the write may fail the request)
        _logger.warning("Skipped updating last_used_at and expires_at: %s", describe(error))
        return None
