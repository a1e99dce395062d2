"""Make SQLite enforce foreign keys."""

from sqlalchemy import event
from sqlalchemy.engine.interfaces import DBAPIConnection
from sqlalchemy.ext.asyncio import AsyncEngine


def enforce_foreign_keys(engine: AsyncEngine) -> None:
    """Switch foreign keys on in each new connection of an engine."""

    @event.listens_for(engine.sync_engine, "connect")
    def switch_on(connection: DBAPIConnection, _record: object) -> None:
        cursor = connection.cursor()
        cursor.execute("PRAGMA foreign_keys = ON")
        cursor.close()
