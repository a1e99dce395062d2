"""The time for which a storage may delay a login."""

import asyncio
import gc
from collections.abc import Coroutine
from typing import Any

import pytest
from anyio.lowlevel import checkpoint

from fastapi_users_knox.throttling.budget import Budget

pytestmark = [pytest.mark.anyio, pytest.mark.bounded]


class Work:
    """Work that does not end by itself.

    Attributes:
        is_cancelled: Whether it was cancelled.
    """

    is_cancelled = False

    async def wait(self) -> None:
        """Wait until it is cancelled, and then fail as a client library does that loses its connection."""
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            self.is_cancelled = True
            raise ConnectionError from None


async def given_up(budget: Budget, work: Coroutine[Any, Any, None]) -> bool:
    """Return whether work was given up."""
    try:
        await budget.spend(work)
    except TimeoutError:
        return True
    return False


async def test_work_that_does_not_end_is_given_up() -> None:
    """Work that takes too long is cancelled, and its later error is not logged as one that nobody has noticed."""
    work, unnoticed = Work(), list[object]()
    asyncio.get_running_loop().set_exception_handler(lambda _, context: unnoticed.append(context))

    assert await given_up(Budget(), work.wait())
    await checkpoint()
    await checkpoint()
    gc.collect()

    assert work.is_cancelled
    assert unnoticed == []


async def test_a_used_up_budget_admits_no_more_work() -> None:
    """After one part has used up the time, the next part is given up at once."""
    budget = Budget()
    await given_up(budget, Work().wait())

    assert await given_up(budget, checkpoint())


async def test_fast_parts_use_up_nothing() -> None:
    """Any number of parts that end at once leave time for the next part."""
    budget = Budget()

    outcomes = [await given_up(budget, checkpoint()) for _ in range(1000)]

    assert not any(outcomes)


async def test_an_error_is_raised() -> None:
    """An error of the work is the caller's."""

    async def fail() -> None:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await Budget().spend(fail())


async def test_a_cancellation_ends_the_work() -> None:
    """If the caller is cancelled, the work is cancelled too."""
    work = Work()
    waiting = asyncio.create_task(Budget().spend(work.wait()))
    await checkpoint()
    await checkpoint()

    waiting.cancel()

    with pytest.raises(asyncio.CancelledError):
        await waiting
    await checkpoint()
    assert work.is_cancelled
