"""The token store over SQL: one prebuilt SELECT for a read, and one transaction for a write."""

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from functools import partial
from types import EllipsisType
from typing import Generic
from uuid import UUID

from sqlalchemy import and_, false, select
from sqlalchemy.ext.asyncio import AsyncSession, async_scoped_session

from fastapi_users_knox.records import (
    ID,
    UP,
    Added,
    Credentials,
    Found,
    LimitPolicy,
    Proof,
    Roll,
    TokenRecord,
    UserSource,
)
from fastapi_users_knox.sqlalchemy.adding import NewToken, add_token, refuse_unsupported_limit
from fastapi_users_knox.sqlalchemy.database import Database
from fastapi_users_knox.sqlalchemy.finding import find_token, list_live
from fastapi_users_knox.sqlalchemy.own_columns import check_own_columns, own_values
from fastapi_users_knox.sqlalchemy.removing import has_expired, purge_batch, remove_all_tokens, remove_token
from fastapi_users_knox.sqlalchemy.sessions import open_session, refuse_transaction_block
from fastapi_users_knox.sqlalchemy.snapshots import read
from fastapi_users_knox.sqlalchemy.statements import statements_for
from fastapi_users_knox.sqlalchemy.table import SQLAlchemyBaseKnoxTokenTable
from fastapi_users_knox.sqlalchemy.transactions import run_to_commit
from fastapi_users_knox.sqlalchemy.updating import renew_token, rotate_token
from fastapi_users_knox.sqlalchemy.writes_after_reads import write_after_read
from fastapi_users_knox.store import check_audience, check_batch_size
from fastapi_users_knox.tokens import PresentedToken

__all__ = ["SQLAlchemyTokenStore"]


class SQLAlchemyTokenStore(Generic[UP, ID]):
    """The `TokenStore` on PostgreSQL, MariaDB, MySQL and SQLite, in the application's own tables.

    A read is one SELECT on the caller's session, in which the token is joined to its user. A read does not flush,
    commit or roll back the session. A write uses the session at READ COMMITTED, and commits it, as FastAPI-Users' own
    adapters do. If `after_begin` events of the session make settings for its transactions, such as a tenant, these
    settings apply to reads and writes.

    Args:
        session: The application's session. Pass the session of the user database, so that one SELECT reads the token
            and its user.
        table: The mapped class of the token records.
        users: The mapped class of the users. By default, the store finds this class by the foreign key of `user_id`; if
            several classes of an inheritance hierarchy match, the store uses the topmost class. `None` means that the
            users are not in this database. In that case, a login neither locks the user's row nor checks the password
            and `is_active` again, and a limit raises `LimitUnsupported`.
        own_columns: A function that is called with the record of each new token. It returns a dictionary with the names
            and values of the columns that you have added to `table`. Missing columns get their defaults. A name that is
            not one of your columns raises `TypeError`, and nothing is stored.

    Attributes:
        sees_users: Whether the store reads and locks the users along with their tokens.

    Raises:
        TypeError: An argument has the wrong type, for example a synchronous session, or the user class as the table.
        UserClassError: The user class cannot be found, uses a different engine from the tokens, or has ids whose type
            differs from the tokens' `user_id`.
    """

    def __init__(
        self,
        session: AsyncSession | async_scoped_session[AsyncSession],
        table: type[SQLAlchemyBaseKnoxTokenTable[ID]],
        *,
        users: type[UP] | EllipsisType | None = ...,
        own_columns: Callable[[TokenRecord[ID]], Mapping[str, object]] | None = None,
    ) -> None:
        """Check the arguments. Nothing is sent to the database."""
        check_own_columns(own_columns)
        own_session = open_session(session)
        self._database = Database(own_session, statements_for(own_session, table, users))
        self._own_columns = own_columns
        self.sees_users: bool = self._database.sql.users is not None

    async def add(
        self,
        record: TokenRecord[ID],
        digest: bytes,
        *,
        now: datetime,
        created_since: datetime | None = None,
        by: UUID | None = None,
        limit: int | None = None,
        limit_policy: LimitPolicy = "reject",
        replaces: Sequence[bytes] = (),
        credentials: Credentials | None = None,
        roll: Roll[ID] | None = None,
    ) -> Added[ID]:
        """Insert a row under a lock on the user's row, so that the logins of one user run one after another."""
        refuse_unsupported_limit(self._database, limit)
        new = NewToken(
            record=record,
            digest=digest,
            now=now,
            created_since=created_since,
            by=by,
            limit=limit,
            limit_policy=limit_policy,
            replaces=replaces,
            credentials=credentials,
            roll=roll,
            own_values=own_values(self._database.sql, self._own_columns, record),
        )
        return await run_to_commit(self._database, partial(add_token, self._database, new=new))

    async def get(
        self,
        token: PresentedToken,
        *,
        audience: str,
        users: UserSource | None = None,
    ) -> Found[UP, ID] | None:
        """Find a row by one indexed SELECT."""
        return await find_token(self._database, token, audience=audience, users=users)

    async def renew(
        self,
        found: Found[UP, ID],
        *,
        now: datetime,
        unused_since: datetime,
        created_since: datetime | None = None,
        expires_at: datetime | None = None,
        digest: bytes | None = None,
    ) -> bool:
        """Update the row in a transaction of its own, unless another transaction has locked it."""
        work = partial(
            renew_token,
            self._database,
            found=found,
            now=now,
            unused_since=unused_since,
            created_since=created_since,
            expires_at=expires_at,
            digest=digest,
        )
        purpose, id_ = "updating last_used_at and expires_at", found.record.id
        renewed = await write_after_read(
            self._database, work, purpose=purpose, id=id_, now=now, tried_since=unused_since
        )
        return renewed or False

    async def rotate(
        self,
        found: Found[UP, ID],
        digest: bytes,
        *,
        now: datetime,
        created_since: datetime | None = None,
        proof: Proof | None = None,
    ) -> bool:
        """Update the row. If there is a `proof`, this happens under a lock on the user's row."""
        work = partial(
            rotate_token,
            self._database,
            found=found,
            digest=digest,
            now=now,
            created_since=created_since,
            proof=proof,
        )
        return await run_to_commit(self._database, work)

    async def remove(
        self, user_id: ID, id: UUID, *, audience: str, now: datetime, created_since: datetime | None = None
    ) -> TokenRecord[ID] | None:
        """Delete one row."""
        work = partial(remove_token, self._database, user_id=user_id, id=id, audience=audience)
        removed = await run_to_commit(self._database, work)
        return next((record for record in removed if record.is_live(now, created_since=created_since)), None)

    async def remove_all(
        self,
        user_id: ID,
        *,
        audience: str | None,
        now: datetime,
        created_since: datetime | None = None,
        keep: UUID | None = None,
        keep_scoped: bool = False,
    ) -> Sequence[TokenRecord[ID]]:
        """Delete the rows with one statement, under the same lock that a login takes."""
        check_audience(audience, keep_scoped=keep_scoped)
        work = partial(
            remove_all_tokens,
            self._database,
            user_id=user_id,
            audience=audience,
            keep=keep,
            keep_scoped=keep_scoped,
        )
        removed = await run_to_commit(self._database, work)
        return [record for record in removed if record.is_live(now, created_since=created_since)]

    async def purge(
        self,
        *,
        audience: str,
        now: datetime,
        created_since: datetime | None = None,
        batch_size: int = 1000,
        seen: Found[UP, ID] | None = None,
        tried_since: datetime | None = None,
    ) -> int:
        """Delete the rows in batches, and skip rows that other transactions have locked."""
        check_batch_size(batch_size)
        sql = self._database.sql
        where = has_expired(sql, audience=audience, now=now, created_since=created_since)
        if seen is not None:
            where = and_(sql.columns["id"] == seen.record.id, where)
        work = partial(purge_batch, self._database, where=where, batch_size=batch_size)
        if seen is not None:
            purpose, id_, since = "deleting an expired token", seen.record.id, tried_since or now
            return (
                await write_after_read(self._database, work, purpose=purpose, id=id_, now=now, tried_since=since) or 0
            )
        purged = 0
        while batch := await run_to_commit(self._database, work):  # A batch that is not full may be followed by more.
            purged += batch
        return purged

    async def list(
        self, user_id: ID, *, audience: str, now: datetime, created_since: datetime | None = None
    ) -> Sequence[TokenRecord[ID]]:
        """Select the rows on the caller's session."""
        return await list_live(self._database, user_id, audience=audience, now=now, created_since=created_since)

    async def ping(self) -> None:
        """Run a SELECT on the token table that matches no row, on the caller's session."""
        await read(self._database, select(self._database.sql.columns["id"]).where(false()), {})

    def refuse_transaction_block(self) -> None:
        """Refuse a session that cannot be committed. The user manager calls this method before it changes a user.

        Raises:
            KnoxError: The session is inside `begin()` or a SAVEPOINT.
        """
        refuse_transaction_block(self._database.session.sync_session)
