"""A user who is deleted through the ORM is deleted together with the tokens."""

from collections.abc import AsyncIterator
from pathlib import Path
from uuid import UUID

import pytest
from fastapi_users_db_sqlalchemy import SQLAlchemyUserDatabase
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession, create_async_engine
from sqlalchemy.orm import DeclarativeBase, Mapped, configure_mappers, mapped_column

from fastapi_users_knox import KnoxStrategy
from fastapi_users_knox.sqlalchemy import SQLAlchemyTokenStore
from tests.backends import SQLITE, Backend
from tests.models import Base, KnoxToken, User, create_user
from tests.strategies import sent_to, stored


@pytest.fixture
def any_backend(tmp_path: Path) -> Backend:
    """Return SQLite in a file, which by default does not enforce foreign keys."""
    return SQLITE["sqlite"](tmp_path)


@pytest.fixture
async def users(tmp_path: Path) -> AsyncIterator[AsyncEngine]:
    """Return another engine, on a database that has only the users."""
    engine = create_async_engine(f"sqlite+aiosqlite:///{tmp_path}/users.db")
    async with engine.begin() as connection:
        await connection.run_sync(Base.metadata.tables["user"].create)
    yield engine
    await engine.dispose()


async def deleted(session: AsyncSession) -> User:
    """Store a user, log the user in, and delete the user as FastAPI-Users does."""
    user = await create_user(session)
    await KnoxStrategy(
        SQLAlchemyTokenStore[User, UUID](session, KnoxToken, users=None), request=None, user_db=None
    ).issue(user)
    await SQLAlchemyUserDatabase(session, User).delete(user)
    return user


async def test_a_deleted_user_s_tokens_go(engine: AsyncEngine) -> None:
    """No token record of a deleted user is left, even if the database does not enforce foreign keys."""
    async with AsyncSession(engine) as session:
        await deleted(session)

    assert await stored(engine) == []


async def test_it_takes_one_statement(engine: AsyncEngine) -> None:
    """A deletion sends one DELETE for the tokens, even if the application maps further classes later."""

    class Later(DeclarativeBase):
        """The declarative base of classes that are mapped after the tokens."""

    class Thing(Later):
        """A class that has nothing to do with tokens."""

        __tablename__ = "thing"

        id: Mapped[int] = mapped_column(primary_key=True)

    configure_mappers()
    async with AsyncSession(engine) as session:
        with sent_to(engine) as statements:
            await deleted(session)

    assert statements.count("DELETE FROM knox_token WHERE knox_token.user_id = ?") == 1


async def test_tokens_on_another_engine_do_not_hinder_it(engine: AsyncEngine, users: AsyncEngine) -> None:
    """A user whose tokens are on another engine can be deleted too."""
    async with AsyncSession(binds={User: users, KnoxToken: engine}, expire_on_commit=False) as session:
        user = await deleted(session)

        assert await session.get(User, user.id) is None
