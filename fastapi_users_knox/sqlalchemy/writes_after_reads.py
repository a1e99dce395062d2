"""The writes that a read causes. They take at most a second each, and do not touch the caller's transaction."""

import logging
from datetime import datetime
from typing import TypeVar
from uuid import UUID

from sqlalchemy import Connection, exc
from sqlalchemy.ext.asyncio import AsyncConnection

from fastapi_users_knox.errors import describe
from fastapi_users_knox.sqlalchemy.database import Database, Work
from fastapi_users_knox.sqlalchemy.dialects import has_open_sqlite, is_locked
from fastapi_users_knox.sqlalchemy.lazy_begin import has_direct_engine, may_precede_begin
from fastapi_users_knox.sqlalchemy.own_connection import write_on_own_connection
from fastapi_users_knox.sqlalchemy.second_connection import write_on_second_connection
from fastapi_users_knox.sqlalchemy.sessions import commit_keeping_loaded, is_in_block, lasting_options
from fastapi_users_knox.sqlalchemy.transactions import run_once_to_commit

__all__ = ["write_after_read"]

_logger = logging.getLogger("fastapi_users_knox")

T = TypeVar("T")


async def write_after_read(
    database: Database,
    work: Work[T],
    *,
    purpose: str,
    id: UUID,
    now: datetime,
    tried_since: datetime,
) -> T | None:
    """Do a write that a read has caused, or skip it if it cannot be done within a second.

    Args:
        database: The database.
        work: The write.
        purpose: What the write does, for the log, such as "deleting an expired token".
        id: The id of the record that the write changes.
        now: The current time.
        tried_since: The write is skipped if this process has already attempted it since this time.

    Returns:
        What `work` returns; `None` if the write was skipped.
    """
    if await _needs_idle_session(database):
        return None
    if not database.attempts.claim((purpose, id), now, tried_since=tried_since):
        return None
    try:
        return await _write_in_time(database, work)
    except Exception as error:  # noqa: BLE001 (no error of this write may fail the request)
        if isinstance(error, exc.DBAPIError) and is_locked(error):
            return None  # Another transaction is writing to the row.
        _logger.warning("Skipped %s: %s", purpose, describe(error))
        return None


async def _needs_idle_session(database: Database) -> bool:
    """Return whether the write has to wait until the session has no open transaction.

    The write has to wait if there is no second connection. On SQLite, it also has to wait while the caller has a
    transaction open, because a write on a second connection would make the caller's next write fail.
    """
    if not database.session.in_transaction() or database.is_read_transaction_open():
        return False
    if not database.has_second_connection():
        return True
    return await (await database.connection(database.last_statement)).run_sync(has_open_sqlite)


async def _write_in_time(database: Database, work: Work[T]) -> T:
    """Write on the session's own connection if its driver has begun no transaction, else on a second connection."""
    session, bind = database.session, database.bind()
    if isinstance(bind, Connection):
        return await run_once_to_commit(database, work)
    if session.in_transaction():
        connection = await database.connection(database.last_statement)
        if _is_free(database, connection):
            return await write_on_own_connection(session, connection, work)
        database.options = await connection.run_sync(lasting_options)
    database.options = {**database.options, **await database.hook_options()}
    if database.is_read_transaction_open():
        await commit_keeping_loaded(session)
    async with database.turn():
        return await database.run_uncancelled(
            write_on_second_connection(session, bind, database.options, work, no_rows=database.sql.no_rows)
        )


def _is_free(database: Database, connection: AsyncConnection) -> bool:
    """Return whether a transaction on the session's own connection concerns nobody else: its driver has begun none."""
    session, own = database.session.sync_session, connection.sync_connection
    return (
        own is not None
        and not is_in_block(session)
        and has_direct_engine(session, database.bind())
        and may_precede_begin(session, own)
    )
