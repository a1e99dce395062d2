"""Reading tokens on the caller's session, and reading them again if the transaction may show an older state."""

from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import Connection, Engine, Row, Select
from sqlalchemy.orm import Mapper

from fastapi_users_knox.errors import KnoxError
from fastapi_users_knox.sqlalchemy.database import Database, Work
from fastapi_users_knox.sqlalchemy.dialects import sees_latest
from fastapi_users_knox.sqlalchemy.reading import fetch
from fastapi_users_knox.sqlalchemy.second_connection import read_on_second_connection
from fastapi_users_knox.sqlalchemy.sessions import commit_keeping_loaded, lasting_options
from fastapi_users_knox.sqlalchemy.trouble import raising_store_unavailable

__all__ = ["read", "read_latest", "refuse_older_snapshot"]


async def read(
    database: Database,
    statement: Select[Any],
    parameters: Mapping[str, object],
    *,
    entity: Mapper[Any] | None = None,
    is_whole: bool = True,
) -> Sequence[Row[Any]]:
    """Read on the caller's session, which is not flushed, committed or rolled back.

    Args:
        database: The database.
        statement: The SELECT.
        parameters: Its parameters.
        entity: The mapper of the class whose objects the SELECT loads; `None` if it selects columns only.
        is_whole: Whether a write that this read causes comes before the application uses the session again.
    """
    session = database.session
    with raising_store_unavailable(database):
        database.last_statement, was_idle = statement, not session.in_transaction()
        rows, is_first = await fetch(session, statement, parameters, mapper=database.sql.mapper, entity=entity)
        database.saw_latest = is_first and isinstance(database.bind(), Engine)
        # A transaction that this read began contains no work of the application, so a write after the read may end it.
        database.read_transaction = session.sync_session.get_transaction() if was_idle and is_whole else None
        if was_idle and not rows:
            # Another authentication backend may look for the same token next, and must do so in a new transaction.
            await commit_keeping_loaded(session)
        return rows


async def read_latest(
    database: Database, statement: Select[Any], parameters: Mapping[str, object], *, explain: Work[None]
) -> Sequence[Row[Any]] | None:
    """Read again on a second connection if the caller's transaction may see an older snapshot.

    Returns `None` if no second read is necessary.

    Args:
        database: The database.
        statement: The SELECT.
        parameters: Its parameters.
        explain: A function that is called if no row is found any more, and raises an error if the rows are only hidden.

    Raises:
        StoreUnavailable: No second connection is free in time, so it is unknown whether the token has been revoked.
        KnoxError: The session is bound to a connection that shows an older snapshot, or the second connection lacks a
            setting that the application has made for the session's transaction.
    """

    def read_or_explain(connection: Connection) -> Sequence[Row[Any]]:
        """Read, and raise an error if the rows are only hidden."""
        rows = connection.execute(statement, parameters).all()
        if not rows:
            explain(connection)
        return rows

    with raising_store_unavailable(database):
        connection, bind = await database.connection(database.last_statement), database.bind()
        if isinstance(bind, Connection):
            await connection.run_sync(refuse_older_snapshot)
            return None
        if not database.has_second_connection() or await connection.run_sync(sees_latest):
            return None
        database.options = {**await connection.run_sync(lasting_options), **await database.hook_options()}
        return await read_on_second_connection(database.session, bind, database.options, read_or_explain)


def refuse_older_snapshot(connection: Connection) -> None:
    """Refuse a connection whose transaction may show an older snapshot, in which revoked tokens are still live.

    Raises:
        KnoxError: The transaction does not see what other transactions commit.
    """
    if connection.dialect.name != "sqlite" and not sees_latest(connection):
        raise KnoxError(
            "the session is bound to a connection whose isolation level is not READ COMMITTED, so it may show revoked "
            'tokens: pass isolation_level="READ COMMITTED" to create_async_engine'
        )
