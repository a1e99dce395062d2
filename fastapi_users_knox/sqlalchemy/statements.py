"""The SQL of the token store, and the way from a row to a record and to a user."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import cache, lru_cache
from types import EllipsisType
from typing import Any, cast

from sqlalchemy import (
    Column,
    ColumnElement,
    Insert,
    Label,
    Row,
    Select,
    Table,
    Update,
    and_,
    bindparam,
    delete,
    false,
    func,
    insert,
    null,
    or_,
    select,
    update,
)
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import Bundle, Mapper
from sqlalchemy.sql.dml import ReturningDelete

from fastapi_users_knox.records import TokenRecord
from fastapi_users_knox.sqlalchemy.user_class import UserClass, find_user_class, mapper_of

__all__ = ["Removal", "Statements", "record_of", "statements_for"]

_RECORD = (
    *("id", "user_id", "audience", "created_at", "authenticated_at", "expires_at", "last_used_at"),
    *("name", "device_id", "user_agent", "ip_address"),
)


class _Columns(Bundle[Any]):
    """Columns that come as one tuple, which SQLAlchemy's own would give names at each execution."""

    def create_row_processor(
        self,
        query: object,  # noqa: ARG002 (the names are SQLAlchemy's)
        procs: Sequence[Callable[[Row[Any]], Any]],
        labels: Sequence[str],  # noqa: ARG002
    ) -> Callable[[Row[Any]], Any]:
        """Return what takes the columns' values from a row."""
        return lambda row: tuple([proc(row) for proc in procs])


@dataclass(frozen=True, kw_only=True)
class Removal:
    """What ends records and tells which.

    Attributes:
        returning: One statement, where the database has DELETE ... RETURNING.
        finding: Elsewhere, what finds and locks them, to be deleted by their ids.
    """

    returning: ReturningDelete[Any]
    finding: Select[Any]


class Statements:
    """The parts that the statements on one table are made of; shared by all stores over it.

    Attributes:
        mapper: The mapper of the token records' table.
        table: The table itself.
        of: Its columns by name, `digest` among them.
        record: The columns of a record, each labelled with its field's name.
        no_rows: An UPDATE that changes nothing.
        insert: The INSERT of a row.
        count: The SELECT of how many records a user has, with the parameters `user_id` and `audience`.
        removal: What ends one record, with those parameters and `id`.
        users: What `user_id` refers to, or `None` if the users are elsewhere.
        user: The mapped class of that.
    """

    def __init__(self, mapper: Mapper[Any], users: UserClass | None) -> None:
        """Look the columns up."""
        self.mapper = mapper
        self.table: Table = cast("Table", mapper.local_table)
        self.of: dict[str, Column[Any]] = {name: mapper.columns[name] for name in (*_RECORD, "digest")}
        self.record: list[Label[Any]] = [self.of[name].label(name) for name in _RECORD]
        self.no_rows: Update = update(self.table).where(false()).values({self.of["audience"]: ""})
        self.users: UserClass | None = users
        self.user: type[Any] | None = users.mapper.class_ if users else None
        self.insert: Insert = insert(self.table)
        self._mine = (self.of["user_id"] == bindparam("user_id"), self.of["audience"] == bindparam("audience"))
        self.count: Select[Any] = select(func.count()).select_from(self.table).where(*self._mine)
        self.removal: Removal = self.removal_of(self.of["id"] == bindparam("id"), *self._mine)

    @lru_cache(maxsize=32)  # noqa: B019 (shared for good, as the mapped class is)
    def find(self, digests: int, *, with_user: bool) -> Select[Any]:
        """Build the one SELECT of a read, with parameters `digest_0` to `digest_<digests - 1>` and `audience`.

        What it gives is the digest, the user's `is_active`, null where there are no users here, and the record's
        columns; with the user, it gives the user, and all that as one.
        """
        asked = [self.of["digest"] == bindparam(f"digest_{number}") for number in range(digests)]
        is_active = self.users.columns["is_active"] if self.users else null()
        seen = (self.of["digest"], is_active.label("is_active"), *self.record)
        # As one, the columns cost SQLAlchemy less than a dozen results beside the user do.
        statement = select(self.user, _Columns("seen", *seen)) if with_user and self.user else select(*seen)
        if self.users is not None:
            on = self.users.columns["id"] == self.of["user_id"]
            statement = statement.join_from(self.table, self.users.mapper.class_, on)
        return statement.where(or_(*asked), self.of["audience"] == bindparam("audience"))

    @lru_cache(maxsize=8)  # noqa: B019 (as above)
    def removal_at_login(self, *, is_capped: bool, is_replacing: bool, has_device: bool) -> "Removal":
        """Build what ends records at a login, with the parameters `user_id`, `audience`, `now` and those told below.

        Args:
            is_capped: Whether those created before `created_since` end.
            is_replacing: Whether those under one of the digests `replaces` end.
            has_device: Whether those of the device `device_id` end.
        """
        ended = [self.of["expires_at"] <= bindparam("now")]
        if is_capped:
            ended.append(self.of["created_at"] < bindparam("created_since"))
        if is_replacing:
            ended.append(self.of["digest"].in_(bindparam("replaces", expanding=True)))
        if has_device:
            ended.append(self.of["device_id"] == bindparam("device_id"))
        return self.removal_of(*self._mine, or_(*ended))

    def removal_of(self, *where: ColumnElement[bool]) -> "Removal":
        """Build what ends the records for which all of these hold."""
        return Removal(
            returning=delete(self.table).where(*where).returning(*self.record),
            finding=select(*self.record).where(*where).with_for_update(),
        )

    def values(self, record: TokenRecord[Any], digest: bytes) -> dict[str, object]:
        """Return what to store of a record, by the columns' keys."""
        return {self.of[name].key: getattr(record, name) for name in _RECORD} | {self.of["digest"].key: digest}

    def is_live(self, now: datetime, created_since: datetime | None) -> ColumnElement[bool]:
        """Ask what `TokenRecord.is_live` does."""
        unexpired = or_(self.of["expires_at"].is_(None), self.of["expires_at"] > now)
        return unexpired if created_since is None else and_(unexpired, self.of["created_at"] >= created_since)

    def active_at(self) -> ColumnElement[datetime]:
        """Ask what `TokenRecord.active_at` does."""
        return func.coalesce(self.of["last_used_at"], self.of["created_at"])


def statements_for(session: AsyncSession, table: type[Any], users: type[Any] | EllipsisType | None = ...) -> Statements:
    """Return the statements for a session.

    Args:
        session: It has to keep the users on the same engine as the tokens.
        table: The mapped class of the token records.
        users: That of the users; `...`: the one that `user_id` refers to; `None`: the users are elsewhere.

    Raises:
        TypeError: The table is no token class, or `users` is no mapped class.
        UserClassError: The users cannot be found.
    """
    named = users if users is None or isinstance(users, EllipsisType) else mapper_of("users", users)
    statements = _statements_on(mapper_of("table", table), named)
    if statements.users is not None:
        statements.users.check_bind(session.sync_session, statements.mapper, statements.no_rows)
    return statements


@cache
def _statements_on(tokens: Mapper[Any], users: Mapper[Any] | EllipsisType | None) -> Statements:
    if not all(name in tokens.columns for name in (*_RECORD, "digest")):
        raise TypeError(
            "table must be the mapped class of the token records, derived from SQLAlchemyBaseKnoxTokenTable: "
            f"got {tokens.class_.__name__}"
        )
    return Statements(tokens, None if users is None else find_user_class(tokens, users))


def record_of(row: Sequence[Any]) -> TokenRecord[Any]:
    """Make the record of a row that ends with the record's columns."""
    return TokenRecord(**dict(zip(_RECORD, row[-len(_RECORD) :], strict=True)))
