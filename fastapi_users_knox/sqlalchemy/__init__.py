"""Tokens in SQL: the mixins for the table, and the store."""

from fastapi_users_knox.sqlalchemy.column_types import Data, Milliseconds, Scopes, UTCDateTime
from fastapi_users_knox.sqlalchemy.store import SQLAlchemyTokenStore
from fastapi_users_knox.sqlalchemy.table import SQLAlchemyBaseKnoxTokenTable, SQLAlchemyBaseKnoxTokenTableUUID

__all__ = [
    "Data",
    "Milliseconds",
    "SQLAlchemyBaseKnoxTokenTable",
    "SQLAlchemyBaseKnoxTokenTableUUID",
    "SQLAlchemyTokenStore",
    "Scopes",
    "UTCDateTime",
]
