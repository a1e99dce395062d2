"""Work that must not be interrupted by a cancellation."""

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

__all__ = ["run_to_the_end"]

T = TypeVar("T")


async def run_to_the_end(work: Coroutine[Any, Any, T]) -> T:
    """Run work in a task of its own, and return its result. A cancellation is raised only after the work is done.

    With `asyncio.shield` the caller would continue, and close its session, while the work still uses it.
    """
    task, cancelled = asyncio.create_task(work), None
    while not task.done():
        try:
            await asyncio.wait([task])
        except asyncio.CancelledError as error:  # It may come more than once, as it does with anyio.
            cancelled = error
    if cancelled is not None:
        raise cancelled from task.exception()
    return task.result()
