"""The table: mix-ins in the manner of fastapi-users-db-sqlalchemy, and the column types behind them."""

import uuid
from contextlib import suppress
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Generic

from sqlalchemy import Connection, DateTime, ForeignKey, LargeBinary, String, Uuid, delete, event, inspect, select
from sqlalchemy.dialects import mysql
from sqlalchemy.engine import Dialect
from sqlalchemy.exc import NoReferencedTableError
from sqlalchemy.orm import Mapped, Mapper, class_mapper, declared_attr, mapped_column, object_session
from sqlalchemy.types import TypeDecorator, TypeEngine

from fastapi_users_knox.records import ID
from fastapi_users_knox.sqlalchemy.keys import check_key, referred_columns
from fastapi_users_knox.sqlalchemy.user_class import topmost_on

__all__ = ["SQLAlchemyBaseKnoxTokenTable", "SQLAlchemyBaseKnoxTokenTableUUID", "UTCDateTime"]


class UTCDateTime(TypeDecorator[datetime]):
    """An aware moment, in and out, to the microsecond on every database (MySQL's own default is the second)."""

    impl: TypeEngine[Any] | type[TypeEngine[Any]] = DateTime
    cache_ok: bool | None = True

    def load_dialect_impl(self, dialect: Dialect) -> TypeEngine[datetime]:
        """Take PostgreSQL's aware type, and naive UTC elsewhere."""
        if dialect.name in {"mysql", "mariadb"}:
            return dialect.type_descriptor(mysql.DATETIME(fsp=6))
        return dialect.type_descriptor(DateTime(timezone=dialect.name == "postgresql"))

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        """Turn an aware moment to UTC; a naive one raises ValueError."""
        if value is None:
            return None
        if value.tzinfo is None:
            raise ValueError("a moment must be aware")
        moment = value.astimezone(UTC)
        return moment if dialect.name == "postgresql" else moment.replace(tzinfo=None)

    def process_result_value(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        """Return it aware, in UTC."""
        if value is None:
            return None
        return value.astimezone(UTC) if dialect.name == "postgresql" else value.replace(tzinfo=UTC)


# CHAR(32) wherever there is no native type on every version and driver.
_UUID = Uuid(native_uuid=False).with_variant(Uuid(), "postgresql")


def _exact(length: int) -> String:
    """Return a text type that compares character by character, where MySQL would fold case."""
    return String(length).with_variant(
        mysql.VARCHAR(length, charset="utf8mb4", collation="utf8mb4_bin"), "mysql", "mariadb"
    )


def _unicode(length: int) -> String:
    """Return a text type that holds any character, whatever character set a MySQL database was made with."""
    return String(length).with_variant(mysql.VARCHAR(length, charset="utf8mb4"), "mysql", "mariadb")


class SQLAlchemyBaseKnoxTokenTable(Generic[ID]):
    """A table of token records, generic in the type of the user's id; add columns by subclassing.

    `user_id` refers to the `id` of a table named "user"; override it for another table. It takes its type from the
    column it refers to, so state none: a type that stores the same id in another form is refused with `UserClassError`
    when the classes are configured, and so are an `ID` that the column cannot hold, and a column that several users may
    have the same value of, such as one half of a primary key.
    """

    __tablename__ = "knox_token"

    @classmethod
    def __declare_last__(cls) -> None:
        """Let a user whom the ORM deletes take the tokens along, whatever the foreign key says.

        Otherwise a new user who is given the same number would be logged in by them, where the database keeps no
        foreign keys (SQLite's default); where it does, but without a cascade, the user could not be deleted.
        """
        tokens: Mapper[Any] | None = inspect(cls, raiseerr=False)
        if tokens is None:
            return  # SQLAlchemy calls this also for a class whose registry has been disposed of.
        with suppress(NoReferencedTableError):  # Not mapped yet: this is called again when more is.
            for users in {mapper for key in referred_columns(tokens) for mapper in topmost_on(key.table)}:
                if not event.contains(users.class_, "before_delete", cls._end_tokens):
                    event.listen(users.class_, "before_delete", cls._end_tokens, propagate=True)

    @classmethod
    def _end_tokens(cls, users: Mapper[Any], connection: Connection, user: object) -> None:
        """Delete the tokens of a user, before the rows of the user, in the same transaction."""
        tokens, session = class_mapper(cls), object_session(user)
        statement = delete(tokens.class_)
        if session is not None and session.get_bind(tokens, clause=statement).engine is not connection.engine:
            return
        for key in referred_columns(tokens):
            value = getattr(user, users.get_property_by_column(key).key)
            # The user's rows are locked first, as at a login: that cannot come in between, nor dead-lock with this.
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
        last_used_at: datetime | None
        name: str | None
        device_id: str | None
        user_agent: str | None
        ip_address: str | None
    else:
        id: Mapped[uuid.UUID] = mapped_column(_UUID, primary_key=True)
        digest: Mapped[bytes] = mapped_column(
            LargeBinary(32).with_variant(mysql.BINARY(32), "mysql", "mariadb"), unique=True, nullable=False
        )
        audience: Mapped[str] = mapped_column(_exact(64), nullable=False)
        created_at: Mapped[datetime] = mapped_column(UTCDateTime, nullable=False)
        authenticated_at: Mapped[datetime] = mapped_column(UTCDateTime, nullable=False)
        expires_at: Mapped[datetime | None] = mapped_column(UTCDateTime, index=True)
        last_used_at: Mapped[datetime | None] = mapped_column(UTCDateTime)
        name: Mapped[str | None] = mapped_column(_unicode(128))
        device_id: Mapped[str | None] = mapped_column(_exact(128))
        user_agent: Mapped[str | None] = mapped_column(_unicode(256))
        ip_address: Mapped[str | None] = mapped_column(String(64))

        @declared_attr
        def user_id(cls) -> Mapped[ID]:
            """Refer to the user, and go with it."""
            return mapped_column(ForeignKey("user.id", ondelete="cascade"), index=True, nullable=False)


class SQLAlchemyBaseKnoxTokenTableUUID(SQLAlchemyBaseKnoxTokenTable[uuid.UUID]):
    """A table of token records for users whose id is a UUID, in whichever type: `user_id` takes it from there."""

    if TYPE_CHECKING:
        user_id: uuid.UUID


@event.listens_for(SQLAlchemyBaseKnoxTokenTable, "mapper_configured", propagate=True)
def _check_key(tokens: Mapper[Any], _token_class: object) -> None:
    with suppress(NoReferencedTableError):  # Where the users are mapped later, the store checks it when it is made.
        check_key(tokens)
