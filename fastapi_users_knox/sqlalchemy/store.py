"""The token store over SQL: one prebuilt SELECT to read, one transaction of its own to write."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from functools import partial
from types import EllipsisType
from typing import Any, Generic
from uuid import UUID

from sqlalchemy import ColumnElement, Connection, Row, and_, delete, or_, select, update
from sqlalchemy.ext.asyncio import AsyncSession, async_scoped_session

from fastapi_users_knox.errors import CredentialsChanged, InvalidToken, KnoxError, LimitUnsupported, TokenLimitReached
from fastapi_users_knox.records import ID, UP, Added, Credentials, Found, LimitPolicy, TokenRecord, UserSource
from fastapi_users_knox.sqlalchemy.attributes import active_by_row_and_object
from fastapi_users_knox.sqlalchemy.dialects import locks_rows
from fastapi_users_knox.sqlalchemy.hidden import refuse_hidden
from fastapi_users_knox.sqlalchemy.sessions import open_session, refuse_transaction_block
from fastapi_users_knox.sqlalchemy.statements import Removal, record_of, statements_for
from fastapi_users_knox.sqlalchemy.table import SQLAlchemyBaseKnoxTokenTable
from fastapi_users_knox.sqlalchemy.transactions import T, Transactions, Work
from fastapi_users_knox.store import check_batch_size
from fastapi_users_knox.tokens import PresentedToken

__all__ = ["SQLAlchemyTokenStore"]


class SQLAlchemyTokenStore(Generic[UP, ID]):
    """The `TokenStore` on PostgreSQL, MariaDB, MySQL and SQLite, in the application's own tables.

    Reading is one SELECT, token joined to user, on the caller's session, which it neither flushes, commits nor rolls
    back. Writing is done on the session at READ COMMITTED, and commits it, as FastAPI-Users' own adapters do. What the
    application sets for its session's transactions in `after_begin` events, such as a tenant, holds for both.

    Args:
        session: The application's session, the same as its user database's where the two are to be read at once.
        table: The mapped class of the token records.
        users: The mapped class of the users. Unless it is given, it is found by the foreign key of `user_id`; where
            several classes of an inheritance hierarchy fit, it is the topmost. `None` states that the users are not in
            this database: then a login does not lock its user and does not look at the password and the activity
            again, and a limit is refused with `LimitUnsupported`.

    Attributes:
        sees_users: Whether the store reads and locks the users along with their tokens.

    Raises:
        TypeError: An argument is not what it should be, such as a synchronous session, or the user class for the table.
        UserClassError: The users cannot be found, are on another engine than the tokens, or have ids of another type.
    """

    def __init__(
        self,
        session: AsyncSession | async_scoped_session[AsyncSession],
        table: type[SQLAlchemyBaseKnoxTokenTable[ID]],
        *,
        users: type[UP] | EllipsisType | None = ...,
    ) -> None:
        """Take the session; nothing is sent yet."""
        own_session = open_session(session)
        self._sql = statements_for(own_session, table, users)
        self._transactions = Transactions(own_session, self._sql)
        self.sees_users: bool = self._sql.users is not None
        self._has_read = False  # Whether there is a token that has been read, and not been removed since.

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
    ) -> Added[ID]:
        """Store a record, under a lock on the user's row that puts the logins of one user in order."""
        if limit is not None and self._sql.user is None:
            raise LimitUnsupported(
                "token_limit_per_user needs user_id to be a foreign key to users that the store sees: it cannot keep a "
                "limit exact with users=None, as it has no row of theirs to lock"
            )
        removal = self._sql.removal_at_login(
            is_capped=created_since is not None, is_replacing=bool(replaces), has_device=record.device_id is not None
        )
        told = {
            "user_id": record.user_id,
            "audience": record.audience,
            "now": now,
            "created_since": created_since,
            "replaces": replaces,
            "device_id": record.device_id,
        }

        def work(connection: Connection) -> Added[ID]:
            # The lock comes first: a DELETE before it dead-locks MariaDB when many logins meet.
            self._check_user(connection, record.user_id, credentials)
            self._check_authorizing(connection, record.user_id, by, now)
            ended = self._remove(connection, removal, told)
            evicted = self._make_room(connection, record, limit, limit_policy)
            connection.execute(self._sql.insert, self._sql.values(record, digest))
            alive = [old for old in ended if old.is_live(now, created_since=created_since)]
            dead = [old for old in ended if old not in alive]
            return Added(expired=tuple(dead), replaced=tuple(alive), evicted=tuple(evicted))

        return await self._transactions.write(work)

    async def get(
        self,
        token: PresentedToken,
        *,
        audience: str,
        users: UserSource | None = None,
    ) -> Found[UP, ID] | None:
        """Find a record by one indexed SELECT."""
        with_user = self._loads_from(users)
        digests = token.digests
        parameters = {f"digest_{number}": digest for number, digest in enumerate(digests)} | {"audience": audience}
        statement = self._sql.find(len(digests), with_user=with_user)
        rows = await self._transactions.read(statement, parameters, is_whole=with_user or users is None)
        if not rows:
            return None
        found: Found[UP, ID] = self._found(*rows[0]) if with_user else self._found(None, rows[0])
        self._has_read = True
        if self._transactions.is_current or found.is_active is False:
            return found
        # In a transaction that was open before, the row may be of an older snapshot, and the token ended since.
        statement, explain = self._sql.find(len(digests), with_user=False), self._explaining(found.record.user_id)
        current = await self._transactions.read_latest(statement, parameters, explain=explain)
        if current is None:
            return found
        return self._found(found.user, current[0]) if current else None

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
        """Update the one row; whoever finds it locked leaves the write to whoever has locked it."""
        of = self._sql.of
        where = [self._is_found(found), self._sql.is_live(now, created_since), self._sql.active_at() < unused_since]
        values: dict[Any, object] = {of["last_used_at"]: now}
        if expires_at is not None:
            where.append(of["expires_at"] < expires_at)
            values[of["expires_at"]] = expires_at
        if digest is not None:
            values[of["digest"]] = digest

        def work(connection: Connection) -> bool:
            if not self._lock_unlocked(connection, 1, *where):
                return False
            connection.execute(update(self._sql.table).where(*where).values(values))
            return True

        return await self._try_beside(("renew", found.record.id), now, unused_since, work) or False

    async def rotate(
        self, found: Found[UP, ID], digest: bytes, *, now: datetime, created_since: datetime | None = None
    ) -> bool:
        """Update the row: a DELETE and an INSERT would hide the new row from a logout-all under way."""
        where = (self._is_found(found), self._sql.is_live(now, created_since))

        def work(connection: Connection) -> bool:
            values = {self._sql.of["digest"]: digest}
            result = connection.execute(update(self._sql.table).where(*where).values(values))
            if not result.rowcount:
                self._explain(connection, found.record.user_id)
            return result.rowcount == 1

        return await self._transactions.write(work)

    async def remove(
        self, user_id: ID, id: UUID, *, audience: str, now: datetime, created_since: datetime | None = None
    ) -> TokenRecord[ID] | None:
        """Delete one row."""
        told = {"id": id, "user_id": user_id, "audience": audience}

        def work(connection: Connection) -> Sequence[TokenRecord[ID]]:
            ended = self._remove(connection, self._sql.removal, told)
            if not ended:
                self._explain(connection, user_id)
            return ended

        ended = await self._transactions.write(work)
        return next((record for record in ended if record.is_live(now, created_since=created_since)), None)

    async def remove_all(
        self,
        user_id: ID,
        *,
        audience: str | None,
        now: datetime,
        created_since: datetime | None = None,
        keep: UUID | None = None,
    ) -> Sequence[TokenRecord[ID]]:
        """Delete them by one statement, which sees each record that an `add` before it has stored."""
        of = self._sql.of
        where = [of["user_id"] == user_id]
        if audience is not None:
            where.append(of["audience"] == audience)
        if keep is not None:
            where.append(of["id"] != keep)
        removal = self._sql.removal_of(*where)

        def work(connection: Connection) -> Sequence[TokenRecord[ID]]:
            # A DELETE that waits for an `add` to commit would not see what that has inserted.
            is_locked = locks_rows(connection) and self._lock(connection, user_id) is not None
            if not is_locked:
                self._explain(connection, user_id)
            return self._remove(connection, removal)

        ended = await self._transactions.write(work)
        return [record for record in ended if record.is_live(now, created_since=created_since)]

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
        """Delete by primary key what an indexed SELECT finds, leaving out what is locked."""
        check_batch_size(batch_size)
        of = self._sql.of
        dead = of["expires_at"] <= now
        if created_since is not None:
            dead = or_(dead, and_(of["audience"] == audience, of["created_at"] < created_since))
        if seen is not None:
            dead = and_(of["id"] == seen.record.id, dead)

        def work(connection: Connection) -> int:
            ids = self._lock_unlocked(connection, batch_size, dead)
            # The condition stands here again, as an expiry may have moved between the two statements.
            result = connection.execute(delete(self._sql.table).where(of["id"].in_(ids), dead))
            return result.rowcount

        if seen is not None:
            return await self._try_beside(("purge", seen.record.id), now, tried_since or now, work) or 0
        purged = last = await self._transactions.write(work)
        while last == batch_size:
            last = await self._transactions.write(work)
            purged += last
        return purged

    async def list(
        self, user_id: ID, *, audience: str, now: datetime, created_since: datetime | None = None
    ) -> Sequence[TokenRecord[ID]]:
        """Select them on the caller's session."""
        of = self._sql.of
        statement = (
            select(*self._sql.record)
            .where(of["user_id"] == user_id, of["audience"] == audience, self._sql.is_live(now, created_since))
            .order_by(of["created_at"].desc(), of["id"])
        )
        return [record_of(row) for row in await self._transactions.read(statement, {}, is_whole=False)]

    def refuse_transaction_block(self) -> None:
        """Refuse a session that cannot be committed: the user manager asks before it changes a user.

        Raises:
            KnoxError: The session is inside of `begin()` or of a SAVEPOINT.
        """
        refuse_transaction_block(self._transactions.session.sync_session)

    # What follows serves the verbs above, in their order.

    def _loads_from(self, users: UserSource | None) -> bool:
        """Return whether the users are loaded from this session and this class, so that a join can load them too."""
        return users is not None and users.user_class is self._sql.user and users.session is self._transactions.session

    def _found(self, user: UP | None, seen: Sequence[Any]) -> Found[UP, ID]:
        """Tell what a SELECT has found, by the columns it gives."""
        is_active = None if self._sql.user is None else active_by_row_and_object(seen[1], user)
        return Found(record=record_of(seen), digest=seen[0], is_active=is_active, user=user)

    def _lock(self, connection: Connection, user_id: ID) -> Row[Any] | None:
        """Put the verbs of one user in order by the user's row, and return the credentials that are stored there."""
        return (
            None if self._sql.users is None else connection.execute(self._sql.users.lock, {"user_id": user_id}).first()
        )

    def _check_user(self, connection: Connection, user_id: ID, credentials: Credentials | None) -> None:
        """Lock the user's row, and see that the user is still who has logged in."""
        if self._sql.users is None:
            return
        row = self._lock(connection, user_id)
        if row is None:
            self._explain(connection, user_id)
        if row is None or (credentials and not _is_unchanged(row, credentials)):
            raise CredentialsChanged

    def _check_authorizing(self, connection: Connection, user_id: ID, by: UUID | None, now: datetime) -> None:
        """See that the record on whose strength another is issued is there, and keep it there until the commit."""
        if by is None:
            return
        if self._sql.users is None:
            raise KnoxError(
                "issue(by=) needs a store that sees the users: with users=None there is no row of theirs to lock, so a "
                "logout-all could miss what is issued at the same time"
            )
        of = self._sql.of
        where = (of["id"] == by, of["user_id"] == user_id, self._sql.is_live(now, None))
        if connection.execute(select(of["id"]).where(*where).with_for_update()).first() is None:
            raise InvalidToken

    def _make_room(
        self, connection: Connection, record: TokenRecord[ID], limit: int | None, policy: LimitPolicy
    ) -> Sequence[TokenRecord[ID]]:
        """See that one more record keeps within the limit, by ending as many others as it takes; all are live."""
        if limit is None:
            return ()
        mine = {"user_id": record.user_id, "audience": record.audience}
        excess = connection.execute(self._sql.count, mine).scalar_one() + 1 - limit
        if excess <= 0:
            return ()
        if policy == "reject":
            raise TokenLimitReached(limit)
        of = self._sql.of
        age = of["created_at"] if policy == "evict_oldest" else self._sql.active_at()
        where = (of["user_id"] == record.user_id, of["audience"] == record.audience)
        oldest = select(of["id"]).where(*where).order_by(age, of["id"]).limit(excess)
        ids = connection.execute(oldest).scalars().all()
        return self._remove(connection, self._sql.removal_of(of["id"].in_(ids)))

    def _explain(self, connection: Connection, user_id: ID) -> None:
        """Raise if nothing was found of a user where the application's own settings would have shown it."""
        refuse_hidden(connection, self._sql, user_id, has_read=self._has_read)

    def _explaining(self, user_id: ID) -> Work[None]:
        return partial(self._explain, user_id=user_id)

    def _remove(
        self, connection: Connection, removal: Removal, told: Mapping[str, object] | None = None
    ) -> Sequence[TokenRecord[ID]]:
        """Delete rows and return their records, by one statement where the database has DELETE ... RETURNING."""
        if connection.dialect.delete_returning:
            records = [record_of(row) for row in connection.execute(removal.returning, told)]
            self._has_read = self._has_read and not records
            return records
        records = [record_of(row) for row in connection.execute(removal.finding, told)]
        connection.execute(delete(self._sql.table).where(self._sql.of["id"].in_([old.id for old in records])))
        return records

    def _is_found(self, found: Found[UP, ID]) -> ColumnElement[bool]:
        """Match the row only while it is still stored under the digest it was found under."""
        return and_(self._sql.of["id"] == found.record.id, self._sql.of["digest"] == found.digest)

    def _lock_unlocked(self, connection: Connection, most: int, *where: ColumnElement[bool]) -> Sequence[UUID]:
        statement = select(self._sql.of["id"]).where(*where).limit(most).with_for_update(skip_locked=True)
        return connection.execute(statement).scalars().all()

    async def _try_beside(
        self, what: tuple[str, UUID], now: datetime, tried_since: datetime, work: Work[T]
    ) -> T | None:
        """Write beside a read, unless this process has tried the same lately."""
        if await self._transactions.must_wait():
            return None
        if not self._transactions.attempts.claim(what, now, tried_since=tried_since):
            return None
        return await self._transactions.beside(work)


def _is_unchanged(row: Row[Any], credentials: Credentials) -> bool:
    """Whether the user's row is still what the login was checked by; SQL may give 1 for true, and null for false."""
    hashed_password, is_active = row
    return (hashed_password, bool(is_active)) == (credentials.hashed_password, bool(credentials.is_active))
