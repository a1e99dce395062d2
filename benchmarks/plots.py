"""Draw the results as SVG, on white with a frame, so that they look the same on a light and on a dark page."""

from collections.abc import Callable, Mapping, Sequence
from itertools import cycle
from pathlib import Path

from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import EngFormatter

from benchmarks.markdown import by, number
from benchmarks.measure import CPU, Series
from benchmarks.peers import NO_AUTHENTICATION, OURS
from benchmarks.report import Results

WIDTH = 8  # inches
OURS_COLOUR, PEER_COLOUR, FLOOR_COLOUR, INK, FAINT = "#00897b", "#90a4ae", "#dfe5e8", "#263238", "#cfd8dc"
COLOURS = ("#00897b", "#5e35b1", "#ef6c00", "#1e88e5", "#c2185b", "#6d4c41", "#546e7a", "#7cb342")
STYLE = Path(__file__).with_name("plots.mplstyle")


def draw(results: Results, directory: Path, *, format: str = "svg") -> None:
    """Write the plot of each measured case that has one."""
    with rc_context(fname=STYLE):
        for name, plot in PLOTS.items():
            figure = plot(results.series)
            if figure is not None:
                metadata = {"Date": None} if format == "svg" else None
                figure.savefig(directory / f"{name}.{format}", metadata=metadata, edgecolor=FAINT, dpi=96)


def _authenticated(series: Sequence[Series]) -> Sequence[Series]:
    """Leave out the subject without authentication, because its long bar would make all other bars look the same."""
    return [one for one in series if one.subject != NO_AUTHENTICATION]


def _beside(series: Sequence[Series], case: str) -> Figure | None:
    """Draw a panel of bars for each group of a case."""
    groups = by((one for one in series if one.case == case and one.unit != CPU), lambda one: one.group)
    if not groups:
        return None
    heights = [len(members) + 2 for members in groups.values()]
    figure = Figure(figsize=(WIDTH, 0.24 * sum(heights)), layout="constrained", linewidth=1)
    panels = figure.subplots(len(groups), squeeze=False, height_ratios=heights)[:, 0]
    for axes, (group, members) in zip(panels, groups.items(), strict=True):
        _bars(axes, members)
        axes.set_title(f"{group}, {members[0].unit}")
    return figure


def _bars(axes: Axes, series: Sequence[Series]) -> None:
    """Draw the medians, with the best at the top, and the spread of the parts of the run as whiskers."""
    more_is_better = series[0].unit.endswith("/s")
    best_last = sorted(series, key=lambda one: one.median, reverse=not more_is_better)
    places = range(len(best_last))
    _bar(axes, places, best_last, color=[_colour(one.subject) for one in best_last])
    axes.set_yticks(places, [one.subject for one in best_last])


def _bar(
    axes: Axes,
    places: Sequence[float],
    series: Sequence[Series],
    *,
    color: str | Sequence[str],
    height: float = 0.8,
    label: str = "",
) -> None:
    """Draw a bar with its number and its whisker at each place."""
    medians = [one.median for one in series]
    lower, upper = zip(*(one.spread for one in series), strict=True)
    whiskers = [
        [median - low for median, low in zip(medians, lower, strict=True)],
        [high - median for median, high in zip(medians, upper, strict=True)],
    ]
    error = {"ecolor": INK, "elinewidth": 0.8, "capsize": 2}
    bars = axes.barh(places, medians, height, color=color, label=label, xerr=whiskers, error_kw=error)
    axes.bar_label(bars, [number(one) for one in medians], padding=6, fontsize=8)
    axes.margins(x=0.1)
    axes.grid(visible=False, axis="y")


def _colour(subject: str) -> str:
    """Return a strong colour for `KnoxStrategy`, and a pale colour for the floors, which no strategy can beat."""
    if subject.startswith(OURS):
        return OURS_COLOUR
    return FLOOR_COLOUR if subject.startswith("floor") else PEER_COLOUR


def _growth(series: Sequence[Series]) -> Figure | None:
    """Draw a panel for each kind of growth and each store, with a line for each verb."""
    grown = [one for one in series if one.case.startswith("growth of ")]
    if not grown:
        return None
    cases, stores = by(grown, lambda one: one.case), by(grown, _store)
    colours = dict(zip(by(grown, _verb), cycle(COLOURS)))
    figure = Figure(figsize=(WIDTH, 2.4 * len(cases) + 0.5), layout="constrained", linewidth=1)
    panels = figure.subplots(len(cases), len(stores), squeeze=False, sharex="row", sharey="row")
    for row, (case, members) in zip(panels, cases.items(), strict=True):
        row[0].set_ylabel(f"{case}, {members[0].unit}")
        for axes, store in zip(row, stores, strict=True):
            _lines(axes, [one for one in members if _store(one) == store], colours)
    for axes, store in zip(panels[0], stores, strict=True):
        axes.set_title(store)
    keys = [Line2D([], [], color=colour, label=verb) for verb, colour in colours.items()]
    figure.legend(handles=keys, loc="outside lower center", ncols=len(keys))
    return figure


def _lines(axes: Axes, series: Sequence[Series], colours: Mapping[str, str]) -> None:
    """Draw the medians by the number of tokens."""
    for verb, members in by(series, _verb).items():
        axes.plot([_number_in(one.subject) for one in members], [one.median for one in members], color=colours[verb])
    axes.set(xscale="log", yscale="log")
    axes.set_xticks(sorted({_number_in(one.subject) for one in series}))
    axes.minorticks_off()
    axes.xaxis.set_major_formatter(EngFormatter(sep=""))
    axes.yaxis.set_major_formatter("{x:g}")


def _store(one: Series) -> str:
    """Return the store: "PostgreSQL" for "PostgreSQL: read"."""
    return one.group.split(": ")[0]


def _verb(one: Series) -> str:
    """Return the verb: "read" for "PostgreSQL: read"."""
    return one.group.split(": ")[-1]


def _sliding(series: Sequence[Series]) -> Figure | None:
    """Draw two bars for each store: the time of the slowest reads with a refresh that is due, and without one."""
    subjects = by((one for one in series if one.subject.startswith("p99 ")), lambda one: one.subject)
    if not subjects:
        return None
    stores = [one.group for one in next(iter(subjects.values()))]
    figure = Figure(figsize=(WIDTH, 0.5 * len(stores) + 0.8), layout="constrained", linewidth=1)
    axes = figure.subplots()
    for half, (subject, members) in enumerate(subjects.items()):
        places = [place + 0.4 * half - 0.2 for place in range(len(stores))]
        _bar(axes, places, members, height=0.36, label=subject, color=(OURS_COLOUR, PEER_COLOUR)[half])
    axes.set_yticks(range(len(stores)), stores)
    axes.set_title("ms")
    axes.invert_yaxis()
    axes.legend()
    return figure


def _number_in(subject: str) -> int:
    """Return the number in a subject: 1000 for "1,000 live tokens"."""
    return int(subject.split(maxsplit=1)[0].replace(",", ""))


PLOTS: Mapping[str, Callable[[Sequence[Series]], Figure | None]] = {
    "read": lambda series: _beside(series, "read"),
    "request-over-http": lambda series: _beside(_authenticated(series), "request over HTTP"),
    "growth": _growth,
    "sliding": _sliding,
}
