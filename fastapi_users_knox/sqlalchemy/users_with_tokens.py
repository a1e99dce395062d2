"""Finding the users who have tokens, some at a time."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import ColumnElement, Select, func, or_, select

from fastapi_users_knox.sqlalchemy.statements import Statements

__all__ = ["count_users_with_tokens", "find_users_with_tokens"]

_USERS = 500  # users that one SELECT returns


def count_users_with_tokens(sql: Statements) -> Select[Any]:
    """Count the users who have tokens."""
    return select(func.count(sql.columns["user_id"].distinct()))


def find_users_with_tokens(
    sql: Statements, *, after: Sequence[object], before: datetime | None, keep_scoped: bool
) -> Select[Any]:
    """Select the ids of the next users, in their order.

    Args:
        sql: The statements of the token table.
        after: The id of the last user of the SELECT before; empty at first.
        before: If it is given, only users are selected who have a token whose login was earlier.
        keep_scoped: Whether tokens with scopes do not count.
    """
    columns = sql.columns
    where: list[ColumnElement[bool]] = [columns["user_id"] > user_id for user_id in after]
    if before is not None:
        where.append(or_(columns["created_at"] < before, columns["authenticated_at"] < before))
    if keep_scoped:
        where.append(columns["scopes"].is_(None))
    return select(columns["user_id"]).where(*where).distinct().order_by(columns["user_id"]).limit(_USERS)
