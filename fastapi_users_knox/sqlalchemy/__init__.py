"""Tokens in SQL: the table mix-ins and the store."""

from fastapi_users_knox.sqlalchemy.store import SQLAlchemyTokenStore
from fastapi_users_knox.sqlalchemy.table import (
    SQLAlchemyBaseKnoxTokenTable,
    SQLAlchemyBaseKnoxTokenTableUUID,
    UTCDateTime,
)

__all__ = ["SQLAlchemyBaseKnoxTokenTable", "SQLAlchemyBaseKnoxTokenTableUUID", "SQLAlchemyTokenStore", "UTCDateTime"]
