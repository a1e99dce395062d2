"""Write down what was measured: as JSON, and as the tables in Markdown that the documentation includes."""

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from math import floor, log10
from pathlib import Path

from pydantic import TypeAdapter

from benchmarks.measure import Scale, Series
from benchmarks.peers import AUTOCOMMIT, KNOX_REDIS, KNOX_SQL
from benchmarks.verdicts import Verdict

OURS = (KNOX_SQL, KNOX_SQL + AUTOCOMMIT, KNOX_REDIS)


@dataclass(frozen=True, kw_only=True)
class Results:
    """What a run has measured.

    Attributes:
        date: When it began, as ISO 8601 has it.
        facts: On what: the processor, the versions.
        scale: How much.
        series: The figures.
        verdicts: What they say of what was to be reached.
    """

    date: str
    facts: Mapping[str, str]
    scale: Scale
    series: tuple[Series, ...]
    verdicts: tuple[Verdict, ...]


_JSON = TypeAdapter(Results)


def save(results: Results, path: Path) -> None:
    """Write all of it."""
    path.write_bytes(_JSON.dump_json(results, indent=1) + b"\n")


def load(path: Path) -> Results:
    """Read what was written."""
    return _JSON.validate_json(path.read_bytes())


def tables(results: Results) -> dict[str, str]:
    """Return the tables by the names of their files: one for each case, and those of the machine and the bounds."""
    cases = {slug(case): _case(series) for case, series in by(results.series, lambda one: one.case).items()}
    named = {"machine": _machine(results), "bounds": bounds(results.verdicts), **cases}
    return {f"{name}.md": text + "\n" for name, text in named.items()}


def bounds(verdicts: Iterable[Verdict]) -> str:
    """Return what was to be reached, what was measured of it, and whether it was reached."""
    return _table(
        ("Goal", "On", "Measured", "Middle half", "Reached"),
        [(one.sentence, one.group, *_measured(one)) for one in verdicts],
    )


def by(series: Iterable[Series], key: Callable[[Series], str]) -> dict[str, list[Series]]:
    """Sort the figures into lists, in the order in which each list's first one was measured."""
    lists: dict[str, list[Series]] = {}
    for one in series:
        lists.setdefault(key(one), []).append(one)
    return lists


def slug(case: str) -> str:
    """Return a case's name as that of a file."""
    return re.sub(r"\W+", "-", case.lower())


def number(value: float) -> str:
    """Return three digits of a number, and all of a greater one's whole part."""
    if float(value).is_integer():
        return f"{value:,.0f}"
    return f"{value:,.{max(0, 2 - floor(log10(abs(value))))}f}"


def span(quartiles: tuple[float, float]) -> str:
    """Return between which values the middle half lies."""
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
    """Return a table for each group where ours is beside its peers, all in one unit, else one for each unit."""
    is_beside = any(one.subject in OURS for one in series) and len({one.unit for one in series}) == 1
    draw, title = (_group, "**{0.group}**, {0.unit}") if is_beside else (_grid, "**{0.unit}**")
    return "\n\n".join(f"{head}\n\n{draw(members)}" for head, members in by(series, title.format).items())


def _group(series: Sequence[Series]) -> str:
    """Return a line for each subject, with how many times what ours takes it takes."""
    ours = [one for one in series if one.subject in OURS and all(one.values)]
    return _table(
        ("", "Median", "Middle half", *(f"÷ {one.subject}" for one in ours)),
        [(one.subject, number(one.median), span(one.quartiles), *(_ratio(one, to) for to in ours)) for one in series],
    )


def _ratio(one: Series, to: Series) -> str:
    return _figure(one.per(to))


def _figure(one: Series) -> str:
    """Return the median, and the middle half where there is more than one value."""
    median, half = number(one.median), span(one.quartiles)
    return median if median == half else f"{median} ({half})"


def _grid(series: Sequence[Series]) -> str:
    """Return a table of groups and subjects: of which there are fewer, those are the columns."""
    sides: tuple[Callable[[Series], str], Callable[[Series], str]] = (lambda one: one.subject, lambda one: one.group)
    across, down = sorted(sides, key=lambda side: len(by(series, side)))
    columns = list(by(series, across))
    lines = []
    for head, members in by(series, down).items():
        cells = {across(one): _figure(one) for one in members}
        lines.append((head, *(cells.get(column, "") for column in columns)))
    return _table(("", *columns), lines)


def _table(head: Sequence[str], lines: Sequence[Sequence[str]]) -> str:
    """Return a table in Markdown; all columns but the first are numbers, mostly."""
    rule = ("---", *["---:"] * (len(head) - 1))
    return "\n".join(f"| {' | '.join(cells)} |" for cells in (head, rule, *lines))
