"""Compare the results with the bounds."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

from benchmarks.bounds import Bound
from benchmarks.measure import Series
from benchmarks.peers import AUTOCOMMIT, KNOX_REDIS, KNOX_SQL


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """A bound, and whether the results meet it.

    Attributes:
        sentence: The bound in plain words.
        group: The group, with the engine's option if there is one.
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
    """Compare the results with the bounds, for `KnoxStrategy` without and with `knox_autocommit`."""
    figures = {(one.case, one.group, one.subject, one.unit): one for one in series}
    verdicts = []
    for bound in bounds:
        for group in bound.groups:
            verdicts.append(_verdict(bound, group, _measured(bound, group, figures)))
            optional = _with_option(bound)
            measured = optional and _measured(optional, group, figures)
            if measured:
                verdicts.append(_verdict(bound, group + AUTOCOMMIT, measured))
    return tuple(verdicts)


def _with_option(bound: Bound) -> Bound | None:
    """Return the bound for `KnoxStrategy` with `knox_autocommit`, if the bound applies to it."""
    optional = {name: name + AUTOCOMMIT for name in (KNOX_SQL, KNOX_REDIS)}
    if bound.to in optional:
        return replace(bound, to=optional[bound.to])
    return replace(bound, of=optional[bound.of]) if bound.of in optional else None


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
