"""Run a write in one transaction of the caller's session, commit, and retry the write if there is a conflict."""

import asyncio
import random
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import TypeVar

from sqlalchemy import Connection, exc
from sqlalchemy.ext.asyncio import AsyncConnection

from fastapi_users_knox.errors import KnoxError
from fastapi_users_knox.shielding import run_to_the_end
from fastapi_users_knox.sqlalchemy.database import Database, Work
from fastapi_users_knox.sqlalchemy.dialects import begin_writing, is_transient, options_to_write
from fastapi_users_knox.sqlalchemy.hidden import tables_of
from fastapi_users_knox.sqlalchemy.postgresql import OpenTransaction, inspect_transaction, tables_found
from fastapi_users_knox.sqlalchemy.sessions import (
    abandon_transaction,
    commit_keeping_loaded,
    lasting_options,
    refuse_transaction_block,
    with_options,
)
from fastapi_users_knox.sqlalchemy.snapshots import refuse_older_snapshot
from fastapi_users_knox.sqlalchemy.trouble import raising_store_unavailable

__all__ = ["run_once_to_commit", "run_to_commit"]

T = TypeVar("T")

_RETRIES = 3


async def run_to_commit(database: Database, work: Work[T]) -> T:
    """Do the work, commit it with the session's pending changes, and retry it if another transaction conflicts.

    The session's own changes are committed even if the work raises an error. The work runs in a transaction in which
    each statement sees everything committed before it starts. The session's `after_begin` listeners have run for that
    transaction.

    Raises:
        StoreUnavailable: The database cannot be reached, or the work still fails at the 4th attempt because of
            contention.
        KnoxError: The session is in a transaction that the application has to commit itself.
    """
    with raising_store_unavailable(database):
        refuse_transaction_block(database.session.sync_session)
        for attempt in range(_RETRIES):
            try:
                return await run_once_to_commit(database, work)
            except exc.DBAPIError as error:
                if not is_transient(error):
                    raise
            await asyncio.sleep(random.uniform(0, 0.02 * 2**attempt))  # noqa: S311 (not for secrets)
        return await run_once_to_commit(database, work)


async def run_once_to_commit(database: Database, work: Work[T]) -> T:
    """Do the work on the session and commit it, without a second attempt."""
    async with database.turn():
        return await database.run_uncancelled(_run_on_session(database, work))


async def _run_on_session(database: Database, work: Work[T]) -> T:
    """Do the work in the open transaction if possible, to keep its settings, and otherwise in a new transaction."""
    session, sql, bind = database.session, database.sql, database.bind()
    options, is_bound = options_to_write(bind.dialect), isinstance(bind, Connection)
    if is_bound:
        await (await database.connection(sql.no_rows)).run_sync(refuse_older_snapshot)
    async with _abandoning_on_error(database):
        found = OpenTransaction()
        if is_bound or session.in_transaction():
            connection = await database.connection(sql.no_rows)
            database.options = await connection.run_sync(lasting_options)
            found = await connection.run_sync(inspect_transaction, tables_of(sql))
            if is_bound or found.is_joinable:
                return await _run_in_callers_transaction(database, connection, work)
            await _commit_callers_transaction(database)
        session.sync_session.begin()
        connection = await database.connection(sql.no_rows, {**database.options, **options})
        await connection.run_sync(_refuse_other_tables, database, found)
        outcome = await connection.run_sync(_run_with_options, database, work, await database.hook_options())
        await commit_keeping_loaded(session)
        return outcome


async def _run_in_callers_transaction(database: Database, connection: AsyncConnection, work: Work[T]) -> T:
    """Do the work in a SAVEPOINT of the caller's transaction, and commit that transaction even if the work fails."""
    with raising_store_unavailable(database):  # If the application's own changes fail, they cannot be retried.
        await database.session.flush()
    options = await database.hook_options()
    try:
        outcome = await connection.run_sync(_run_in_savepoint, database, work, options)
    except Exception:
        if not connection.invalidated:
            await _commit_callers_transaction(database)
        raise
    await _commit_callers_transaction(database)
    return outcome


async def _commit_callers_transaction(database: Database) -> None:
    """Commit the caller's transaction.

    If the commit fails, the work is not retried, because the caller's changes are lost.
    """
    with raising_store_unavailable(database):
        await commit_keeping_loaded(database.session)


@asynccontextmanager
async def _abandoning_on_error(database: Database) -> AsyncIterator[None]:
    """Leave no transaction open after an error, however often the task is cancelled."""
    callers = database.session.sync_session.get_transaction()
    try:
        yield
    except BaseException:
        await run_to_the_end(database.session.run_sync(abandon_transaction, callers))
        raise


# Each function below runs as a whole in one greenlet.


def _refuse_other_tables(connection: Connection, database: Database, found: OpenTransaction) -> None:
    """Refuse table names that refer to other tables than before the caller's transaction was committed."""
    if found.tables is not None and found.tables != tables_found(connection, tables_of(database.sql)):
        raise KnoxError(
            "the names of the token and user tables refer to different tables than before: a setting of the session's "
            "transaction, such as SET LOCAL search_path, has ended with a commit. Make the setting in an after_begin "
            "event of the session"
        )


def _run_with_options(connection: Connection, database: Database, work: Work[T], options: Mapping[str, object]) -> T:
    """Do the work with the execution options that the application's hooks add."""
    with with_options(connection, options):
        begin_writing(connection, database.sql.no_rows)
        return work(connection)


def _run_in_savepoint(connection: Connection, database: Database, work: Work[T], options: Mapping[str, object]) -> T:
    """Do the work in a SAVEPOINT."""
    with connection.begin_nested():
        return _run_with_options(connection, database, work, options)
