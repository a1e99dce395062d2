"""Reading the stored row of a user. The objects in the session may have other values than the row."""

from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field
from functools import cache, partial
from typing import Any, Generic, cast

from sqlalchemy import ColumnElement, Connection, RowMapping, Select, Table, bindparam, event, select
from sqlalchemy.ext.asyncio import AsyncSession, async_scoped_session
from sqlalchemy.orm import Mapper, Session, class_mapper

from fastapi_users_knox.errors import KnoxError, UserClassError
from fastapi_users_knox.records import ID, UP, Credentials
from fastapi_users_knox.sqlalchemy.attributes import in_sql, why_not_in_sql
from fastapi_users_knox.sqlalchemy.postgresql import has_row_security
from fastapi_users_knox.sqlalchemy.reading import fetch
from fastapi_users_knox.sqlalchemy.second_connection import has_second_connection, read_on_second_connection
from fastapi_users_knox.sqlalchemy.sessions import (
    commit_keeping_loaded,
    lasting_options,
    load_identity,
    open_session,
    refuse_transaction_block,
    roll_back_keeping_loaded,
)

__all__ = ["UserRows"]

StoredRow = Mapping[str, object]

_CREDENTIALS = ("hashed_password", "is_active", "email")


@dataclass(frozen=True)
class UserRows(Generic[UP, ID]):
    """The rows of the users in a user database.

    Attributes:
        session: The session of the user database.
        user_class: The mapped class of the users.
        load: A function that loads a user by id, as the user database does.
    """

    session: AsyncSession | async_scoped_session[AsyncSession]
    user_class: type[Any]
    load: Callable[[ID], Awaitable[UP | None]] = field(kw_only=True)

    async def credentials(self, id: ID, *, latest: bool = False) -> Credentials | None:
        """Return the stored credentials of a user; `None` if there is no row.

        Args:
            id: The user's id.
            latest: Whether the SELECT runs in a new transaction, which sees everything committed before. To begin that
                transaction, the session is committed, as at a login.

        Raises:
            KnoxError: The session is inside `begin()`, where it cannot be committed.
            UserClassError: The user class maps `hashed_password` or `is_active` to nothing that SQL can select.
        """
        session, mapper = open_session(self.session), class_mapper(self.user_class)
        if latest:
            self.refuse_transaction_block()
            await commit_keeping_loaded(session)
        rows, _ = await fetch(session, _find_credentials(mapper), {"id": id}, mapper=mapper)
        if latest:
            await commit_keeping_loaded(session)
        return Credentials(hashed_password=rows[0][0], is_active=bool(rows[0][1])) if rows else None

    def refuse_transaction_block(self) -> None:
        """Raise `KnoxError` if the session is inside `begin()`."""
        refuse_transaction_block(open_session(self.session).sync_session)

    async def stored(self, id: ID) -> StoredRow:
        """Return a user's values by attribute name, as the session's transaction sees them; empty if there is no row.

        The values include `is_active` and the other credentials even if these are hybrid attributes.
        """
        session = open_session(self.session)
        with session.no_autoflush:
            found = await session.execute(self._row_of(id), bind_arguments=self._routing(id))
            row = _by_name(found.mappings().one_or_none())
            if not row or "is_active" in row:
                return row
            user = await self.load(id)  # The application computes `is_active` in Python.
            return {**row, "is_active": await session.run_sync(lambda _: user is not None and user.is_active)}

    async def committed(self, user: UP, id: ID) -> StoredRow | None:
        """Return the committed row of a user; `None` if no row was found and row-level security may be hiding it.

        The row is read over a second connection, because the session may see flushed changes that are not committed. If
        the second connection fails, the session is rolled back, and then reads the row.
        """
        try:
            return await self._read_committed(id)
        except Exception:  # noqa: BLE001 (whatever it is, the session may still be able to read)
            await self.roll_back(user)
            return await open_session(self.session).run_sync(self._read_on_session, id)

    def id_of(self, user: UP) -> ID:
        """Return the id of a user without sending a SELECT, even if the object is expired."""
        load_identity(user)
        return cast("ID", user.id)

    @property
    def derives_activity(self) -> bool:
        """Whether `is_active` is computed instead of being a column."""
        return "is_active" not in class_mapper(self.user_class).column_attrs

    @contextmanager
    def noting_commits(self) -> Iterator[list[object]]:
        """Yield a list that gets one item for each commit of the session."""
        session = open_session(self.session).sync_session
        commits: list[object] = []

        def note(committed: Session) -> None:
            """Note a commit."""
            commits.append(committed)

        event.listen(session, "after_commit", note)
        try:
            yield commits
        finally:
            event.remove(session, "after_commit", note)

    def is_pending(self, user: UP) -> bool:
        """Return whether the session has an unflushed change or deletion of this user."""
        session = open_session(self.session)
        return user in session.dirty or user in session.deleted

    async def flush(self) -> None:
        """Flush the session."""
        await open_session(self.session).flush()

    async def commit(self) -> None:
        """Commit the session without expiring loaded objects."""
        await commit_keeping_loaded(open_session(self.session))

    async def roll_back(self, user: UP) -> None:
        """Roll back the session without expiring loaded objects."""
        await roll_back_keeping_loaded(open_session(self.session), user)

    def sharing_session(self) -> AbstractContextManager[None]:
        """Return a context manager in which other tasks share this task's session, even if it is scoped by task."""
        scoped = self.session
        return _sharing(scoped, scoped()) if isinstance(scoped, async_scoped_session) else nullcontext()

    async def _read_committed(self, id: ID) -> StoredRow | None:
        """Read the row over a second connection, with the options and listeners of the session."""
        session = open_session(self.session)
        bind = session.sync_session.get_bind(**self._routing(id))
        if not has_second_connection(bind):
            raise KnoxError("the session's database has no second connection")
        options: Mapping[str, object] = {}
        if session.in_transaction():
            options = await (await session.connection(self._routing(id))).run_sync(lasting_options)
        return await read_on_second_connection(session, bind.engine, options, partial(self._read, id=id))

    def _read_on_session(self, session: Session, id: ID) -> StoredRow | None:
        """Read the row on the session's connection."""
        return self._read(session.connection(self._routing(id)), id)

    def _read(self, connection: Connection, id: ID) -> StoredRow | None:
        """Return the row; `None` if row-level security may hide it."""
        row = connection.execute(self._row_of(id)).mappings().one_or_none()
        return None if row is None and self._may_hide(connection) else _by_name(row)

    def _may_hide(self, connection: Connection) -> bool:
        """Return whether row-level security is in force for the users, so that it may hide an existing user."""
        tables = [table for table in class_mapper(self.user_class).tables if isinstance(table, Table)]
        is_postgresql = connection.dialect.name == "postgresql"
        return is_postgresql and bool(connection.execute(select(has_row_security(connection, tables))).scalar_one())

    def _row_of(self, id: ID) -> Select[Any]:
        """Build the SELECT of a row, including credentials that are hybrid attributes."""
        table = self.user_class
        mapper = class_mapper(table)
        columns = {attribute.key: attribute.class_attribute for attribute in mapper.column_attrs}
        needed = {name: in_sql(mapper, name) for name in _CREDENTIALS}
        columns |= {name: expression for name, expression in needed.items() if expression is not None}
        return select(*[column.label(f"knox_{name}") for name, column in columns.items()]).where(table.id == id)

    def _routing(self, id: ID) -> dict[str, Any]:
        """Return the arguments with which a session that has several engines chooses the engine."""
        return {"mapper": class_mapper(self.user_class), "clause": self._row_of(id)}


def _by_name(row: RowMapping | None) -> StoredRow:
    """Return the values of a row by attribute name; empty if there is no row."""
    return {} if row is None else {str(name).removeprefix("knox_"): value for name, value in row.items()}


@contextmanager
def _sharing(scoped: async_scoped_session[AsyncSession], session: AsyncSession) -> Iterator[None]:
    """Use this session in the current scope, unless the scope already has a session."""
    if scoped.registry.has():  # Sessions are scoped by something other than the task, such as the request.
        yield
        return
    scoped.registry.set(session)
    try:
        yield
    finally:
        scoped.registry.clear()  # The session stays open.


@cache
def _find_credentials(users: Mapper[Any]) -> Select[Any]:
    """Build the SELECT of the credentials once for each class."""
    columns = [_expression(users, name) for name in ("hashed_password", "is_active")]
    return select(*columns).where(users.class_.id == bindparam("id"))


def _expression(users: Mapper[Any], name: str) -> ColumnElement[Any]:
    """Return the SQL expression of an attribute, or raise `UserClassError`."""
    expression = in_sql(users, name)
    if expression is None:
        reason = why_not_in_sql(users, name)
        raise UserClassError(f"user_db must have a user class that SQL can read: {users.class_.__name__}: {reason}")
    return expression
