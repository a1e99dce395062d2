"""The types of the token table's columns."""

from datetime import UTC, datetime, timedelta
from typing import Any

from sqlalchemy import BigInteger, DateTime, LargeBinary, String, Text, Uuid
from sqlalchemy.dialects import mysql
from sqlalchemy.engine import Dialect
from sqlalchemy.types import TypeDecorator, TypeEngine

from fastapi_users_knox.records.fields import data_of, scopes_of, text_of_data, text_of_scopes

__all__ = [
    "DIGEST_TYPE",
    "UUID_TYPE",
    "Data",
    "Milliseconds",
    "Scopes",
    "UTCDateTime",
    "exact_text",
    "unicode_text",
]

_MILLISECOND = timedelta(milliseconds=1)


class UTCDateTime(TypeDecorator[datetime]):
    """A timezone-aware datetime in UTC, stored to the microsecond on every database (MySQL's default is a second)."""

    impl: TypeEngine[Any] | type[TypeEngine[Any]] = DateTime
    cache_ok: bool | None = True

    def load_dialect_impl(self, dialect: Dialect) -> TypeEngine[datetime]:
        """Use the timezone-aware type on PostgreSQL, and naive UTC on other databases."""
        if dialect.name in {"mysql", "mariadb"}:
            return dialect.type_descriptor(mysql.DATETIME(fsp=6))
        return dialect.type_descriptor(DateTime(timezone=dialect.name == "postgresql"))

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        """Convert a timezone-aware datetime to UTC. A naive datetime raises ValueError."""
        if value is None:
            return None
        if value.tzinfo is None:
            raise ValueError("the datetime must be timezone-aware")
        moment = value.astimezone(UTC)
        return moment if dialect.name == "postgresql" else moment.replace(tzinfo=None)

    def process_result_value(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        """Return the datetime as timezone-aware, in UTC."""
        if value is None:
            return None
        return value.astimezone(UTC) if dialect.name == "postgresql" else value.replace(tzinfo=UTC)


# CHAR(32), except on PostgreSQL: only there every version and driver has a native type.
UUID_TYPE = Uuid(native_uuid=False).with_variant(Uuid(), "postgresql")


def exact_text(length: int) -> String:
    """Return a text type that compares character by character; MySQL's default ignores case."""
    return String(length).with_variant(
        mysql.VARCHAR(length, charset="utf8mb4", collation="utf8mb4_bin"), "mysql", "mariadb"
    )


def unicode_text(length: int) -> String:
    """Return a text type for any character, whatever the character set of the MySQL database."""
    return String(length).with_variant(mysql.VARCHAR(length, charset="utf8mb4"), "mysql", "mariadb")


DIGEST_TYPE = LargeBinary(32).with_variant(mysql.BINARY(32), "mysql", "mariadb")


class Scopes(TypeDecorator[frozenset[str]]):
    """A set of scopes, stored as one text of at most 1,024 ASCII characters. NULL means a session."""

    impl: TypeEngine[Any] | type[TypeEngine[Any]] = String(1024)
    cache_ok: bool | None = True

    def process_bind_param(self, value: frozenset[str] | None, dialect: Dialect) -> str | None:  # noqa: ARG002 (SQLAlchemy's)
        """Join the scopes."""
        return text_of_scopes(value)

    def process_result_value(self, value: str | None, dialect: Dialect) -> frozenset[str] | None:  # noqa: ARG002
        """Split the text."""
        return scopes_of(value)


class Data(TypeDecorator[dict[str, Any]]):
    """A JSON object, stored as text, so that every database returns exactly what was stored. NULL means `{}`.

    The JSON types of databases change numbers, refuse some characters, and cannot always be compared.
    """

    impl: TypeEngine[Any] | type[TypeEngine[Any]] = Text().with_variant(
        mysql.TEXT(charset="utf8mb4"), "mysql", "mariadb"
    )
    cache_ok: bool | None = True

    def process_bind_param(self, value: dict[str, Any] | None, dialect: Dialect) -> str | None:  # noqa: ARG002
        """Write the object as JSON."""
        return text_of_data(value or {})

    def process_result_value(self, value: str | None, dialect: Dialect) -> dict[str, Any]:  # noqa: ARG002
        """Parse the JSON."""
        return data_of(value)


class Milliseconds(TypeDecorator[timedelta]):
    """A duration, stored as a number of milliseconds."""

    impl: TypeEngine[Any] | type[TypeEngine[Any]] = BigInteger
    cache_ok: bool | None = True

    def process_bind_param(self, value: timedelta | None, dialect: Dialect) -> int | None:  # noqa: ARG002
        """Return the number of milliseconds."""
        return None if value is None else value // _MILLISECOND

    def process_result_value(self, value: int | None, dialect: Dialect) -> timedelta | None:  # noqa: ARG002
        """Return the duration."""
        return None if value is None else value * _MILLISECOND
