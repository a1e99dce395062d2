"""Wrong arguments of the store raise an error at construction that says what to pass instead."""

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from fastapi_users_db_sqlalchemy import SQLAlchemyUserDatabase
from sqlalchemy import create_engine
from sqlalchemy.ext.asyncio import (
    AsyncEngine,
    AsyncSession,
    async_scoped_session,
    async_sessionmaker,
    create_async_engine,
)
from sqlalchemy.orm import Session

from fastapi_users_knox import KnoxStrategy
from fastapi_users_knox.sqlalchemy import SQLAlchemyBaseKnoxTokenTable, SQLAlchemyTokenStore
from tests.backends import SQLITE, Backend
from tests.models import KnoxToken, User, UserManager, create_user
from tests.strategies import sent_to, verbs

Make = Callable[..., SQLAlchemyTokenStore[Any, Any]]
make: Make = SQLAlchemyTokenStore  # Type checkers refuse most of what follows.


@pytest.fixture
def any_backend(tmp_path: Path) -> Backend:
    """Return SQLite in a file."""
    return SQLITE["sqlite"](tmp_path)


ENGINE = create_async_engine("sqlite+aiosqlite://")


@pytest.fixture
def session() -> AsyncSession:
    """Return a session that is never connected."""
    return AsyncSession(ENGINE)


NO_SESSION: dict[str, object] = {
    "synchronous session": Session(),
    "session maker": async_sessionmaker(ENGINE),
    "engine": ENGINE,
    "synchronous engine": create_engine("sqlite://"),
    "user class": User,
    "nothing": None,
}


@pytest.mark.parametrize("session", NO_SESSION.values(), ids=NO_SESSION)
def test_the_session_is_an_async_session(session: object) -> None:
    """Anything but an `AsyncSession` as the session is refused, with an error that says how to get one."""
    with pytest.raises(TypeError, match="session must be an AsyncSession, such as an async_sessionmaker opens"):
        make(session, KnoxToken)


def test_the_arguments_are_not_swapped() -> None:
    """If the session and the table are swapped, the error says which comes first."""
    with pytest.raises(TypeError, match=r"session must be an AsyncSession.*and must be passed before the table"):
        make(KnoxToken, AsyncSession())


@pytest.mark.parametrize("table", [User, SQLAlchemyBaseKnoxTokenTable, KnoxToken(), KnoxToken.__table__, "knox_token"])
def test_the_table_is_a_token_class(session: AsyncSession, table: object) -> None:
    """Anything but a mapped token class as the table is refused, for example the user class."""
    with pytest.raises(TypeError, match="table must be"):
        make(session, table)


@pytest.mark.parametrize("users", [User(), "user", False, SQLAlchemyBaseKnoxTokenTable])
def test_the_users_are_a_mapped_class(session: AsyncSession, users: object) -> None:
    """Anything but a mapped class or `None` as `users` is refused."""
    with pytest.raises(TypeError, match="users must be a mapped class"):
        make(session, KnoxToken, users=users)


async def test_a_scoped_session_will_do(engine: AsyncEngine) -> None:
    """With a scoped session, the store uses the current session and reads token and user by one SELECT."""
    scoped = async_scoped_session(async_sessionmaker(engine, expire_on_commit=False), asyncio.current_task)
    user = await create_user(scoped())
    # The type of FastAPI-Users' adapter allows only a session, but the adapter also works with a scoped session.
    make_user_db: Callable[..., SQLAlchemyUserDatabase[User, Any]] = SQLAlchemyUserDatabase
    user_manager = UserManager(make_user_db(scoped, User))
    strategy = KnoxStrategy[User, Any](SQLAlchemyTokenStore(scoped, KnoxToken), request=None)

    token = await strategy.issue(user)
    with sent_to(engine) as statements:
        read = await strategy.read_token(token, user_manager)
    await scoped.remove()

    assert read is user
    assert verbs(statements) == ["SELECT"]
