"""Write the results as JSON, and as the Markdown tables that the documentation includes."""

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from pydantic import TypeAdapter

from benchmarks.markdown import by, figure, number, span, table
from benchmarks.measure import CPU, Scale, Series
from benchmarks.peers import OURS
from benchmarks.summary import summary
from benchmarks.verdicts import Verdict


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
    named = {
        "machine": _machine(results),
        "summary": summary(results.series),
        "bounds": bounds(results.verdicts),
        **cases,
    }
    return {f"{name}.md": text + "\n" for name, text in named.items()}


def bounds(verdicts: Iterable[Verdict]) -> str:
    """Return a table of the bounds, with the measured figures and whether they meet the bounds."""
    return table(
        ("Goal", "On", "Measured", "Three parts of the run", "Reached"),
        [(one.sentence, one.group, *_measured(one)) for one in verdicts],
    )


def slug(case: str) -> str:
    """Return the name of a case as a file name."""
    return re.sub(r"\W+", "-", case.lower())


def _machine(results: Results) -> str:
    return table(("", results.date), list(results.facts.items()))


def _measured(verdict: Verdict) -> tuple[str, str, str]:
    if verdict.median is None or verdict.spread is None:
        return "", "", "not measured"
    return (
        f"{number(verdict.median)} {verdict.unit}",
        span(verdict.spread),
        "yes" if verdict.is_met else "**no**",
    )


def _case(series: Sequence[Series]) -> str:
    """Return a table for each group if it compares strategies in one unit, otherwise a table for each unit."""
    is_beside = any(one.subject in OURS for one in series) and len({one.unit for one in series} - {CPU}) == 1
    if not is_beside:
        return _titled(by(series, "**{0.unit}**".format), _grid)
    cpu = {(one.group, one.subject): one for one in series if one.unit == CPU}
    groups = by((one for one in series if one.unit != CPU), "**{0.group}**, {0.unit}".format)
    return _titled(groups, lambda members: _group(members, cpu))


def _titled(lists: Mapping[str, Sequence[Series]], draw: Callable[[Sequence[Series]], str]) -> str:
    return "\n\n".join(f"{head}\n\n{draw(members)}" for head, members in lists.items())


def _group(series: Sequence[Series], cpu: Mapping[tuple[str, str], Series]) -> str:
    """Return a line for each subject, with its processor time and its ratios to the floors and to `KnoxStrategy`."""
    divisors = [one for one in series if (one.subject in OURS or one.subject.startswith("floor")) and all(one.values)]
    lines = []
    for one in series:
        used = cpu.get((one.group, one.subject))
        processor = [] if not cpu else ["" if used is None else number(used.median)]
        lines.append((one.subject, figure(one), *processor, *(figure(one.per(to)) for to in divisors)))
    heads = (*(["Processor time"] if cpu else []), *(f"÷ {one.subject}" for one in divisors))
    return table(("", "Median (three parts of the run)", *heads), lines)


def _grid(series: Sequence[Series]) -> str:
    """Return a table of groups and subjects, with the shorter list as columns."""
    sides: tuple[Callable[[Series], str], Callable[[Series], str]] = (lambda one: one.subject, lambda one: one.group)
    across, down = sorted(sides, key=lambda side: len(by(series, side)))
    columns = list(by(series, across))
    lines = []
    for head, members in by(series, down).items():
        cells = {across(one): figure(one) for one in members}
        lines.append((head, *(cells.get(column, "") for column in columns)))
    return table(("", *columns), lines)
