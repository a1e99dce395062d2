"""Work that must not be interrupted by a cancellation."""

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

from anyio import CancelScope
from anyio.lowlevel import checkpoint_if_cancelled

__all__ = ["run_to_the_end"]

T = TypeVar("T")


async def run_to_the_end(work: Coroutine[Any, Any, T]) -> T:
    """Run work in a separate task, and return its result; a cancellation is raised only after the work is done.

    With `asyncio.shield` the caller would continue, and close its session while the work still uses it. AnyIO repeats a
    cancellation in each turn of the event loop. This would keep the loop busy, so AnyIO's cancellation is shielded.
    """
    task, cancelled = asyncio.create_task(work), None
    while not task.done():
        try:
            with CancelScope(shield=True):
                await asyncio.wait([task])
        except asyncio.CancelledError as error:  # From asyncio's own `Task.cancel`, which may be called more than once.
            cancelled = error
    if cancelled is not None:
        raise cancelled from task.exception()
    try:
        await checkpoint_if_cancelled()
    except asyncio.CancelledError as error:
        raise error from task.exception()
    return task.result()
