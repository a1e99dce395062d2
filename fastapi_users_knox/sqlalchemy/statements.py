"""The SQL of the token store, and the way from a row to a record and to a user."""

from datetime import datetime
from functools import cache, lru_cache, partial
from typing import Any, cast

from fastapi_users.manager import BaseUserManager
from sqlalchemy import (
    Column,
    ColumnElement,
    Label,
    Row,
    Select,
    Table,
    Update,
    and_,
    bindparam,
    false,
    func,
    inspect,
    null,
    or_,
    select,
    update,
)
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import Bundle, Mapper

from fastapi_users_knox.sqlalchemy.table import USER_COLUMNS, users_of
from fastapi_users_knox.sqlalchemy.users import plain_user_db
from fastapi_users_knox.store import TokenRecord

__all__ = ["Statements", "record_of", "statements_for"]

_RECORD = (
    *("id", "user_id", "audience", "created_at", "expires_at", "last_used_at"),
    *("name", "device_id", "user_agent", "ip_address"),
)


class Statements:
    """The parts that the statements on one table are made of; shared by all stores over it.

    Attributes:
        mapper: The mapper of the token records' table.
        table: The table itself.
        of: Its columns by name, `digest` among them.
        record: The columns of a record, each labelled with its field's name.
        no_rows: An UPDATE that changes nothing.
        user: The mapped class that `user_id` refers to, or `None` if the users are elsewhere.
        of_user: That class's columns by name.
    """

    def __init__(self, mapper: Mapper[Any], user: Mapper[Any] | None) -> None:
        """Look the columns up."""
        self.mapper = mapper
        self.table: Table = cast("Table", mapper.local_table)
        self.of: dict[str, Column[Any]] = {name: mapper.columns[name] for name in (*_RECORD, "digest")}
        self.record: list[Label[Any]] = [self.of[name].label(name) for name in _RECORD]
        self.no_rows: Update = update(self.table).where(false()).values({self.of["audience"]: ""})
        self.user: type[Any] | None = user.class_ if user else None
        self.of_user: dict[str, Column[Any]] = {name: user.columns[name] for name in USER_COLUMNS} if user else {}

    @lru_cache(maxsize=32)  # noqa: B019 (shared for good, as the mapped class is)
    def find(self, digests: int, *, with_user: bool) -> Select[Any]:
        """Build the one SELECT of a read, with parameters `digest_0` to `digest_<digests - 1>` and `audience`.

        What it gives is the digest, the user's `is_active`, null where there are no users here, and the record's
        columns; with the user, it gives that as one, and the user.
        """
        asked = [self.of["digest"] == bindparam(f"digest_{number}") for number in range(digests)]
        is_active = null() if self.user is None else self.of_user["is_active"]
        seen = (self.of["digest"], is_active.label("is_active"), *self.record)
        # As one, the columns cost SQLAlchemy less than a dozen results beside the user do.
        statement = select(Bundle("seen", *seen), self.user) if with_user and self.user else select(*seen)
        if self.user is not None:
            statement = statement.join_from(self.table, self.user, self.of_user["id"] == self.of["user_id"])
        statement = statement.where(or_(*asked), self.of["audience"] == bindparam("audience"))
        return statement.execution_options(autoflush=False)

    def values(self, record: TokenRecord[Any]) -> dict[Column[Any], object]:
        """Return what to store of a record, by column."""
        return {self.of[name]: getattr(record, name) for name in _RECORD}

    def is_live(self, now: datetime, created_since: datetime | None) -> ColumnElement[bool]:
        """Ask what `TokenRecord.is_live` does."""
        unexpired = or_(self.of["expires_at"].is_(None), self.of["expires_at"] > now)
        return unexpired if created_since is None else and_(unexpired, self.of["created_at"] >= created_since)

    def active_at(self) -> ColumnElement[datetime]:
        """Ask what `TokenRecord.active_at` does."""
        return func.coalesce(self.of["last_used_at"], self.of["created_at"])

    def loads_as(self, user_manager: BaseUserManager[Any, Any], session: AsyncSession) -> bool:
        """Tell whether this user manager loads a user by a plain SELECT from the very table and session."""
        user_db = plain_user_db(user_manager)
        return user_db is not None and user_db.session is session and user_db.user_table is self.user


def statements_for(session: AsyncSession, table: type[Any]) -> Statements:
    """Return the statements for a session: without the users where it keeps them on another engine than the tokens."""
    mapper: Mapper[Any] = inspect(table)
    statements = _statements_on(mapper)
    if statements.user is None:
        return statements
    bind_of = partial(session.sync_session.get_bind, clause=statements.no_rows)
    return statements if bind_of(statements.user) is bind_of(mapper) else _statements_without_users(mapper)


@cache
def _statements_on(mapper: Mapper[Any]) -> Statements:
    return Statements(mapper, users_of(mapper))


@cache
def _statements_without_users(mapper: Mapper[Any]) -> Statements:
    return Statements(mapper, None)


def record_of(row: Row[Any]) -> TokenRecord[Any]:
    """Make the record of a row that ends with the record's columns."""
    return TokenRecord(**dict(zip(_RECORD, row[-len(_RECORD) :], strict=True)))
