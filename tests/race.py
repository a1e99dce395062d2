"""Races from several processes: every caller on a connection of its own, all let go at the same moment."""

import asyncio
import multiprocessing
from collections.abc import Awaitable, Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import AsyncExitStack
from dataclasses import dataclass
from multiprocessing.synchronize import Barrier
from typing import Any

from tests.backends import App, Backend

PROCESSES = 2
PATIENCE = 60.0  # seconds for all callers to be ready


@dataclass(frozen=True, kw_only=True)
class Caller:
    """One of the callers: what a request has, a number among all, and what all are told.

    Attributes:
        number: From 0, each in one process only.
        app: Its own.
        told: What the test says to all callers.
        ready: Awaited before what races: it returns when all callers of all processes are there.
    """

    number: int
    app: App
    told: Any
    ready: Callable[[], Awaitable[None]]


Call = Callable[[Caller], Awaitable[Any]]

_barrier: Barrier


class Race:
    """Two processes that stand ready to run callers."""

    def __init__(self) -> None:
        context = multiprocessing.get_context("spawn")
        self._pool = ProcessPoolExecutor(PROCESSES, context, _join, (context.Barrier(PROCESSES),))

    async def __call__(self, backend: Backend, call: Call, told: Any, *, callers: int) -> Sequence[Any]:
        """Run so many callers at once, spread over the processes, and return what each returned, in their order.

        Args:
            backend: To which every process connects by itself.
            call: A function of a module, as its name goes to the other processes.
            told: To every caller; it can be pickled, as what the callers return.
            callers: How many; a multiple of the number of processes.
        """
        shares = [range(process, callers, PROCESSES) for process in range(PROCESSES)]
        # A process takes one share only: it waits at the barrier until another has taken the other.
        running = [self._pool.submit(_run, backend, call, told, numbers) for numbers in shares]
        finished = await asyncio.gather(*map(asyncio.wrap_future, running))
        outcomes = dict(pair for share in finished for pair in share)
        return [outcomes[number] for number in range(callers)]

    def close(self) -> None:
        """End the processes."""
        self._pool.shutdown()


def _join(barrier: Barrier) -> None:
    global _barrier  # noqa: PLW0603 (the one way in which a barrier reaches a pool's process)
    _barrier = barrier


def _run(backend: Backend, call: Call, told: Any, numbers: Sequence[int]) -> list[tuple[int, Any]]:
    outcomes = asyncio.run(_call_all(backend, call, told, numbers, _barrier))
    return list(zip(numbers, outcomes, strict=True))


async def _call_all(backend: Backend, call: Call, told: Any, numbers: Sequence[int], barrier: Barrier) -> Sequence[Any]:
    turnstile = asyncio.Barrier(len(numbers))

    async def ready() -> None:
        if await turnstile.wait() == 0:
            await asyncio.to_thread(barrier.wait, PATIENCE)
        await turnstile.wait()

    async with AsyncExitStack() as stack:
        open_app = await stack.enter_async_context(backend.serving())
        apps = [await stack.enter_async_context(open_app()) for _ in numbers]
        callers = [
            Caller(number=number, app=app, told=told, ready=ready) for number, app in zip(numbers, apps, strict=True)
        ]
        return await asyncio.gather(*(_outcome(call(caller)) for caller in callers))


async def _outcome(calling: Awaitable[Any]) -> Any:
    """Await a call; an error is an outcome too, told by its name, as not every error can be pickled."""
    try:
        return await calling
    except Exception as error:  # noqa: BLE001 (the test judges it)
        return type(error).__name__
