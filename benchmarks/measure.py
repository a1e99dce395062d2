"""Time things beside each other: in rounds, so that whatever else the machine does meets all of them alike."""

import gc
import random
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from statistics import median, quantiles
from time import perf_counter_ns
from typing import Any


@dataclass(frozen=True, kw_only=True)
class Series:
    """What was measured of one subject, a value for each round.

    Attributes:
        case: What is measured: "read", "login".
        group: Within which the subjects are compared: "PostgreSQL".
        subject: Of what it was measured: "JWTStrategy".
        unit: Of the values: "ms", "requests/s", "bytes", "statements".
        values: One for each round, in their order; one alone where nothing but a change of the code can change it.
    """

    case: str
    group: str
    subject: str
    unit: str
    values: tuple[float, ...]

    @property
    def median(self) -> float:
        """Return the middle value."""
        return median(self.values)

    @property
    def quartiles(self) -> tuple[float, float]:
        """Return between which values the middle half lies."""
        return quartiles(self.values)

    def per(self, other: "Series") -> "Series":
        """Return by how many times this is the other, round by round."""
        ratios = tuple(one / another for one, another in zip(self.values, other.values, strict=True))
        subject = f"{self.subject} / {other.subject}"
        return Series(case=self.case, group=self.group, subject=subject, unit="times", values=ratios)


@dataclass(frozen=True, kw_only=True)
class Scale:
    """How much is measured.

    Attributes:
        rounds: How often each subject has its turn.
        calls: How many calls a turn has.
        http_rounds: How often each server has its turn.
        seconds: How long a server's turn is.
        tokens: How many tokens there are in all, one after the other.
        tokens_of_one: How many live tokens one user has, one after the other.
        stored: Of how many tokens the bytes are counted.
        clients: How many clients share a token.
    """

    rounds: int
    calls: int
    http_rounds: int
    seconds: float
    tokens: tuple[int, ...]
    tokens_of_one: tuple[int, ...]
    stored: int
    clients: int


@dataclass(frozen=True, kw_only=True)
class Servers:
    """Where what is measured keeps its data.

    Attributes:
        databases: Each database's name, "PostgreSQL", and its URL for SQLAlchemy; empty ones, ours alone.
        redis: The URL of a Redis, ours alone; `None`: the machine has none.
    """

    databases: Mapping[str, str]
    redis: str | None

    @property
    def stores(self) -> Mapping[str, tuple[str, str | None]]:
        """Return where each store's users are and, if the tokens are not with them, its Redis."""
        stores: dict[str, tuple[str, str | None]] = {name: (url, None) for name, url in self.databases.items()}
        if self.redis is not None:
            stores["Redis"] = next(iter(self.databases.values())), self.redis
        return stores


async def _nothing(*_: object) -> None:
    """Neither prepare nor clear away."""


@dataclass(frozen=True, kw_only=True)
class Trial:
    """What is timed.

    Attributes:
        run: Timed; it is given what `prepare` has returned.
        prepare: Run before it, each time, and not timed.
        finish: Run after it, each time, and not timed; it is given what `run` has returned.
    """

    run: Callable[[Any], Awaitable[Any]]
    prepare: Callable[[], Awaitable[Any]] = _nothing
    finish: Callable[[Any], Awaitable[object]] = _nothing


async def interleave(trials: Mapping[str, Trial], *, rounds: int, calls: int) -> dict[str, tuple[float, ...]]:
    """Time trials in turns, and return the median of each turn, in milliseconds.

    The order is another one in each round, and one turn of each, before the first round, does not count.
    """
    medians: dict[str, list[float]] = {name: [] for name in trials}
    for name in trials:
        await _turn(trials[name], calls)
    gc.freeze()  # What is there now stays; to look through it at each turn would take longer than the turn.
    for _ in range(rounds):
        for name in random.sample(sorted(trials), len(trials)):
            medians[name].append(await _turn(trials[name], calls))
    return {name: tuple(values) for name, values in medians.items()}


async def _turn(trial: Trial, calls: int) -> float:
    """Run a trial some times, and return its median, in milliseconds."""
    gc.collect()  # What the one before has left is not to be cleared away at the cost of this one.
    took = []
    for _ in range(calls):
        prepared = await trial.prepare()
        began = perf_counter_ns()
        left = await trial.run(prepared)
        took.append(perf_counter_ns() - began)
        await trial.finish(left)
    return median(took) / 1e6


def quartiles(values: Sequence[float]) -> tuple[float, float]:
    """Return between which values the middle half lies."""
    if len(values) == 1:
        return values[0], values[0]
    first, _, third = quantiles(values, n=4, method="inclusive")
    return first, third
