"""The foreign key `user_id`: the columns that it refers to, and the checks of its type and uniqueness."""

import inspect
import uuid
from collections.abc import Iterable, Iterator
from typing import Any, get_args

from sqlalchemy import Column, ColumnElement, Index, Table, UniqueConstraint, Uuid
from sqlalchemy.orm import Mapper
from sqlalchemy.types import TypeDecorator, TypeEngine

from fastapi_users_knox.errors import UserClassError

__all__ = ["check_key", "id_type", "referred_columns", "same_keys"]

# FastAPI-Users' own UUID type does not state its `python_type`. The type is recognized by name, because its package is
# not imported here.
_GUID = ("fastapi_users_db_sqlalchemy.generics", "GUID")
_CONVERSIONS = ("process_bind_param", "process_result_value", "bind_processor", "result_processor")


def referred_columns(tokens: Mapper[Any]) -> list[Column[Any]]:
    """Return the columns that `user_id` refers to.

    Raises:
        NoReferencedTableError: The table that `user_id` refers to is not in the same MetaData, or is not defined yet.
    """
    return [key.column for key in tokens.columns["user_id"].foreign_keys]


def id_type(tokens: Mapper[Any]) -> type | None:
    """Return the Python class of the users' ids; `None` if the column `user_id` does not state that class."""
    return _python_type(_plain(tokens.columns["user_id"].type))


def same_keys(column: Column[Any], mapper: Mapper[Any]) -> set[Column[Any]]:
    """Return the column, and those columns in the class's other tables that joined inheritance keeps equal to it."""
    keys: set[Column[Any]] = set()
    new = {column}
    while new:
        keys |= new
        foreign = (key for known in new for key in known.foreign_keys if key.parent.table is not key.column.table)
        new = {key.column for key in foreign if key.column.table in mapper.tables} - keys
    return keys


def check_key(tokens: Mapper[Any]) -> None:
    """Refuse a token class whose `user_id` does not identify exactly one user.

    Raises:
        UserClassError: `user_id` has a different type from the users' ids, or several users may share one id.
        NoReferencedTableError: The users are not mapped yet.
    """
    for column in referred_columns(tokens):
        _check_type(tokens, column)
        _check_unique(tokens, column)


def _check_type(tokens: Mapper[Any], column: Column[Any]) -> None:
    """Refuse a key that is stored in a different form from the user's id, because it would match no user."""
    name, own = tokens.class_.__name__, tokens.columns["user_id"].type
    if not _may_hold(column.type, _stated_types(tokens.class_)):
        raise UserClassError(
            f'{name} is declared for ids of a different type from "{column}", which is {column.type!r}: '
            f"derive {name} from SQLAlchemyBaseKnoxTokenTable[...] with the Python type of that column"
        )
    if not _stores_alike(own, column.type):
        raise UserClassError(
            f'{name}.user_id is {own!r}, but refers to "{column}", which is {column.type!r}: '
            "leave the type out of its mapped_column(), so that it gets the type of the column it refers to"
        )


def _check_unique(tokens: Mapper[Any], column: Column[Any]) -> None:
    """Refuse ids that are unique only together with another column, because a token would fit several users."""
    if not any(set(columns) == {column} for columns in _unique_columns(column.table)):
        raise UserClassError(
            f'{tokens.class_.__name__}.user_id refers to "{column}", which several rows may share: let it refer to a '
            "column that is the whole primary key, or is unique by itself, such as one with unique=True"
        )


def _unique_columns(table: Table) -> Iterator[Iterable[ColumnElement[Any]]]:
    """Yield the columns of each unique key of the table."""
    yield table.primary_key
    yield from (key.columns for key in table.constraints if isinstance(key, UniqueConstraint))
    yield from (index.columns for index in table.indexes if index.unique and not _is_partial(index))


def _is_partial(index: Index) -> bool:
    """Return whether an index covers only the rows that match a condition."""
    return any(option.endswith("_where") for option in index.dialect_kwargs)


def _stated_types(token_class: type[Any]) -> Iterator[type]:
    """Yield the types that the class passes for `ID`, as in `SQLAlchemyBaseKnoxTokenTable[int]`."""
    for base in token_class.__mro__:
        for generic in vars(base).get("__orig_bases__", ()):
            yield from (stated for stated in get_args(generic) if inspect.isclass(stated))


def _may_hold(column_type: TypeEngine[Any], stated_types: Iterable[type]) -> bool:
    """Return whether a column can store values of these types."""
    held = _python_type(_plain(column_type))
    return held is None or all(issubclass(stated, held) or issubclass(held, stated) for stated in stated_types)


def _stores_alike(one: TypeEngine[Any], other: TypeEngine[Any]) -> bool:
    """Return whether two types store an id in the same form. VARCHAR and TEXT do, but two UUID types may not."""
    one, other = _plain(one), _plain(other)
    if isinstance(one, TypeDecorator) or isinstance(other, TypeDecorator):
        return type(one) is type(other)
    return isinstance(one, Uuid) == isinstance(other, Uuid) and _python_type(one) == _python_type(other)


def _plain(column_type: TypeEngine[Any]) -> TypeEngine[Any]:
    """Return the type inside decorators that do not change values, such as SQLModel's string type."""
    while isinstance(column_type, TypeDecorator) and not _converts(column_type):
        column_type = column_type.impl_instance
    return column_type


def _converts(decorator: TypeDecorator[Any]) -> bool:
    """Return whether a decorated type changes values."""
    return any(getattr(type(decorator), name) is not getattr(TypeDecorator, name) for name in _CONVERSIONS)


def _python_type(column_type: TypeEngine[Any]) -> type | None:
    """Return the Python class of the values; `None` if the type does not state that class."""
    if any((base.__module__, base.__name__) == _GUID for base in type(column_type).__mro__):
        return uuid.UUID
    try:
        stated = column_type.python_type
    except NotImplementedError:
        return None
    return stated if inspect.isclass(stated) else None
