"""Stores whose scripts read few records at a time, and clients that let something happen before a script."""

from collections.abc import Awaitable, Callable
from typing import Any

from redis.asyncio import Redis

from fastapi_users_knox.redis import RedisTokenStore

Store = RedisTokenStore[Any, Any]
WALKING = 10_000  # a number that no user of the tests exceeds, so that no user has a catalogue


def stepping(step: int) -> type[Store]:
    """Return the class of stores whose scripts read at most this number of records."""

    class Stepping(RedisTokenStore[Any, Any]):
        _step = step

    return Stepping


class Interrupted(Redis):
    """A client that calls a function before each script, with the number of scripts that it has run already."""

    def __init__(self, *args: Any, before: Callable[[int], Awaitable[object]], **options: Any) -> None:
        super().__init__(*args, **options)
        self.scripts = 0
        self._before = before

    async def execute_command(self, *args: Any, **options: Any) -> Any:
        """Send a command."""
        if args[0] == "EVALSHA":
            await self._before(self.scripts)
            self.scripts += 1
        send: Any = super().execute_command
        return await send(*args, **options)
