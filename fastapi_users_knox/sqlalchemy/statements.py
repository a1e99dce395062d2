"""The SQL statements of the token store."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import cache, lru_cache
from types import EllipsisType
from typing import Any, cast

from sqlalchemy import (
    BindParameter,
    Column,
    ColumnElement,
    Insert,
    Label,
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
from sqlalchemy.orm import Mapper
from sqlalchemy.sql.dml import ReturningDelete

from fastapi_users_knox.records import TokenRecord
from fastapi_users_knox.sqlalchemy.expiry_hours import hour_of
from fastapi_users_knox.sqlalchemy.rows import FOUND, RECORD, PlainColumns, selected
from fastapi_users_knox.sqlalchemy.user_class import UserClass, find_user_class, mapper_of

__all__ = ["Removal", "Statements", "statements_for"]

_COLUMNS = (*RECORD, "digest", "expiry_hour")

_Moment = datetime | BindParameter[Any]


@dataclass(frozen=True, kw_only=True)
class Removal:
    """The statements that remove records and return them.

    Attributes:
        returning: The statement for databases that have DELETE ... RETURNING.
        finding: The SELECT for other databases, which locks the records that are then deleted by their ids.
    """

    returning: ReturningDelete[Any]
    finding: Select[Any]


@dataclass(frozen=True, kw_only=True)
class Renewal:
    """The statements that update the row of a token that was used, unless another transaction has locked the row.

    Attributes:
        both: The one statement for databases that can lock rows in a subquery of an UPDATE.
        locking: The SELECT for MariaDB and MySQL, which locks the row that `updating` then updates.
        updating: The UPDATE.
    """

    both: Update
    locking: Select[Any]
    updating: Update


class Statements:
    """The statements for the table of one token class, and their parts. All stores of that class share them.

    Attributes:
        mapper: The mapper of the token class.
        table: The table.
        columns: The columns of the table by name, including `digest` and `expiry_hour`.
        record: The columns of a record, each labelled with the name of its field.
        no_rows: An UPDATE that changes nothing.
        insert: The INSERT of a row.
        count: The SELECT that counts unexpired records, with the parameters `user_id`, `audience` and `now`.
        removal: The removal of one record, with the parameters `user_id`, `audience` and `id`.
        users: The user class to which `user_id` refers; `None` if the store cannot see the users.
        user: The mapped class of `users`; `None` if the store cannot see the users.
    """

    def __init__(self, mapper: Mapper[Any], users: UserClass | None) -> None:
        """Look up the columns, and build the statements."""
        self.mapper = mapper
        self.table: Table = cast("Table", mapper.local_table)
        self.columns: dict[str, Column[Any]] = {name: mapper.columns[name] for name in _COLUMNS}
        self.record: list[Label[Any]] = [selected(self.columns[name], name) for name in RECORD]
        self.no_rows: Update = update(self.table).where(false()).values({self.columns["audience"]: ""})
        self.users: UserClass | None = users
        self.user: type[Any] | None = users.mapper.class_ if users else None
        self.insert: Insert = insert(self.table)
        self._same_user_and_audience = (
            self.columns["user_id"] == bindparam("user_id"),
            self.columns["audience"] == bindparam("audience"),
        )
        self.count: Select[Any] = (
            select(func.count())
            .select_from(self.table)
            .where(*self._same_user_and_audience, self.is_live(bindparam("now"), None))
        )
        self.removal: Removal = self.removal_of(self.columns["id"] == bindparam("id"), *self._same_user_and_audience)

    @lru_cache(maxsize=32)  # noqa: B019 (the object lives as long as the mapped class)
    def find(self, digests: int, *, with_user: bool) -> Select[Any]:
        """Build the one SELECT of a read, with parameters `digest_0` to `digest_<digests - 1>` and `audience`.

        Its columns are the user's `is_active` (null if the store cannot see the users), the columns in `FOUND`, and the
        digest if there are several. If the user is selected too, each row has two elements: the user, and a tuple of
        these columns.
        """
        digest_is = [self.columns["digest"] == bindparam(f"digest_{number}") for number in range(digests)]
        is_active = self.users.columns["is_active"] if self.users else null()
        found = [selected(self.columns[name], name) for name in FOUND]
        columns = [is_active.label("is_active"), *found, *([self.columns["digest"]] if digests > 1 else [])]
        # In addition to the user, one tuple costs SQLAlchemy less than a dozen columns.
        statement = select(self.user, PlainColumns("token", *columns)) if with_user and self.user else select(*columns)
        if self.users is not None:
            on = self.users.columns["id"] == self.columns["user_id"]
            statement = statement.join_from(self.table, self.users.mapper.class_, on)
        return statement.where(or_(*digest_is), self.columns["audience"] == bindparam("audience"))

    @lru_cache(maxsize=8)  # noqa: B019 (as above)
    def removal_at_login(self, *, is_capped: bool, is_replacing: bool, has_device: bool) -> "Removal":
        """Build the removal at a login, with the parameters `user_id`, `audience`, `now`, and one per true argument.

        Args:
            is_capped: Whether it removes the records created before the parameter `created_since`.
            is_replacing: Whether it removes the records whose digests are in the parameter `replaces`.
            has_device: Whether it removes the records of the device in the parameter `device_id`.
        """
        is_removed = [self.is_past_expiry(bindparam("now"))]
        if is_capped:
            is_removed.append(self.columns["created_at"] < bindparam("created_since"))
        if is_replacing:
            is_removed.append(self.columns["digest"].in_(bindparam("replaces", expanding=True)))
        if has_device:
            is_removed.append(self.columns["device_id"] == bindparam("device_id"))
        return self.removal_of(*self._same_user_and_audience, or_(*is_removed))

    @lru_cache(maxsize=8)  # noqa: B019 (as above)
    def renewal(self, *, is_capped: bool, moves_expiry: bool, changes_digest: bool) -> "Renewal":
        """Build the update of a row whose token was used.

        It has the parameters `knox_id`, `knox_digest`, `knox_now` and `knox_unused_since`. No column may have such a
        name, because SQLAlchemy would set that column.

        Args:
            is_capped: Whether the row must have been created no earlier than the parameter `knox_created_since`.
            moves_expiry: Whether its expiry moves to the parameter `knox_expires_at`, if that is later, and its hour to
                the parameter `knox_expiry_hour`.
            changes_digest: Whether the row gets the digest in the parameter `knox_new_digest`.
        """
        columns = self.columns
        now: BindParameter[Any] = bindparam("knox_now")
        values: dict[Any, object] = {columns["last_used_at"]: now}
        where = [
            columns["id"] == bindparam("knox_id"),
            columns["digest"] == bindparam("knox_digest"),
            self.is_live(now, bindparam("knox_created_since") if is_capped else None),
            self.active_at() < bindparam("knox_unused_since"),
        ]
        if moves_expiry:
            where.append(columns["expires_at"] < bindparam("knox_expires_at"))
            where.append(or_(columns["token_ttl"].is_(None), columns["token_ttl"] != timedelta(0)))
            values |= {
                columns["expires_at"]: bindparam("knox_expires_at"),
                columns["expiry_hour"]: bindparam("knox_expiry_hour"),
            }
        if changes_digest:
            values[columns["digest"]] = bindparam("knox_new_digest")
        locked = select(columns["id"]).where(*where).with_for_update(skip_locked=True)
        # The condition is repeated, because the row may change before it is locked.
        renewing = update(self.table).where(*where).values(values)
        return Renewal(
            locking=locked, updating=renewing, both=renewing.where(columns["id"] == locked.scalar_subquery())
        )

    def removal_of(self, *where: ColumnElement[bool]) -> "Removal":
        """Build the removal of the records that match all these conditions."""
        return Removal(
            returning=delete(self.table).where(*where).returning(*self.record),
            finding=select(*self.record).where(*where).with_for_update(),
        )

    def values(self, record: TokenRecord[Any], digest: bytes) -> dict[str, object]:
        """Return the row of a record, as a dictionary of values by column key."""
        values = {self.columns[name].key: getattr(record, name) for name in RECORD}
        hour = hour_of(record.expires_at)
        return {**values, self.columns["digest"].key: digest, self.columns["expiry_hour"].key: hour}

    def is_live(self, now: _Moment, created_since: _Moment | None) -> ColumnElement[bool]:
        """Return the SQL of `TokenRecord.is_live`."""
        unexpired = or_(self.columns["expires_at"].is_(None), self.columns["expires_at"] > now)
        return unexpired if created_since is None else and_(unexpired, self.columns["created_at"] >= created_since)

    def is_past_expiry(self, now: _Moment) -> ColumnElement[bool]:
        """Match the rows that have expired. The index finds them by the hour; the expiry decides."""
        return and_(self.columns["expiry_hour"] <= now, self.columns["expires_at"] <= now)

    def active_at(self) -> ColumnElement[datetime]:
        """Return `TokenRecord.active_at` as an SQL expression."""
        return func.coalesce(self.columns["last_used_at"], self.columns["created_at"])


def statements_for(session: AsyncSession, table: type[Any], users: type[Any] | EllipsisType | None = ...) -> Statements:
    """Return the statements for a session.

    Args:
        session: The session. It must use the same engine for the users and the tokens.
        table: The mapped class of the token records.
        users: The mapped class of the users. `...` means the class that `user_id` refers to, and `None` means that the
            users are not in this database.

    Raises:
        TypeError: `table` is not a token class, or `users` is not a mapped class.
        UserClassError: The user class cannot be found, or uses a different engine from the tokens.
    """
    named = users if users is None or isinstance(users, EllipsisType) else mapper_of("users", users)
    statements = _statements_on(mapper_of("table", table), named)
    if statements.users is not None:
        statements.users.check_bind(session.sync_session, statements.mapper, statements.no_rows)
    return statements


@cache
def _statements_on(tokens: Mapper[Any], users: Mapper[Any] | EllipsisType | None) -> Statements:
    """Build the statements only once for each pair of token class and user class."""
    if not all(name in tokens.columns for name in _COLUMNS):
        raise TypeError(
            "table must be the mapped class of the token records, derived from SQLAlchemyBaseKnoxTokenTable: "
            f"got {tokens.class_.__name__}"
        )
    if any(tokens.columns[name].table is not tokens.local_table for name in _COLUMNS):
        raise TypeError(
            f"table must have all columns of a record in one table, but {tokens.class_.__name__} inherits some from "
            "another table: pass the superclass, or use single-table inheritance"
        )
    return Statements(tokens, None if users is None else find_user_class(tokens, users))
