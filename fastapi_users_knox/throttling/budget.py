"""The time for which a storage may delay a login."""

import asyncio
from collections.abc import Coroutine
from errno import EMFILE, ENFILE
from typing import Any, TypeVar

__all__ = ["Budget", "is_local"]

MAX_DELAY = 0.5  # The seconds for which the storage may delay a login, once before the hash and once after it.
_TURN = 0.02  # seconds

T = TypeVar("T")


class Budget:
    """The time for which the storage may delay a login, in one or several parts.

    It is counted in short turns. A turn in which other work blocks the event loop, such as the hash of another login's
    password, counts as a short one too. Otherwise a burst of logins would look like an outage of the storage, and would
    be admitted.
    """

    def __init__(self) -> None:
        """Start with the whole time."""
        self._turns = round(MAX_DELAY / _TURN)

    async def spend(self, work: Coroutine[Any, Any, T]) -> T:
        """Return the result of work, or raise `TimeoutError` when the time is used up."""
        task = asyncio.create_task(work)
        try:
            while not task.done() and self._turns > 0:
                done, _ = await asyncio.wait([task], timeout=_TURN)
                self._turns -= not done
        finally:
            if not task.done():
                task.cancel()
                task.add_done_callback(_ignore)
        if not task.done():
            raise TimeoutError
        return task.result()


def is_local(error: BaseException | None) -> bool:
    """Return whether an error says only that this process has no connection or file left."""
    while error is not None:
        if type(error).__name__ == "MaxConnectionsError" or getattr(error, "errno", None) in {EMFILE, ENFILE}:
            return True
        error = error.__cause__ or error.__context__
    return False


def _ignore(task: asyncio.Task[Any]) -> None:
    """Retrieve the error of a task that was given up, because asyncio would log it otherwise."""
    if not task.cancelled():
        task.exception()
