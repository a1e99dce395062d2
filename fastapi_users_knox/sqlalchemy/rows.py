"""The columns of a record in a row, and the conversion of a row to a record."""

from collections.abc import Callable, Sequence
from typing import Any

from sqlalchemy import Column, Label, Row, Text, type_coerce
from sqlalchemy.orm import Bundle

from fastapi_users_knox.records import TokenRecord
from fastapi_users_knox.records.fields import data_of

__all__ = ["FOUND", "RECORD", "PlainColumns", "found_record", "record_of", "selected"]

FOUND = (  # what a read selects, because it knows the audience already
    *("id", "user_id", "created_at", "authenticated_at", "expires_at", "last_used_at"),
    *("name", "device_id", "user_agent", "ip_address", "scopes", "data", "token_ttl", "browser_session"),
)
RECORD = ("audience", *FOUND)


class PlainColumns(Bundle[Any]):
    """Columns that are returned as one plain tuple; SQLAlchemy's `Bundle` makes a named tuple at each execution."""

    def create_row_processor(
        self,
        query: object,  # noqa: ARG002 (the names are SQLAlchemy's)
        procs: Sequence[Callable[[Row[Any]], Any]],
        labels: Sequence[str],  # noqa: ARG002
    ) -> Callable[[Row[Any]], Any]:
        """Return the function that takes the values of the columns from a row."""
        return lambda row: tuple([proc(row) for proc in procs])


def record_of(row: Sequence[Any]) -> TokenRecord[Any]:
    """Return the record of a row that ends with the columns of the record."""
    return _record(dict(zip(RECORD, row[-len(RECORD) :], strict=True)))


def found_record(columns: Sequence[Any], *, audience: str) -> TokenRecord[Any]:
    """Return the record with these values of the columns in `FOUND`."""
    return _record({"audience": audience, **dict(zip(FOUND, columns, strict=True))})


def selected(column: Column[Any], name: str) -> Label[Any]:
    """Return a column of a record for a SELECT, labelled with the name of its field. The data is selected as text.

    If a join repeats rows, SQLAlchemy has to hash them, and a dictionary cannot be hashed.
    """
    return (type_coerce(column, Text) if name == "data" else column).label(name)


def _record(fields: dict[str, Any]) -> TokenRecord[Any]:
    return TokenRecord.from_stored({**fields, "data": data_of(fields["data"])})
