"""Work that must not be interrupted by a cancellation."""

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

from anyio import CancelScope
from anyio.lowlevel import checkpoint_if_cancelled

__all__ = ["run_to_the_end"]

T = TypeVar("T")


async def run_to_the_end(work: Coroutine[Any, Any, T]) -> T:
    """Run work in a separate task, and return its result. A cancellation is raised only after the work is done.

    With `asyncio.shield`, a cancelled caller would continue, and close its session while the work still uses the
    session. AnyIO repeats a cancellation in each turn of the event loop, which would keep the loop busy. So the wait is
    shielded from AnyIO's cancellation.
    """
    task, cancelled = asyncio.create_task(work), None
    while not task.done():
        try:
            with CancelScope(shield=True):
                await asyncio.wait([task])
        except asyncio.CancelledError as error:  # `Task.cancel` raises it, and may be called more than once.
            cancelled = error
    if cancelled is not None:
        raise cancelled from task.exception()
    try:
        await checkpoint_if_cancelled()
    except asyncio.CancelledError as error:
        raise error from task.exception()
    return task.result()
