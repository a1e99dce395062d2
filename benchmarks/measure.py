"""Time several subjects in rounds, so that other load on the machine affects all of them alike."""

import gc
import random
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from statistics import median, quantiles
from time import perf_counter_ns, process_time_ns
from typing import Any

PARTS = 3
"""The number of parts of a run. If their medians differ, the figure depends on more than what is measured."""

CPU = "ms of processor time"


@dataclass(frozen=True, kw_only=True)
class Series:
    """The values that were measured for one subject, one for each round.

    Attributes:
        case: What is measured, such as "read" or "login".
        group: The group in which subjects are compared, such as "PostgreSQL".
        subject: What the values were measured for, such as "JWTStrategy".
        unit: The unit of the values, such as "ms", "requests/s" or "bytes".
        values: One value for each round, in the order of the rounds; a single value if it depends only on the code.
    """

    case: str
    group: str
    subject: str
    unit: str
    values: tuple[float, ...]

    @property
    def median(self) -> float:
        """The median of the values."""
        return median(self.values)

    @property
    def spread(self) -> tuple[float, float]:
        """The lowest and the highest of the three medians that the three parts of the run have."""
        parts = min(PARTS, len(self.values))
        bounds = [round(len(self.values) * part / parts) for part in range(parts + 1)]
        medians = [median(self.values[start:end]) for start, end in pairwise(bounds)]
        return min(medians), max(medians)

    def per(self, other: "Series") -> "Series":
        """Return the ratio of this series to another series, round by round."""
        ratios = tuple(one / another for one, another in zip(self.values, other.values, strict=True))
        subject = f"{self.subject} / {other.subject}"
        return Series(case=self.case, group=self.group, subject=subject, unit="times", values=ratios)


@dataclass(frozen=True, kw_only=True)
class Scale:
    """The amount of measuring.

    Attributes:
        rounds: The number of turns of each subject.
        calls: The number of calls in a turn.
        http_rounds: The number of turns of each server.
        seconds: The duration of a server's turn.
        tokens: The numbers of tokens in the table that are measured, in this order.
        tokens_of_one: The numbers of live tokens of one user that are measured, in this order.
        stored: The number of tokens whose bytes are counted.
        clients: The number of clients that share a token.
        users: The number of users whose tokens are read at random.
        expired: The number of expired tokens that are purged.
        refreshed: The number of tokens that are refreshed several times each.
    """

    rounds: int
    calls: int
    http_rounds: int
    seconds: float
    tokens: tuple[int, ...]
    tokens_of_one: tuple[int, ...]
    stored: int
    clients: int
    users: int
    expired: int
    refreshed: int


@dataclass(frozen=True, kw_only=True)
class Servers:
    """The servers on which the measurements run.

    Attributes:
        databases: The URL of each database, by its name, such as "PostgreSQL". All are private and empty.
        redis: The URL of a private Redis server; `None` if the machine has none.
    """

    databases: Mapping[str, str]
    redis: str | None

    @property
    def stores(self) -> Mapping[str, tuple[str, str | None]]:
        """The URLs of each store: the URL of the users' database and, if the tokens are in Redis, the URL of Redis."""
        stores: dict[str, tuple[str, str | None]] = {name: (url, None) for name, url in self.databases.items()}
        if self.redis is not None:
            stores["Redis"] = next(iter(self.databases.values())), self.redis
        return stores


async def _nothing(*_: object) -> None:
    """Do nothing, if no preparation or clean-up is needed."""


@dataclass(frozen=True, kw_only=True)
class Trial:
    """An act that is timed.

    Attributes:
        run: The act. It gets the result of `prepare`.
        prepare: Runs before each act, and is not timed.
        finish: Runs after each act, and is not timed. It gets the result of `run`.
    """

    run: Callable[[Any], Awaitable[Any]]
    prepare: Callable[[], Awaitable[Any]] = _nothing
    finish: Callable[[Any], Awaitable[object]] = _nothing


@dataclass(frozen=True, kw_only=True)
class Turn:
    """The measurements of one turn of a trial.

    Attributes:
        took: The median time of a call, in milliseconds.
        cpu: The mean processor time of a call in all threads of this process, in milliseconds. It includes the
            preparation and the clean-up, and does not include the servers.
    """

    took: float
    cpu: float


async def interleave(trials: Mapping[str, Trial], *, rounds: int, calls: int) -> dict[str, tuple[float, ...]]:
    """Time trials in turns, and return the median of each turn, in milliseconds."""
    turns = await time_turns(trials, rounds=rounds, calls=calls)
    return {name: tuple(turn.took for turn in taken) for name, taken in turns.items()}


async def time_turns(trials: Mapping[str, Trial], *, rounds: int, calls: int) -> dict[str, list[Turn]]:
    """Time trials in turns.

    The order differs from round to round. Before the first round, each trial has one turn that does not count.
    """
    turns: dict[str, list[Turn]] = {name: [] for name in trials}
    for name in trials:
        await _turn(trials[name], calls)
    gc.freeze()  # Garbage collections now skip the existing objects; to scan them would take longer than a turn.
    for _ in range(rounds):
        for name in random.sample(sorted(trials), len(trials)):
            turns[name].append(await _turn(trials[name], calls))
    return turns


async def _turn(trial: Trial, calls: int) -> Turn:
    """Run a trial this many times."""
    gc.collect()  # The garbage of the last trial must not be collected during this one.
    took = []
    used = process_time_ns()
    for _ in range(calls):
        prepared = await trial.prepare()
        began = perf_counter_ns()
        left = await trial.run(prepared)
        took.append(perf_counter_ns() - began)
        await trial.finish(left)
    return Turn(took=median(took) / 1e6, cpu=(process_time_ns() - used) / calls / 1e6)


def p99(values: Sequence[float]) -> float:
    """Return the value that one in a hundred exceeds."""
    return quantiles(values, n=100, method="inclusive")[-1]
