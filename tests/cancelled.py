"""Work that is cancelled wherever it waits."""

from collections.abc import Awaitable, Callable, Coroutine, Generator
from typing import Any


class CancelledAt(Awaitable[object]):
    """An awaitable that calls `cancel` when its work waits for the n-th time."""

    def __init__(self, work: Coroutine[Any, Any, object], number: int, cancel: Callable[[], object]) -> None:
        self._work = work
        self._number = number
        self._cancel = cancel

    def __await__(self) -> Generator[Any, Any, object]:
        """Run the work step by step, and cancel it at the chosen step."""
        thrown: BaseException | None = None
        while True:
            try:
                waiting_for = self._work.send(None) if thrown is None else self._work.throw(thrown)
            except StopIteration as stop:
                return stop.value
            self._number -= 1
            if self._number == 0:
                self._cancel()
            thrown = None
            try:
                yield waiting_for
            except BaseException as error:  # noqa: BLE001 (it is the work's)
                thrown = error
