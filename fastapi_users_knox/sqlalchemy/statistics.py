"""Counting tokens in SQL: the database does it, and returns a few rows."""

from collections.abc import Iterator, Sequence
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Column, ColumnElement, Row, Select, and_, case, func, not_, or_, select

from fastapi_users_knox.records.statistics import SPANS, AudienceCount, Liveness, Statistics
from fastapi_users_knox.sqlalchemy.statements import Statements

__all__ = ["count_by_audience", "count_by_user", "count_users", "statistics_of"]


def count_by_audience(sql: Statements, liveness: Liveness) -> Select[Any]:
    """Count the records of each audience that are live, that are not, and that lie in each span."""
    is_live = _is_live(sql, liveness)
    used = sql.columns["last_used_at"]
    conditions = [
        is_live,
        not_(is_live),
        *(and_(is_live, span) for span in _spans(sql.columns["created_at"], liveness.now)),
        *(and_(is_live, span) for span in _spans(used, liveness.now)),
        and_(is_live, used.is_(None)),
    ]
    counts = [func.sum(case((condition, 1), else_=0)) for condition in conditions]
    return select(sql.columns["audience"], *counts).group_by(sql.columns["audience"])


def count_users(sql: Statements, liveness: Liveness) -> Select[Any]:
    """Count the users who have live records."""
    is_live = _is_live(sql, liveness)
    return select(func.count(sql.columns["user_id"].distinct())).where(is_live)


def count_by_user(sql: Statements, liveness: Liveness, *, top: int) -> Select[Any]:
    """Count the live records of the users who have the most."""
    user_id, number = sql.columns["user_id"], func.count()
    is_live = _is_live(sql, liveness)
    return select(user_id, number).where(is_live).group_by(user_id).order_by(number.desc()).limit(top)


def statistics_of(
    by_audience: Sequence[Row[Any]], users: Sequence[Row[Any]], by_user: Sequence[Row[Any]]
) -> Statistics:
    """Build the statistics from the rows of the three statements."""
    sums = [sum(int(row[column]) for row in by_audience) for column in range(3, 4 + 2 * len(SPANS))]
    return Statistics(
        audiences={row[0]: AudienceCount(live=int(row[1]), expired=int(row[2])) for row in by_audience},
        ages=dict(zip(SPANS, sums, strict=False)),
        uses=dict(zip([*SPANS, "never"], sums[len(SPANS) :], strict=True)),
        users=users[0][0],
        top_users=[(str(user_id), number) for user_id, number in by_user],
    )


def _spans(column: Column[Any], now: datetime) -> Iterator[ColumnElement[bool]]:
    """Yield for each span the condition that a time lies in it."""
    for begin, end in SPANS.values():
        bounds = [column > now - end] if end != timedelta.max else []
        yield and_(column.is_not(None), *bounds, *([column <= now - begin] if begin != timedelta.min else []))


def _is_live(sql: Statements, liveness: Liveness) -> ColumnElement[bool]:
    """Match the live records."""
    unexpired, since = sql.is_live(liveness.now, None), liveness.created_since
    if since is None:
        return unexpired
    columns = sql.columns
    return and_(unexpired, or_(columns["audience"] != liveness.audience, columns["created_at"] >= since))
