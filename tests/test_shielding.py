"""Work that runs to its end although the request that waits for it is cancelled."""

import asyncio

import anyio
import pytest

from fastapi_users_knox.shielding import run_to_the_end

TURNS = 100

pytestmark = pytest.mark.anyio


async def work(done: list[str], *, error: Exception | None = None) -> str:
    """Work for many turns of the event loop."""
    for _ in range(TURNS):
        await asyncio.sleep(0)
    done.append("all of it")
    if error is not None:
        raise error
    return "result"


async def test_the_result_is_returned() -> None:
    """Without a cancellation the caller gets the result of the work, or its error."""
    assert await run_to_the_end(work([])) == "result"
    with pytest.raises(LookupError):
        await run_to_the_end(work([], error=LookupError()))


@pytest.mark.parametrize("error", [None, LookupError()])
async def test_a_cancelled_scope_waits(error: Exception | None) -> None:
    """The cancellation of an AnyIO scope is raised once the work is done, with the error of the work as its cause."""
    done: list[str] = []
    with anyio.CancelScope() as scope:
        scope.cancel()
        with pytest.raises(asyncio.CancelledError) as raised:
            await run_to_the_end(work(done, error=error))
        raise raised.value

    assert done == ["all of it"]
    assert raised.value.__cause__ is error


async def test_a_cancelled_scope_leaves_the_event_loop_alone() -> None:
    """AnyIO repeats a cancellation in each turn of the event loop, but not while the work is waited for."""
    caller = asyncio.current_task()
    assert caller is not None
    requests: list[int] = []

    async def counted() -> None:
        await work([])
        requests.append(caller.cancelling())

    with anyio.CancelScope() as scope:
        scope.cancel()
        await run_to_the_end(counted())

    assert scope.cancelled_caught
    assert requests[0] < TURNS // 10


@pytest.mark.parametrize("cancellations", [1, 3])
async def test_a_cancelled_task_waits(cancellations: int) -> None:
    """However often a task is cancelled, the cancellation is raised once the work is done."""
    done: list[str] = []
    task = asyncio.create_task(run_to_the_end(work(done)))
    for _ in range(cancellations):
        await asyncio.sleep(0)
        task.cancel()

    with pytest.raises(asyncio.CancelledError):
        await task

    assert done == ["all of it"]
