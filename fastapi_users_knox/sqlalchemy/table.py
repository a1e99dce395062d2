"""The token table: mixins in the style of fastapi-users-db-sqlalchemy."""

import uuid
from contextlib import suppress
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, Generic

from sqlalchemy import Boolean, Connection, ForeignKey, String, delete, event, inspect, select, text
from sqlalchemy.exc import NoReferencedTableError
from sqlalchemy.orm import Mapped, Mapper, class_mapper, declared_attr, mapped_column, object_session

from fastapi_users_knox.records import ID
from fastapi_users_knox.sqlalchemy.column_types import (
    DIGEST_TYPE,
    UUID_TYPE,
    Data,
    Milliseconds,
    Scopes,
    UTCDateTime,
    exact_text,
    unicode_text,
)
from fastapi_users_knox.sqlalchemy.expiry_hours import UNKNOWN_HOUR, hour_of, hour_of_row
from fastapi_users_knox.sqlalchemy.indexes import add_index_and_free_space
from fastapi_users_knox.sqlalchemy.keys import check_key, referred_columns
from fastapi_users_knox.sqlalchemy.user_class import topmost_on

__all__ = ["SQLAlchemyBaseKnoxTokenTable", "SQLAlchemyBaseKnoxTokenTableUUID"]


class SQLAlchemyBaseKnoxTokenTable(Generic[ID]):
    """A table of token records, generic in the type of the user's id. To add columns, subclass it.

    `user_id` refers to the `id` of a table named "user"; override it if your users' table has a different name. It gets
    its type from the column it refers to, so do not pass a type. When SQLAlchemy configures the classes,
    `UserClassError` is raised for a type that stores the same id in a different form, for an `ID` that the column
    cannot store, and for a column that is not unique by itself, such as one half of a primary key.

    `expiry_hour` is the hour in which `expires_at` lies, rounded down. It is set along with `expires_at` by an INSERT,
    and when you set the attribute of an object. In an UPDATE statement of your own, set both. Expired rows are found by
    their hour, because an index on `expires_at` would have to change at every refresh.
    """

    __tablename__ = "knox_token"

    @classmethod
    def __declare_last__(cls) -> None:
        """Make the ORM delete the tokens of every user that it deletes, whatever the foreign key does.

        Otherwise, if the database does not enforce foreign keys (SQLite's default), the old tokens would be valid for a
        new user with the same id. If it enforces foreign keys without a cascade, the user could not be deleted.
        """
        tokens: Mapper[Any] | None = inspect(cls, raiseerr=False)
        if tokens is None:
            return  # SQLAlchemy calls this even for a class whose registry was disposed.
        with suppress(NoReferencedTableError):  # The users are not mapped yet. This is called again once they are.
            for users in {mapper for key in referred_columns(tokens) for mapper in topmost_on(key.table)}:
                if not event.contains(users.class_, "before_delete", cls._delete_tokens):
                    event.listen(users.class_, "before_delete", cls._delete_tokens, propagate=True)

    @classmethod
    def _delete_tokens(cls, users: Mapper[Any], connection: Connection, user: object) -> None:
        """Delete the tokens of a user in the same transaction, before the rows of the user."""
        tokens, session = class_mapper(cls), object_session(user)
        statement = delete(tokens.class_)
        if session is not None and session.get_bind(tokens, clause=statement).engine is not connection.engine:
            return
        for key in referred_columns(tokens):
            value = getattr(user, users.get_property_by_column(key).key)
            # The rows of the user are locked first, as at a login. Thus a login can neither run between the two
            # statements nor deadlock with them.
            lock = select(key).select_from(users.persist_selectable).where(key == value)
            connection.execute(lock.with_for_update(of=users.tables))
            connection.execute(statement.where(tokens.columns["user_id"] == value))

    if TYPE_CHECKING:
        id: uuid.UUID
        digest: bytes
        user_id: ID
        audience: str
        created_at: datetime
        authenticated_at: datetime
        expires_at: datetime | None
        expiry_hour: datetime | None
        last_used_at: datetime | None
        name: str | None
        device_id: str | None
        user_agent: str | None
        ip_address: str | None
        scopes: frozenset[str] | None
        data: dict[str, Any]
        token_ttl: timedelta | None
        browser_session: bool
    else:
        id: Mapped[uuid.UUID] = mapped_column(UUID_TYPE, primary_key=True)
        digest: Mapped[bytes] = mapped_column(DIGEST_TYPE, unique=True, nullable=False)
        audience: Mapped[str] = mapped_column(exact_text(64), nullable=False)
        created_at: Mapped[datetime] = mapped_column(UTCDateTime, nullable=False)
        authenticated_at: Mapped[datetime] = mapped_column(UTCDateTime, nullable=False)
        expires_at: Mapped[datetime | None] = mapped_column(UTCDateTime)
        # The database's default serves rows that are inserted without SQLAlchemy, or by a release without this column.
        expiry_hour: Mapped[datetime | None] = mapped_column(
            UTCDateTime, index=True, default=hour_of_row, server_default=text(f"'{UNKNOWN_HOUR:%Y-%m-%d %H:%M:%S.%f}'")
        )
        last_used_at: Mapped[datetime | None] = mapped_column(UTCDateTime)
        name: Mapped[str | None] = mapped_column(unicode_text(128))
        device_id: Mapped[str | None] = mapped_column(exact_text(128))
        user_agent: Mapped[str | None] = mapped_column(unicode_text(256))
        ip_address: Mapped[str | None] = mapped_column(String(64))
        scopes: Mapped[frozenset[str] | None] = mapped_column(Scopes)
        data: Mapped[dict[str, Any]] = mapped_column(Data, nullable=True)
        token_ttl: Mapped[timedelta | None] = mapped_column(Milliseconds)
        browser_session: Mapped[bool] = mapped_column(
            Boolean, default=False, server_default=text("'0'"), nullable=False
        )

        @declared_attr
        def user_id(cls) -> Mapped[ID]:
            """Refer to the user. The database deletes the row together with the user."""
            return mapped_column(ForeignKey("user.id", ondelete="cascade"), nullable=False)


class SQLAlchemyBaseKnoxTokenTableUUID(SQLAlchemyBaseKnoxTokenTable[uuid.UUID]):
    """A table of token records for users with a UUID as id. `user_id` gets its column type from the users."""

    if TYPE_CHECKING:
        user_id: uuid.UUID


@event.listens_for(SQLAlchemyBaseKnoxTokenTable, "mapper_configured", propagate=True)
def _check_key(tokens: Mapper[Any], _token_class: object) -> None:
    """Check the key `user_id` of each token class when it is configured."""
    with suppress(NoReferencedTableError):  # If the users are mapped later, each new store checks the key.
        check_key(tokens)


@event.listens_for(SQLAlchemyBaseKnoxTokenTable, "after_mapper_constructed", propagate=True)
def _complete(tokens: Mapper[Any], token_class: type[SQLAlchemyBaseKnoxTokenTable[Any]]) -> None:
    """Complete each token class, whatever `__table_args__`, `user_id` and validators it defines."""
    add_index_and_free_space(tokens)
    event.listen(token_class.expires_at, "set", _set_expiry_hour)


def _set_expiry_hour(
    token: SQLAlchemyBaseKnoxTokenTable[Any], expires_at: object, _previous: object, _initiator: object
) -> None:
    """Set the hour when the application sets the expiry of an object. The value may be an SQL expression."""
    if expires_at is None or isinstance(expires_at, datetime):
        token.expiry_hour = hour_of(expires_at)
    else:
        token.expiry_hour = UNKNOWN_HOUR
