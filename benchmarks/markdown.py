"""Write figures in Markdown."""

from collections.abc import Callable, Iterable, Sequence
from math import floor, log10

from benchmarks.measure import Series


def by(series: Iterable[Series], key: Callable[[Series], str]) -> dict[str, list[Series]]:
    """Group the figures into lists, in the order of the first figure in each list."""
    lists: dict[str, list[Series]] = {}
    for one in series:
        lists.setdefault(key(one), []).append(one)
    return lists


def number(value: float) -> str:
    """Return a number with three significant digits, or with all digits of a longer whole part."""
    if float(value).is_integer():
        return f"{value:,.0f}"
    return f"{value:,.{max(0, 2 - floor(log10(abs(value))))}f}"


def span(spread: tuple[float, float]) -> str:
    """Return the lowest and the highest figure as text."""
    low, high = map(number, spread)
    return low if low == high else f"{low} to {high}"


def figure(one: Series) -> str:
    """Return the median, and the spread if there is more than one value."""
    median, spread = number(one.median), span(one.spread)
    return median if median == spread else f"{median} ({spread})"


def table(head: Sequence[str], lines: Iterable[Sequence[str]], *, texts: int = 1) -> str:
    """Return a table in Markdown, with all columns except the first ones, of texts, aligned as numbers."""
    rule = [*["---"] * texts, *["---:"] * (len(head) - texts)]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in (head, rule, *lines))
