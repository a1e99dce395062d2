"""What an operator does with tokens in SQL besides the verbs of the store."""

from collections.abc import AsyncIterator, Callable, Sequence
from datetime import datetime
from functools import partial
from typing import Any, TypeVar
from uuid import UUID

from sqlalchemy import Row, Select, func, select

from fastapi_users_knox.records.finding import Finding, clock_finding
from fastapi_users_knox.records.statistics import Liveness, Statistics
from fastapi_users_knox.sqlalchemy.attributes import in_sql
from fastapi_users_knox.sqlalchemy.checks import (
    check_enforcement,
    check_table,
    count_orphans,
    orphans_finding,
    server_time,
)
from fastapi_users_knox.sqlalchemy.database import Work
from fastapi_users_knox.sqlalchemy.keys import id_type
from fastapi_users_knox.sqlalchemy.removing import has_expired, purge_batch
from fastapi_users_knox.sqlalchemy.sessions import commit_keeping_loaded
from fastapi_users_knox.sqlalchemy.snapshots import read
from fastapi_users_knox.sqlalchemy.statistics import count_by_audience, count_by_user, count_users, statistics_of
from fastapi_users_knox.sqlalchemy.store import SQLAlchemyTokenStore
from fastapi_users_knox.sqlalchemy.transactions import run_to_commit
from fastapi_users_knox.sqlalchemy.trouble import raising_store_unavailable
from fastapi_users_knox.sqlalchemy.users_with_tokens import count_users_with_tokens, find_users_with_tokens

__all__ = ["SQLOperations"]

T = TypeVar("T")


class SQLOperations:
    """The operations of a store in SQL."""

    counts_cheaply = True

    def __init__(self, store: SQLAlchemyTokenStore[Any, Any]) -> None:
        """Use the session and the statements of the store."""
        self._database = store._database  # noqa: SLF001 (of the same part of the package)

    def parse_id(self, text: str) -> object:
        """Return the user id that is written as this text, in the type of the column `user_id`."""
        stated = id_type(self._database.sql.mapper)
        return stated(text) if stated in {UUID, int} else text

    async def find_users(self, email: str) -> Sequence[object] | None:
        """Return the ids of the users with an e-mail address, in upper or lower case."""
        users = self._database.sql.users
        column = None if users is None else in_sql(users.mapper, "email")
        if users is None or column is None:
            return None
        found = select(users.columns["id"]).select_from(users.mapper.class_)
        rows = await self._select(found.where(func.lower(column) == func.lower(email)))
        return [row[0] for row in rows]

    async def has_user(self, user_id: object) -> bool | None:
        """Return whether there is such a user; `None` if the store cannot see the users."""
        users = self._database.sql.users
        if users is None:
            return None
        of_id = users.columns["id"]
        return bool(await self._select(select(of_id).select_from(users.mapper.class_).where(of_id == user_id)))

    async def count_expired(self, liveness: Liveness) -> int:
        """Return how many rows `purge` would delete."""
        where = has_expired(self._database.sql, **vars(liveness))
        rows = await self._select(select(func.count()).select_from(self._database.sql.table).where(where))
        return int(rows[0][0])

    async def purge(self, liveness: Liveness, *, batch_size: int) -> AsyncIterator[int]:
        """Delete the rows in batches, skip locked rows, and yield how many rows each batch deleted."""
        where = has_expired(self._database.sql, **vars(liveness))
        work = partial(purge_batch, self._database, where=where, batch_size=batch_size)
        while batch := await run_to_commit(self._database, work):
            yield batch

    async def count(self, liveness: Liveness, *, top: int) -> Statistics:
        """Count the rows by three statements."""
        sql = self._database.sql
        return statistics_of(
            await self._select(count_by_audience(sql, liveness)),
            await self._select(count_users(sql, liveness)),
            await self._select(count_by_user(sql, liveness, top=top)),
        )

    async def count_users(self) -> int | None:
        """Count the users who have tokens."""
        rows = await self._select(count_users_with_tokens(self._database.sql))
        return int(rows[0][0])

    async def users_with_tokens(self, *, before: datetime | None, keep_scoped: bool) -> AsyncIterator[Sequence[object]]:
        """Find the users in the order of their ids, so that each is found once, whatever is stored meanwhile."""
        find = partial(find_users_with_tokens, self._database.sql, before=before, keep_scoped=keep_scoped)
        last: Sequence[object] = ()
        while rows := await self._select(find(after=last)):
            ids = [row[0] for row in rows]
            yield ids
            last = ids[-1:]

    async def check(self, clock: Callable[[], datetime], *, is_application: bool) -> Sequence[Finding]:
        """Check the table, its indexes and its foreign key, whether the key was kept, and the server's clock."""
        sql = self._database.sql
        findings = list(await self._run(partial(check_table, sql=sql)))
        if is_application:
            findings += await self._run(check_enforcement)
        before = clock()
        server = await self._run(server_time)
        if server is not None:
            between = before + (clock() - before) / 2
            findings.append(clock_finding("clock", (server - between).total_seconds()))
        if sql.users is not None and findings[0].status == "ok":
            orphans = await self._select(count_orphans(sql, sql.users.mapper, sql.users.columns["id"]))
            findings.append(orphans_finding(orphans[0][0]))
        return findings

    async def _run(self, work: Work[T]) -> T:
        """Do work that only reads, on the connection of the session."""
        was_idle = not self._database.session.in_transaction()
        with raising_store_unavailable(self._database):
            connection = await self._database.connection(self._database.sql.no_rows)
            done = await connection.run_sync(work)
            if was_idle:
                await commit_keeping_loaded(self._database.session)
            return done

    async def _select(self, statement: Select[Any]) -> Sequence[Row[Any]]:
        """Select rows, and end the transaction if the session had none, so that the next SELECT sees what is new."""
        was_idle = not self._database.session.in_transaction()
        rows = await read(self._database, statement, {}, is_whole=False)
        if was_idle:
            await commit_keeping_loaded(self._database.session)
        return rows
