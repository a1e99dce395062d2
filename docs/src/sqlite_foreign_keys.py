"""Make SQLite delete a user's tokens with the user, by whatever statement."""

import os

from sqlalchemy import event
from sqlalchemy.engine.interfaces import DBAPIConnection
from sqlalchemy.ext.asyncio import create_async_engine

engine = create_async_engine(os.environ["DATABASE_URL"])


@event.listens_for(engine.sync_engine, "connect")
def switch_foreign_keys_on(connection: DBAPIConnection, _record: object) -> None:
    """Tell every new connection to heed foreign keys."""
    cursor = connection.cursor()
    cursor.execute("PRAGMA foreign_keys = ON")
    cursor.close()
