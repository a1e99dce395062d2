"""Tokens in SQL: the mixins for the table, and the store."""

from fastapi_users_knox.sqlalchemy.store import SQLAlchemyTokenStore
from fastapi_users_knox.sqlalchemy.table import (
    SQLAlchemyBaseKnoxTokenTable,
    SQLAlchemyBaseKnoxTokenTableUUID,
    UTCDateTime,
)

__all__ = ["SQLAlchemyBaseKnoxTokenTable", "SQLAlchemyBaseKnoxTokenTableUUID", "SQLAlchemyTokenStore", "UTCDateTime"]
