"""Compare the results with the bounds."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from benchmarks.bounds import Bound
from benchmarks.measure import Series


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """A bound, and whether the results meet it.

    Attributes:
        sentence: The bound in plain words.
        group: The group.
        unit: The unit of the figures; "times" if they are ratios.
        median: The median of the figures; `None` if they were not measured.
        quartiles: The first and the third quartile.
        is_met: Whether the median is within the bound.
    """

    sentence: str
    group: str
    unit: str
    median: float | None = None
    quartiles: tuple[float, float] | None = None
    is_met: bool | None = None


def judge(bounds: Iterable[Bound], series: Iterable[Series]) -> tuple[Verdict, ...]:
    """Compare the results with the bounds."""
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
        return Verdict(sentence=bound.sentence, group=group, unit=bound.unit)
    return Verdict(
        sentence=bound.sentence,
        group=group,
        unit=measured.unit,
        median=measured.median,
        quartiles=measured.quartiles,
        is_met=bound.at_least <= measured.median <= bound.at_most,
    )
