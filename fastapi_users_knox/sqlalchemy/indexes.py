"""The parts of the token table that a class cannot lose by its own `__table_args__` or `user_id`."""

from typing import Any

from sqlalchemy import Index, Table, event
from sqlalchemy.orm import Mapper
from sqlalchemy.sql.elements import conv

from fastapi_users_knox.sqlalchemy.postgresql import leave_free_space

__all__ = ["add_index_and_free_space"]


def add_index_and_free_space(tokens: Mapper[Any]) -> None:
    """Add the index on `user_id` and `expiry_hour`, and on PostgreSQL free space in each page for updated rows.

    The index serves lists, the deletion of a user, and the deletion of expired rows at a login.
    """
    table, user_id, hour = tokens.local_table, tokens.columns["user_id"], tokens.columns["expiry_hour"]
    if not isinstance(table, Table) or not table.columns.contains_column(user_id):
        return  # In joined inheritance, the columns are in the table of the superclass.
    if any(list(index.columns) == [user_id, hour] for index in table.indexes):
        return  # A superclass or another class of the same table has added the index, or the table was reflected.
    # The default name would be the one of an index on `user_id` alone. `conv` shortens names that are too long.
    Index(conv(f"ix_{table.name}_{user_id.name}_{hour.name}"), user_id, hour)
    if not table.dialect_options["postgresql"]["partition_by"]:  # The partitions hold the rows.
        event.listen(table, "after_create", leave_free_space)
