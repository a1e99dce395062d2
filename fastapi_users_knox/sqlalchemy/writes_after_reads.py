"""The writes that a read causes. They take at most a second, and do not touch the caller's transaction."""

import logging
from datetime import datetime
from typing import TypeVar
from uuid import UUID

from sqlalchemy import Connection, exc

from fastapi_users_knox.errors import describe
from fastapi_users_knox.sqlalchemy.database import Database, Work
from fastapi_users_knox.sqlalchemy.dialects import has_open_sqlite, is_locked
from fastapi_users_knox.sqlalchemy.second_connection import write_on_second_connection
from fastapi_users_knox.sqlalchemy.sessions import commit_keeping_loaded, lasting_options
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
    """Do a write that a read has caused, within a second or not at all.

    Args:
        database: The database.
        work: The write.
        purpose: What the write does, for the log, such as "deleting an expired token".
        id: The id of the record that the write changes.
        now: The current time.
        tried_since: The write is skipped if this process has attempted it since then.

    Returns:
        What the work returns; `None` if the write was skipped.
    """
    if await _needs_idle_session(database):
        return None
    if not database.attempts.claim((purpose, id), now, tried_since=tried_since):
        return None
    try:
        return await _write_in_time(database, work)
    except Exception as error:  # noqa: BLE001 (whatever it is, it must not fail the request)
        if isinstance(error, exc.DBAPIError) and is_locked(error):
            return None  # The transaction that has locked the row does the write.
        _logger.warning("Skipped %s: %s", purpose, describe(error))
        return None


async def _needs_idle_session(database: Database) -> bool:
    """Return whether the write has to wait until the session has no open transaction.

    It has to wait if there is no second connection. On SQLite it also has to wait while the caller has a transaction
    open, because a write on a second connection would make the caller's next write fail.
    """
    if not database.session.in_transaction() or database.is_read_transaction_open():
        return False
    if not database.has_second_connection():
        return True
    return await (await database.connection(database.last_statement)).run_sync(has_open_sqlite)


async def _write_in_time(database: Database, work: Work[T]) -> T:
    """Do the write on a second connection, or on the session's own connection if the session is bound to one.

    The caller's transaction is not touched. A transaction that contains only the store's own read is committed.
    """
    session, bind = database.session, database.bind()
    if isinstance(bind, Connection):
        return await run_once_to_commit(database, work)
    if session.in_transaction():
        database.options = await (await database.connection(database.last_statement)).run_sync(lasting_options)
    database.options = {**database.options, **await database.hook_options()}
    if database.is_read_transaction_open():
        await commit_keeping_loaded(session)
    async with database.turn():
        return await database.run_uncancelled(
            write_on_second_connection(session, bind, database.options, work, no_rows=database.sql.no_rows)
        )
