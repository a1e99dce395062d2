"""The tables of the tests' application, for every SQL database: users with UUIDs, and their tokens."""

import uuid

from fastapi_users import BaseUserManager, UUIDIDMixin
from fastapi_users_db_sqlalchemy import SQLAlchemyBaseUserTableUUID, SQLAlchemyUserDatabase
from sqlalchemy import delete
from sqlalchemy.exc import OperationalError, ProgrammingError
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession
from sqlalchemy.orm import DeclarativeBase

from fastapi_users_knox.sqlalchemy import SQLAlchemyBaseKnoxTokenTableUUID, SQLAlchemyTokenStore


class Base(DeclarativeBase):
    """The declarative base of the tests' tables."""


class User(SQLAlchemyBaseUserTableUUID, Base):
    """A user."""


class KnoxToken(SQLAlchemyBaseKnoxTokenTableUUID, Base):
    """A token record of a user."""


class UserManager(UUIDIDMixin, BaseUserManager[User, uuid.UUID]):
    """A user manager without `KnoxUserManagerMixin`."""

    reset_password_token_secret = "secret-of-the-tests-that-is-long-enough"
    verification_token_secret = "secret-of-the-tests-that-is-long-enough"


def user_manager_on(session: AsyncSession) -> UserManager:
    """Return a user manager on a session."""
    return UserManager(SQLAlchemyUserDatabase(session, User))


def store_on(session: AsyncSession) -> SQLAlchemyTokenStore[User, uuid.UUID]:
    """Return a token store on a session."""
    return SQLAlchemyTokenStore(session, KnoxToken)


async def create_empty_tables(engine: AsyncEngine) -> None:
    """Delete all rows, or create the tables if that fails. To check first whether they exist takes longer."""
    try:
        await _empty_tables(engine)
    except (OperationalError, ProgrammingError):
        async with engine.begin() as connection:
            await connection.run_sync(Base.metadata.create_all)
        await _empty_tables(engine)


async def _empty_tables(engine: AsyncEngine) -> None:
    async with engine.begin() as connection:
        await connection.execute(delete(KnoxToken))
        await connection.execute(delete(User))


async def create_user(session: AsyncSession, *, is_active: bool = True, **fields: object) -> User:
    """Store a user, and return it."""
    user = User(email=f"{uuid.uuid4()}@example.org", hashed_password="hash", is_active=is_active, **fields)
    session.add(user)
    await session.commit()
    await session.refresh(user)
    return user
