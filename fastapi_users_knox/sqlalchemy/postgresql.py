"""What only PostgreSQL has: transactions that a write can join, row-level security, search path and fill factor."""

from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import BigInteger, ColumnElement, Connection, Table, cast, exc, false, func, or_, select, text

__all__ = ["OpenTransaction", "has_row_security", "inspect_transaction", "leave_free_space", "tables_found"]

# In percent. A refresh writes the new version of a row to the same page if there is space, and then touches no index.
_FILL_FACTOR = 85


@dataclass(frozen=True, kw_only=True)
class OpenTransaction:
    """What is known about the transaction that the caller has begun.

    Attributes:
        is_joinable: Whether the store's writes can be part of the transaction. The transaction must run at READ
            COMMITTED, and be neither read-only nor failed, and the driver must not be in autocommit.
        tables: The object identifiers of the tables that the table names refer to in this transaction; `None` if they
            are not known.
    """

    is_joinable: bool = False
    tables: Sequence[int | None] | None = None


def inspect_transaction(connection: Connection, tables: Sequence[Table]) -> OpenTransaction:
    """Inspect the open transaction by one SELECT. Only on PostgreSQL can a write join the transaction."""
    if connection.dialect.name != "postgresql" or _autocommits(connection):
        return OpenTransaction()
    settings = [func.current_setting(f"transaction_{name}") for name in ("isolation", "read_only")]
    try:
        isolation, read_only, *found = connection.execute(select(*settings, *_table_ids(connection, tables))).one()
    except exc.DBAPIError:
        return OpenTransaction()
    return OpenTransaction(is_joinable=(isolation, read_only) == ("read committed", "off"), tables=found)


def tables_found(connection: Connection, tables: Sequence[Table]) -> Sequence[int | None]:
    """Return the object identifiers of the tables that these names refer to in the open transaction."""
    return list(connection.execute(select(*_table_ids(connection, tables))).one())


def has_row_security(connection: Connection, tables: Sequence[Table]) -> ColumnElement[bool]:
    """Return an expression for whether row-level security is in force for any of the tables."""
    return or_(false(), *[func.row_security_active(_quoted_name(connection, table)) for table in tables])


def leave_free_space(table: Table, connection: Connection, **_: object) -> None:
    """Leave free space in each page of a new table. SQLAlchemy calls this after it has created the table."""
    if connection.dialect.name == "postgresql":
        connection.execute(text(f"ALTER TABLE {_quoted_name(connection, table)} SET (fillfactor = {_FILL_FACTOR})"))


def _table_ids(connection: Connection, tables: Sequence[Table]) -> Sequence[ColumnElement[int]]:
    """Return expressions for the object identifiers of the tables that these names refer to."""
    return [cast(func.to_regclass(_quoted_name(connection, table)), BigInteger) for table in tables]


def _quoted_name(connection: Connection, table: Table) -> str:
    """Return the quoted name of a table, with its schema if it has one."""
    preparer, schema = connection.dialect.identifier_preparer, connection.schema_for_object(table)
    return preparer.quote(table.name) if schema is None else f"{preparer.quote(schema)}.{preparer.quote(table.name)}"


def _autocommits(connection: Connection) -> bool:
    """Return whether the driver is in autocommit, in which each statement is committed by itself."""
    return bool(getattr(connection.connection.dbapi_connection, "autocommit", True))
