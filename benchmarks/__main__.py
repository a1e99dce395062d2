"""Compare with other strategies: `python -m benchmarks`; `--quick` measures less, `--only reads http` some cases."""

import argparse
import sys
from collections.abc import Iterator, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from importlib import import_module
from pathlib import Path
from time import monotonic

from benchmarks import plots, report
from benchmarks.bounds import BOUNDS
from benchmarks.machine import facts
from benchmarks.measure import Scale, Series, Servers
from benchmarks.setting import servers
from benchmarks.verdicts import judge

CASES = (
    *("reads", "steps", "refreshes", "http", "pools", "sliding"),
    *("logins", "junk", "statements", "growth", "holding", "purging"),
    *("memory", "wear", "imports"),
)
"""The modules in the order in which they run; each has `measure(servers, scale)`."""

FULL = Scale(
    rounds=12,
    calls=20,
    http_rounds=9,
    seconds=2,
    tokens=(1_000, 100_000, 1_000_000),
    tokens_of_one=(1, 100, 10_000),
    stored=60_000,
    clients=100,
    users=500,
    expired=1_000_000,
    refreshed=100_000,
)
QUICK = Scale(
    rounds=3,
    calls=5,
    http_rounds=3,
    seconds=1,
    tokens=(1_000, 10_000),
    tokens_of_one=(1, 100),
    stored=3_000,
    clients=20,
    users=50,
    expired=100_000,
    refreshed=3_000,
)

DOCUMENTED = Path("docs/performance")
TRIED = Path("build/bench")


def main(arguments: Sequence[str]) -> None:
    """Measure, or read the results of an earlier run, and write the report."""
    options = _parser().parse_args(arguments)
    out = options.out or (TRIED if options.quick or options.only else DOCUMENTED)
    out.mkdir(parents=True, exist_ok=True)
    file = out / "results.json"
    results = report.load(file) if options.render else _run(options.only or CASES, QUICK if options.quick else FULL)
    results = replace(results, verdicts=judge(BOUNDS, results.series))
    report.save(results, file)
    for name, table in report.tables(results).items():
        (out / name).write_text(table)
    plots.draw(results, out)
    _write(report.bounds(results.verdicts))
    _write(f"Tables and plots are in {out}/.")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=sys.modules[__name__].__doc__)
    parser.add_argument("--quick", action="store_true", help="measure less: it takes a few minutes, with rough figures")
    parser.add_argument("--only", nargs="+", choices=CASES, help="measure these alone")
    parser.add_argument("--render", action="store_true", help="measure nothing, and write the last results again")
    parser.add_argument("--out", type=Path, help=f"write there, not to {DOCUMENTED} or, with cases left out, {TRIED}")
    return parser


def _run(cases: Sequence[str], scale: Scale) -> report.Results:
    """Start the servers, and measure the cases one after the other, and save the results after each of them."""
    date = datetime.now(UTC).date().isoformat()
    TRIED.mkdir(parents=True, exist_ok=True)
    with servers() as ours:
        results = report.Results(date=date, facts=facts(ours), scale=scale, series=(), verdicts=())
        for case in cases:
            results = replace(results, series=(*results.series, *_measure(case, ours, scale)))
            report.save(results, TRIED / "results.json")  # Nothing is lost if a later case fails.
        return results


def _measure(case: str, ours: Servers, scale: Scale) -> Iterator[Series]:
    """Measure a case, and report how long it took."""
    began = monotonic()
    yield from import_module(f"benchmarks.{case}").measure(ours, scale)
    _write(f"{case}: {monotonic() - began:.0f} s")


def _write(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main(sys.argv[1:])
