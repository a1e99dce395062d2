"""Work that must not stop half-way."""

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

__all__ = ["run_to_the_end"]

T = TypeVar("T")


async def run_to_the_end(work: Coroutine[Any, Any, T]) -> T:
    """Run work in a task of its own, and return its outcome; a cancellation goes on once the work is done.

    `asyncio.shield` would let the caller go on, and close its session, while the work still uses it.
    """
    task, cancelled = asyncio.create_task(work), None
    while not task.done():
        try:
            await asyncio.wait([task])
        except asyncio.CancelledError as error:  # It may come more than once, as anyio's does.
            cancelled = error
    if cancelled is not None:
        raise cancelled from task.exception()
    return task.result()
