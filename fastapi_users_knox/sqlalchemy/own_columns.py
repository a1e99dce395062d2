"""The application's own columns of the token table, which are filled when a token is issued."""

from collections.abc import Callable, Mapping
from copy import deepcopy
from dataclasses import replace
from typing import Any

from sqlalchemy import Column

from fastapi_users_knox.records import ID, TokenRecord
from fastapi_users_knox.sqlalchemy.statements import Statements

__all__ = ["check_own_columns", "own_values"]


def check_own_columns(own_columns: object) -> None:
    """Raise `TypeError` if this is not a function."""
    if own_columns is not None and not callable(own_columns):
        raise TypeError(
            "own_columns must be a function of the new record that returns a dictionary, "
            f"not {type(own_columns).__name__}"
        )


def own_values(
    sql: Statements, own_columns: Callable[[TokenRecord[ID]], Mapping[str, object]] | None, record: TokenRecord[ID]
) -> dict[str, object]:
    """Return the values of the application's own columns for a new record, by column key.

    Raises:
        TypeError: The function returned something other than a dictionary, or a name that is not a column of the
            application's own.
    """
    if own_columns is None:
        return {}
    # The function gets a copy, so that a change of the data in place changes nothing that is stored.
    values = own_columns(replace(record, data=deepcopy(record.data)))
    if not isinstance(values, Mapping):
        raise TypeError(f"own_columns must return a dictionary, not {type(values).__name__}")
    return {_own_column(sql, name).key: value for name, value in values.items()}


def _own_column(sql: Statements, name: str) -> Column[Any]:
    """Return the column of an attribute, which must be in the token table, but not one that the store fills."""
    attribute = sql.mapper.column_attrs.get(name)
    column = None if attribute is None else attribute.columns[0]
    if not isinstance(column, Column) or column.table is not sql.table:
        raise TypeError(f"own_columns returned {name!r}, but {sql.mapper.class_.__name__} has no column of this name")
    if column in {*sql.columns.values()}:
        raise TypeError(f"own_columns returned {name!r}, but the store fills this column itself")
    return column
