"""The command `purge`: it deletes expired tokens in batches, and can be interrupted after any of them."""

import re
import time
from collections.abc import AsyncIterator, Callable
from datetime import timedelta
from typing import TypeVar

from fastapi_users_knox.cli.report import ExitCode, Problem, Report
from fastapi_users_knox.cli.target import Target
from fastapi_users_knox.records.statistics import Liveness
from fastapi_users_knox.shielding import run_to_the_end

__all__ = ["parse_duration", "purge_expired", "run_steps"]

T = TypeVar("T")

_DURATION = re.compile(r"(\d+)([smhdw])")
_UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days", "w": "weeks"}


def parse_duration(text: str) -> timedelta:
    """Return the duration that is written as a number and a unit, such as 7d.

    Raises:
        Problem: It is written in another way.
    """
    found = _DURATION.fullmatch(text)
    if found is None:
        raise Problem(f"{text} is not a duration, which is a number with s, m, h, d or w, such as 12h or 7d")
    return timedelta(**{_UNITS[found[2]]: int(found[1])})


async def run_steps(steps: AsyncIterator[T], note: Callable[[T], None]) -> None:
    """Run all steps, and note the result of each. A cancellation waits until the running step is noted."""

    async def run_next() -> bool:
        async for result in steps:
            note(result)
            return True
        return False

    while await run_to_the_end(run_next()):
        pass


async def purge_expired(target: Target, report: Report, *, older_than: str, batch_size: int, dry_run: bool) -> ExitCode:
    """Delete the tokens that expired at least so long ago, or count them."""
    context = target.context
    now = context.now() - parse_duration(older_than)
    purge = Liveness(now=now, audience=context.settings.audience, created_since=context.settings.capped_since(now))
    if dry_run:
        count = await target.needed_operations().count_expired(purge)
        report.publish(f"{count} expired tokens would be deleted.", expired=count, deleted=0)
        return ExitCode.DONE
    await _delete(_batches(target, purge, batch_size), report, total=await _count(target, purge))
    left = await _count(target, purge) or 0
    if left:
        report.summary += f" {left} are left, because other transactions have locked them: purge again later."
    report.document["left"] = left
    return ExitCode.DONE


async def _count(target: Target, purge: Liveness) -> int | None:
    """Count the expired tokens, if that costs little."""
    operations = target.operations
    return await operations.count_expired(purge) if operations is not None and operations.counts_cheaply else None


def _batches(target: Target, purge: Liveness, batch_size: int) -> AsyncIterator[int]:
    """Return the batches, each as the number of deleted tokens."""
    if target.operations is None:
        return _single_batch(target, purge, batch_size)
    return target.operations.purge(purge, batch_size=batch_size)


async def _single_batch(target: Target, purge: Liveness, batch_size: int) -> AsyncIterator[int]:
    """Let a store of another package delete all tokens, as its verb does."""
    yield await target.context.store.purge(**vars(purge), batch_size=batch_size)


async def _delete(batches: AsyncIterator[int], report: Report, *, total: int | None) -> None:
    """Delete the batches, and report after each of them how many tokens are deleted."""
    began, deleted = time.monotonic(), 0
    with report.progress() as progress:
        task = progress.add_task("Deleting expired tokens", total=total)

        def note(count: int) -> None:
            nonlocal deleted
            deleted += count
            progress.advance(task, count)
            _publish(report, deleted, seconds=time.monotonic() - began)

        note(0)
        await run_steps(batches, note)


def _publish(report: Report, deleted: int, *, seconds: float) -> None:
    speed = round(deleted / seconds) if seconds else 0
    report.publish(
        f"{deleted} expired tokens are deleted, in {seconds:.1f} s ({speed} rows per second).",
        deleted=deleted,
        seconds=round(seconds, 3),
        rows_per_second=speed,
    )
