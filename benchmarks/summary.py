"""Compare what an application has now with what it gets."""

from collections.abc import Iterable, Iterator

from benchmarks.markdown import by, figure, table
from benchmarks.measure import CPU, Series
from benchmarks.peers import DATABASE, DJANGO_REST_KNOX, JWT, KNOX_REDIS, KNOX_SQL, RECORD_ALONE, REDIS
from benchmarks.reads import FLOOR, REDIS_FLOOR

CHANGES = (
    (JWT, KNOX_SQL),
    (DATABASE, KNOX_SQL),
    (DJANGO_REST_KNOX, KNOX_SQL),
    (JWT, KNOX_SQL + RECORD_ALONE),
    (FLOOR, KNOX_SQL),
    (JWT, KNOX_REDIS),
    (REDIS, KNOX_REDIS),
    (JWT, KNOX_REDIS + RECORD_ALONE),
    (REDIS_FLOOR, KNOX_REDIS),
)
"""What an application has now, and what it gets."""

_CASES = {"read": "Read", "request over HTTP": "Requests over HTTP"}


def summary(series: Iterable[Series]) -> str:
    """Return how many times as fast each of our strategies is as what it replaces."""
    columns = by((one for one in series if one.case in _CASES and one.unit != CPU), _head)
    lines = [(now, then, list(_cells(columns.values(), now, then))) for now, then in CHANGES]
    measured = [(now, then, *cells) for now, then, cells in lines if any(cells)]
    return table(("Now", "Then", *columns), measured, texts=2)


def _head(one: Series) -> str:
    return f"{_CASES[one.case]}, {one.group}"


def _cells(columns: Iterable[Iterable[Series]], now: str, then: str) -> Iterator[str]:
    """Return the ratio of each column: of times, or the other way round of requests per second."""
    for column in columns:
        subjects = {one.subject: one for one in column}
        old, new = subjects.get(now), subjects.get(then)
        if old is None or new is None:
            yield ""
        else:
            yield figure(new.per(old) if new.unit.endswith("/s") else old.per(new))
