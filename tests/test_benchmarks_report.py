"""The benchmarks' figures are judged, saved and shown on the page correctly."""

import re
from pathlib import Path

import pytest

from benchmarks import markdown, report
from benchmarks.bounds import BOUNDS
from benchmarks.measure import CPU, Scale, Series
from benchmarks.peers import DATABASE, KNOX_SQL
from benchmarks.verdicts import Bound, Verdict, judge

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "docs" / "performance.md").read_text()
GENERATED = ROOT / "docs" / "performance"
SCALE = Scale(
    rounds=3,
    calls=1,
    http_rounds=1,
    seconds=0.5,
    tokens=(1, 10),
    tokens_of_one=(1, 2),
    stored=1,
    clients=1,
    users=1,
    expired=1,
    refreshed=1,
)


def series(subject: str, *values: float, case: str = "read", group: str = "SQLite", unit: str = "ms") -> Series:
    """Return made-up figures of a subject."""
    return Series(case=case, group=group, subject=subject, unit=unit, values=values)


MEASURED = (
    series(KNOX_SQL, 1, 2, 4),
    series(KNOX_SQL, 0.5, unit=CPU),
    series(DATABASE, 2, 6, 8),
    series(KNOX_SQL, 0, unit="statements", case="junk"),
    series(DATABASE, 1, unit="statements", case="junk"),
    series(KNOX_SQL, 1.234, 1.3, 1.4, unit="µs", case="junk"),
    series("1,000 tokens", 0.5, 0.6, case="growth of the table", group="SQLite: read"),
    series("10 tokens", 0.5, 0.5, case="growth of the table", group="SQLite: read"),
    series("10 tokens", 12_345.6, case="growth of the table", group="SQLite: purge"),
)


def bound(
    *,
    to: str | None = DATABASE,
    unit: str = "ms",
    case: str = "read",
    at_least: float | None = None,
    at_most: float | None = None,
) -> Bound:
    """Return a made-up bound on the figures of `KnoxStrategy`."""
    return Bound(
        promise="it takes {}",
        case=case,
        of=KNOX_SQL,
        to=to,
        unit=unit,
        at_least={} if at_least is None else {"SQLite": at_least},
        at_most={} if at_most is None else {"SQLite": at_most},
    )


def results() -> report.Results:
    """Return the made-up results of a run."""
    verdicts = judge([bound(at_most=0.4), bound(at_most=0.5), bound(unit="bytes", at_most=1)], MEASURED)
    return report.Results(date="2030-01-01", facts={"cores": "2"}, scale=SCALE, series=MEASURED, verdicts=verdicts)


def cells(line: str) -> list[str]:
    """Split a line of a table into its cells."""
    return re.split(r"(?<!\\)\|", line.strip("|"))


@pytest.mark.parametrize(
    ("asked", "is_met"),
    [
        (bound(at_most=0.5), True),
        (bound(at_most=0.49), False),
        (bound(at_least=0.5), True),
        (bound(at_least=0.51), False),
        (bound(to=None, at_most=2), True),
        (bound(to=None, at_most=1.9), False),
        (bound(to=None, at_most=0, unit="statements", case="junk"), True),
    ],
)
def test_a_bound_is_met_if_the_median_keeps_within(asked: Bound, is_met: bool) -> None:  # noqa: FBT001
    """A bound is met if the median of the ratios, or of the figures if there is no peer, is within it."""
    [verdict] = judge([asked], MEASURED)

    assert verdict.is_met is is_met


def test_ratios_are_taken_round_by_round() -> None:
    """The verdict holds the median and the spread of the ratios of each round."""
    [verdict] = judge([bound(at_most=10)], MEASURED)

    assert verdict == Verdict(
        sentence="it takes 10",
        group="SQLite",
        unit="times",
        median=1 / 2,
        spread=(1 / 3, 1 / 2),
        is_met=True,
    )


@pytest.mark.parametrize(
    "asked",
    [
        bound(case="login", at_most=1),
        bound(unit="bytes", at_most=1),
        bound(to="nobody", at_most=1),
        bound(to="floor", at_most=1),
    ],
)
def test_a_bound_without_figures_is_not_judged(asked: Bound) -> None:
    """A bound is neither met nor missed if one of its figures was not measured."""
    [verdict] = judge([asked], MEASURED)

    assert (verdict.median, verdict.is_met) == (None, None)


def test_a_bound_has_one_limit_and_says_it() -> None:
    """Each bound has either upper or lower limits, and no two bounds of a group have the same sentence."""
    sentences = [(group, one.sentence(group)) for one in BOUNDS for group in one.groups]

    assert all(bool(one.at_least) != bool(one.at_most) for one in BOUNDS)
    assert all("{}" in one.promise or not any(one.groups.values()) for one in BOUNDS)
    assert len(set(sentences)) == len(sentences)


def test_results_are_read_as_they_were_written(tmp_path: Path) -> None:
    """Results that are saved as JSON and loaded again are equal."""
    report.save(results(), tmp_path / "results.json")

    assert report.load(tmp_path / "results.json") == results()


def test_tables_are_tables() -> None:
    """Generated tables are valid Markdown: rows of equal length, a rule below the head and an empty line above it."""
    for text in report.tables(results()).values():
        for block in text.split("\n\n"):
            lines = [line for line in block.splitlines() if line.startswith("|")]
            assert len({len(cells(line)) for line in lines}) <= 1
            assert not lines or re.fullmatch(r"\|( -+:? \|)+", lines[1])
            assert not lines or block.startswith("|")


def test_each_case_has_a_table_of_its_own() -> None:
    """Each case is written to a file that is named after it."""
    assert set(report.tables(results())) == {
        "machine.md",
        "summary.md",
        "bounds.md",
        "read.md",
        "junk.md",
        "growth-of-the-table.md",
    }


def test_a_table_shows_median_spread_and_ratio() -> None:
    """A table shows the median, the spread, the processor time and the ratios of each subject."""
    assert report.tables(results())["read.md"] == (
        "**SQLite**, ms\n\n"
        "|  | Median (three parts of the run) | Processor time | ÷ KnoxStrategy, SQL |\n"
        "| --- | ---: | ---: | ---: |\n"
        "| KnoxStrategy, SQL | 2 (1 to 4) | 0.500 | 1 |\n"
        "| DatabaseStrategy | 6 (2 to 8) |  | 2 (2 to 3) |\n"
    )


def test_the_summary_compares_what_an_application_has_with_ours() -> None:
    """The summary shows how many times as fast our strategy is as a peer, and leaves out what was not measured."""
    assert report.tables(results())["summary.md"] == (
        "| Now | Then | Read, SQLite |\n| --- | --- | ---: |\n| DatabaseStrategy | KnoxStrategy, SQL | 2 (2 to 3) |\n"
    )


@pytest.mark.parametrize(
    ("values", "spread"), [((3,), (3, 3)), ((1, 2), (1, 2)), ((1, 9, 2, 3, 4, 8), (2.5, 6)), ((5, 5, 5, 9, 9), (5, 9))]
)
def test_the_spread_is_that_of_three_parts(values: tuple[float, ...], spread: tuple[float, float]) -> None:
    """The spread is the lowest and the highest median of three consecutive parts, or of as many as there are."""
    assert series(KNOX_SQL, *values).spread == spread


def test_bounds_are_shown_as_they_are() -> None:
    """The table of bounds shows which bounds are met, missed or not measured."""
    assert [cells(line)[-1].strip() for line in report.tables(results())["bounds.md"].splitlines()[2:]] == [
        "**no**",
        "yes",
        "not measured",
    ]


@pytest.mark.parametrize(
    ("value", "text"),
    [(0, "0"), (1, "1"), (0.01234, "0.0123"), (0.5, "0.500"), (1.234, "1.23"), (447.2, "447"), (12_345.6, "12,346")],
)
def test_a_number_has_three_digits(value: float, text: str) -> None:
    """Numbers are shown with three significant digits."""
    assert markdown.number(value) == text


def test_the_page_shows_all_that_was_generated() -> None:
    """The page includes exactly the generated tables and plots."""
    included = re.findall(r'--8<-- "(.+\.md)"', PAGE)
    shown = re.findall(r"!\[.+\]\(performance/(.+)\)", PAGE)

    assert sorted(included) == sorted(path.name for path in GENERATED.glob("*.md"))
    assert sorted(shown) == sorted(path.name for path in GENERATED.glob("*.svg"))
    assert all(path.stat().st_size < 60_000 for path in GENERATED.glob("*.svg"))


def test_the_tables_are_those_of_the_results() -> None:
    """The tables on the page show the saved results, judged by the current bounds."""
    shown = report.load(GENERATED / "results.json")

    assert shown.verdicts == judge(BOUNDS, shown.series)
    assert report.tables(shown) == {path.name: path.read_text() for path in GENERATED.glob("*.md")}


def test_the_page_judges_every_bound() -> None:
    """The saved results have figures for every bound."""
    assert [one for one in report.load(GENERATED / "results.json").verdicts if one.is_met is None] == []


def test_the_names_of_this_machine_are_not_shown() -> None:
    """The page describes the machine but shows no address or name of it."""
    facts = report.load(GENERATED / "results.json").facts

    assert {"processor", "cores", "memory", "system", "Python"} <= set(facts)
    assert not re.search(r"\d+\.\d+\.\d+\.\d+|://|@", " ".join(facts.values()))
