"""What only PostgreSQL has: transactions that can be joined, row-level security, and a search path for tables."""

from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import BigInteger, ColumnElement, Connection, Table, cast, exc, false, func, or_, select

__all__ = ["OpenTransaction", "has_row_security", "inspect_transaction", "tables_found"]


@dataclass(frozen=True, kw_only=True)
class OpenTransaction:
    """What is known of the transaction that the caller has begun.

    Attributes:
        is_joinable: Whether our writes can be part of it, whoever has begun it. Each of its statements has to see what
            others have committed by then, it has to end in one COMMIT, and it must neither be read-only nor have
            failed.
        tables: Which tables it finds by their names; `None` if that cannot be known.
    """

    is_joinable: bool = False
    tables: Sequence[int | None] | None = None


def inspect_transaction(connection: Connection, tables: Sequence[Table]) -> OpenTransaction:
    """Inspect the open transaction by one SELECT; only on PostgreSQL it can be joined."""
    if connection.dialect.name != "postgresql" or _autocommits(connection):
        return OpenTransaction()
    settings = [func.current_setting(f"transaction_{name}") for name in ("isolation", "read_only")]
    try:
        isolation, read_only, *found = connection.execute(select(*settings, *_oids(connection, tables))).one()
    except exc.DBAPIError:
        return OpenTransaction()
    return OpenTransaction(is_joinable=(isolation, read_only) == ("read committed", "off"), tables=found)


def tables_found(connection: Connection, tables: Sequence[Table]) -> Sequence[int | None]:
    """Return which tables these names find in the open transaction."""
    return list(connection.execute(select(*_oids(connection, tables))).one())


def has_row_security(connection: Connection, tables: Sequence[Table]) -> ColumnElement[bool]:
    """Ask whether row-level security is in force for one of the tables."""
    return or_(false(), *[func.row_security_active(_name(connection, table)) for table in tables])


def _oids(connection: Connection, tables: Sequence[Table]) -> Sequence[ColumnElement[int]]:
    return [cast(func.to_regclass(_name(connection, table)), BigInteger) for table in tables]


def _name(connection: Connection, table: Table) -> str:
    preparer, schema = connection.dialect.identifier_preparer, connection.schema_for_object(table)
    return preparer.quote(table.name) if schema is None else f"{preparer.quote(schema)}.{preparer.quote(table.name)}"


def _autocommits(connection: Connection) -> bool:
    """Return whether there is no transaction though SQLAlchemy has begun one; both of PostgreSQL's drivers know it."""
    return bool(getattr(connection.connection.dbapi_connection, "autocommit", True))
