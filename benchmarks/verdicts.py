"""Compare the results with bounds."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from math import inf

from benchmarks.measure import Series


@dataclass(frozen=True, kw_only=True)
class Bound:
    """A bound on one figure, or on the ratio of two figures of the same run.

    Attributes:
        promise: The bound in plain words, with `{}` in place of its number.
        case: The `Series.case` of both figures.
        of: The subject of the figure.
        to: The subject by which it is divided, round by round; `None` if the bound is on the figure itself.
        unit: The unit of both figures.
        at_most: The greatest median that meets the bound, for each group to which it applies.
        at_least: The smallest median that meets the bound, for each group to which it applies.
    """

    promise: str
    case: str
    of: str
    to: str | None = None
    unit: str = "ms"
    at_most: Mapping[str, float] = field(default_factory=dict)
    at_least: Mapping[str, float] = field(default_factory=dict)

    @property
    def groups(self) -> Mapping[str, float]:
        """The numbers of the bound, by group."""
        return {**self.at_most, **self.at_least}

    def sentence(self, group: str) -> str:
        """Return the promise with its number."""
        return self.promise.format(f"{self.groups[group]:,g}")

    def is_met(self, group: str, median: float) -> bool:
        """Return whether a median meets the bound."""
        return self.at_least.get(group, 0) <= median <= self.at_most.get(group, inf)


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """A bound, and whether the results meet it.

    Attributes:
        sentence: The bound in plain words.
        group: The group.
        unit: The unit of the figures; "times" if they are ratios.
        median: The median of the figures; `None` if they were not measured.
        spread: The lowest and the highest of the medians of the three parts of the run.
        is_met: Whether the median is within the bound.
    """

    sentence: str
    group: str
    unit: str
    median: float | None = None
    spread: tuple[float, float] | None = None
    is_met: bool | None = None


def judge(bounds: Iterable[Bound], series: Iterable[Series]) -> tuple[Verdict, ...]:
    """Compare the results with bounds."""
    figures = {(one.case, one.group, one.subject, one.unit): one for one in series}
    return tuple(_verdict(bound, group, _measured(bound, group, figures)) for bound in bounds for group in bound.groups)


def _measured(bound: Bound, group: str, figures: Mapping[tuple[str, str, str, str], Series]) -> Series | None:
    figure = figures.get((bound.case, group, bound.of, bound.unit))
    if figure is None or bound.to is None:
        return figure
    other = figures.get((bound.case, group, bound.to, bound.unit))
    return other and figure.per(other)


def _verdict(bound: Bound, group: str, measured: Series | None) -> Verdict:
    if measured is None:
        return Verdict(sentence=bound.sentence(group), group=group, unit=bound.unit)
    return Verdict(
        sentence=bound.sentence(group),
        group=group,
        unit=measured.unit,
        median=measured.median,
        spread=measured.spread,
        is_met=bound.is_met(group, measured.median),
    )
