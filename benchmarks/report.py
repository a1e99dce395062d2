"""Write the results as JSON, and as the Markdown tables that the documentation includes."""

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from math import floor, log10
from pathlib import Path

from pydantic import TypeAdapter

from benchmarks.measure import Scale, Series
from benchmarks.peers import KNOX_REDIS, KNOX_SQL
from benchmarks.verdicts import Verdict

OURS = (KNOX_SQL, KNOX_REDIS)


@dataclass(frozen=True, kw_only=True)
class Results:
    """The results of a run.

    Attributes:
        date: The start of the run, in ISO 8601.
        facts: The facts that the figures depend on, such as the processor and the versions.
        scale: The amount of measuring.
        series: The figures.
        verdicts: The bounds, and whether the figures meet them.
    """

    date: str
    facts: Mapping[str, str]
    scale: Scale
    series: tuple[Series, ...]
    verdicts: tuple[Verdict, ...]


_JSON = TypeAdapter(Results)


def save(results: Results, path: Path) -> None:
    """Write the results in all forms."""
    path.write_bytes(_JSON.dump_json(results, indent=1) + b"\n")


def load(path: Path) -> Results:
    """Read the results of an earlier run."""
    return _JSON.validate_json(path.read_bytes())


def tables(results: Results) -> dict[str, str]:
    """Return the tables by the names of their files: one for each case, one for the machine and one for the bounds."""
    cases = {slug(case): _case(series) for case, series in by(results.series, lambda one: one.case).items()}
    named = {"machine": _machine(results), "bounds": bounds(results.verdicts), **cases}
    return {f"{name}.md": text + "\n" for name, text in named.items()}


def bounds(verdicts: Iterable[Verdict]) -> str:
    """Return a table of the bounds, with the measured figures and whether they meet the bounds."""
    return _table(
        ("Goal", "On", "Measured", "Middle half", "Reached"),
        [(one.sentence, one.group, *_measured(one)) for one in verdicts],
    )


def by(series: Iterable[Series], key: Callable[[Series], str]) -> dict[str, list[Series]]:
    """Group the figures into lists, in the order of the first figure in each list."""
    lists: dict[str, list[Series]] = {}
    for one in series:
        lists.setdefault(key(one), []).append(one)
    return lists


def slug(case: str) -> str:
    """Return the name of a case as a file name."""
    return re.sub(r"\W+", "-", case.lower())


def number(value: float) -> str:
    """Return a number with three significant digits; all digits of a longer whole number are kept."""
    if float(value).is_integer():
        return f"{value:,.0f}"
    return f"{value:,.{max(0, 2 - floor(log10(abs(value))))}f}"


def span(quartiles: tuple[float, float]) -> str:
    """Return the first and the third quartile as text."""
    low, high = map(number, quartiles)
    return low if low == high else f"{low} to {high}"


def _machine(results: Results) -> str:
    return _table(("", results.date), list(results.facts.items()))


def _measured(verdict: Verdict) -> tuple[str, str, str]:
    if verdict.median is None or verdict.quartiles is None:
        return "", "", "not measured"
    return (
        f"{number(verdict.median)} {verdict.unit}",
        span(verdict.quartiles),
        "yes" if verdict.is_met else "**no**",
    )


def _case(series: Sequence[Series]) -> str:
    """Return a table for each group if it compares strategies in one unit, otherwise a table for each unit."""
    is_beside = any(one.subject in OURS for one in series) and len({one.unit for one in series}) == 1
    draw, title = (_group, "**{0.group}**, {0.unit}") if is_beside else (_grid, "**{0.unit}**")
    return "\n\n".join(f"{head}\n\n{draw(members)}" for head, members in by(series, title.format).items())


def _group(series: Sequence[Series]) -> str:
    """Return a line for each subject, with its ratio to `KnoxStrategy`."""
    ours = [one for one in series if one.subject in OURS and all(one.values)]
    return _table(
        ("", "Median", "Middle half", *(f"÷ {one.subject}" for one in ours)),
        [(one.subject, number(one.median), span(one.quartiles), *(_ratio(one, to) for to in ours)) for one in series],
    )


def _ratio(one: Series, to: Series) -> str:
    return _figure(one.per(to))


def _figure(one: Series) -> str:
    """Return the median, and the quartiles if there is more than one value."""
    median, half = number(one.median), span(one.quartiles)
    return median if median == half else f"{median} ({half})"


def _grid(series: Sequence[Series]) -> str:
    """Return a table of groups and subjects, with the shorter list as columns."""
    sides: tuple[Callable[[Series], str], Callable[[Series], str]] = (lambda one: one.subject, lambda one: one.group)
    across, down = sorted(sides, key=lambda side: len(by(series, side)))
    columns = list(by(series, across))
    lines = []
    for head, members in by(series, down).items():
        cells = {across(one): _figure(one) for one in members}
        lines.append((head, *(cells.get(column, "") for column in columns)))
    return _table(("", *columns), lines)


def _table(head: Sequence[str], lines: Sequence[Sequence[str]]) -> str:
    """Return a table in Markdown, with all columns except the first aligned as numbers."""
    rule = ("---", *["---:"] * (len(head) - 1))
    return "\n".join(f"| {' | '.join(cells)} |" for cells in (head, rule, *lines))
