"""The tables and the sessions: in SQLite's `demo.db`, unless `DATABASE_URL` names another database."""

import os
import uuid
from collections.abc import AsyncIterator
from typing import Annotated

from fastapi import Depends
from fastapi_users_db_sqlalchemy import SQLAlchemyBaseUserTableUUID, SQLAlchemyUserDatabase
from sqlalchemy import event
from sqlalchemy.engine.interfaces import DBAPIConnection
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker, create_async_engine
from sqlalchemy.orm import DeclarativeBase

from fastapi_users_knox.sqlalchemy import SQLAlchemyBaseKnoxTokenTableUUID

DATABASE_URL = os.environ.get("DATABASE_URL") or "sqlite+aiosqlite:///demo.db"


class Base(DeclarativeBase):
    """The base class of all tables."""


class User(SQLAlchemyBaseUserTableUUID, Base):
    """A user."""


class KnoxToken(SQLAlchemyBaseKnoxTokenTableUUID, Base):
    """What is stored about a user's token."""


engine = create_async_engine(DATABASE_URL)
async_session_maker = async_sessionmaker(engine, expire_on_commit=False)


def switch_foreign_keys_on(connection: DBAPIConnection, _record: object) -> None:
    """Make SQLite delete a user's tokens together with the user, even if a plain DELETE statement deletes the user."""
    cursor = connection.cursor()
    cursor.execute("PRAGMA foreign_keys = ON")
    cursor.close()


if engine.dialect.name == "sqlite":
    event.listen(engine.sync_engine, "connect", switch_foreign_keys_on)


async def create_tables() -> None:
    """Create the tables that do not exist yet; a real application has migrations instead."""
    async with engine.begin() as connection:
        await connection.run_sync(Base.metadata.create_all)


async def get_async_session() -> AsyncIterator[AsyncSession]:
    """Open the session of a request."""
    async with async_session_maker() as session:
        yield session


async def get_user_db(
    session: Annotated[AsyncSession, Depends(get_async_session)],
) -> SQLAlchemyUserDatabase[User, uuid.UUID]:
    """Return the database of the users."""
    return SQLAlchemyUserDatabase(session, User)
