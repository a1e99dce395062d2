"""Races between several processes: each caller has its own connection, and all callers start at the same moment."""

import asyncio
import multiprocessing
from collections.abc import Awaitable, Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import AsyncExitStack
from dataclasses import dataclass
from multiprocessing.synchronize import Barrier
from typing import Any

from tests.backends import App, Backend
from tests.delays import lengthen_delays

PROCESSES = 2
PATIENCE = 180.0  # the seconds that all callers together may need to be ready


@dataclass(frozen=True, kw_only=True)
class Caller:
    """One caller of a race.

    Attributes:
        number: The caller's number among the callers of all processes, counted from 0.
        app: What the caller's request uses: a session and a store.
        shared: What the test passes to all callers.
        ready: A function that waits until all callers of all processes are ready. A caller awaits it just before the
            act that races.
    """

    number: int
    app: App
    shared: Any
    ready: Callable[[], Awaitable[None]]


Call = Callable[[Caller], Awaitable[Any]]

_barrier: Barrier


class Race:
    """Two processes that wait to run callers."""

    def __init__(self) -> None:
        context = multiprocessing.get_context("forkserver")
        context.set_forkserver_preload(["tests.test_races"])  # Both processes would otherwise import all of it.
        self._pool = ProcessPoolExecutor(PROCESSES, context, _join, (context.Barrier(PROCESSES),))

    async def __call__(self, backend: Backend, call: Call, shared: Any, *, callers: int) -> Sequence[Any]:
        """Run the callers at once, spread over the processes, and return their results in the order of their numbers.

        Args:
            backend: The backend; every process connects to it by itself.
            call: What each caller does: a function of a module, because the other processes import it by its name.
            shared: What every caller gets. It must be picklable, and so must the callers' results.
            callers: The number of callers, a multiple of the number of processes.
        """
        shares = [range(process, callers, PROCESSES) for process in range(PROCESSES)]
        # No process takes both shares: each waits at the barrier until the other process has taken the second share.
        running = [self._pool.submit(_run, backend, call, shared, numbers) for numbers in shares]
        finished = await asyncio.gather(*map(asyncio.wrap_future, running))
        outcomes = dict(pair for share in finished for pair in share)
        return [outcomes[number] for number in range(callers)]

    def close(self) -> None:
        """Stop the processes."""
        self._pool.shutdown()


def _join(barrier: Barrier) -> None:
    global _barrier  # noqa: PLW0603 (a barrier can be passed to a pool's process only when the process starts)
    _barrier = barrier
    lengthen_delays()


def _run(backend: Backend, call: Call, shared: Any, numbers: Sequence[int]) -> list[tuple[int, Any]]:
    outcomes = asyncio.run(_call_all(backend, call, shared, numbers, _barrier))
    return list(zip(numbers, outcomes, strict=True))


async def _call_all(
    backend: Backend, call: Call, shared: Any, numbers: Sequence[int], barrier: Barrier
) -> Sequence[Any]:
    turnstile = asyncio.Barrier(len(numbers))

    async def ready() -> None:
        if await turnstile.wait() == 0:
            await asyncio.to_thread(barrier.wait, PATIENCE)
        await turnstile.wait()

    async with AsyncExitStack() as stack:
        open_app = await stack.enter_async_context(backend.serving())
        apps = [await stack.enter_async_context(open_app()) for _ in numbers]
        callers = [
            Caller(number=number, app=app, shared=shared, ready=ready)
            for number, app in zip(numbers, apps, strict=True)
        ]
        return await asyncio.gather(*(_outcome(call(caller)) for caller in callers))


async def _outcome(calling: Awaitable[Any]) -> Any:
    """Return the result of a call, or the name of its error, because not every error can be pickled."""
    try:
        return await calling
    except Exception as error:  # noqa: BLE001 (the test checks it)
        return type(error).__name__
