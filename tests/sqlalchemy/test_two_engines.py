"""If a session has users and tokens on two engines, the store cannot see the users and needs `users=None`."""

import uuid
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy.ext.asyncio import AsyncSession, create_async_engine

from fastapi_users_knox import KnoxSettings, KnoxStrategy, LimitUnsupported, UserClassError
from fastapi_users_knox.sqlalchemy import SQLAlchemyTokenStore
from tests.models import Base, KnoxToken, User, create_user, store_on, user_manager_on

pytestmark = pytest.mark.anyio

DEFAULTS = KnoxSettings()


@pytest.fixture
async def session(tmp_path: Path) -> AsyncIterator[AsyncSession]:
    """Return a session that binds the users to one database and the tokens to another."""
    engines: dict[Any, Any] = {
        table: create_async_engine(f"sqlite+aiosqlite:///{tmp_path}/{table.__name__}.db") for table in (User, KnoxToken)
    }
    for table, engine in engines.items():
        async with engine.begin() as connection:
            await connection.run_sync(Base.metadata.create_all, tables=[table.__table__])
    async with AsyncSession(binds=engines, expire_on_commit=False) as session:
        yield session
    for engine in engines.values():
        await engine.dispose()


def strategy_on(session: AsyncSession, settings: KnoxSettings = DEFAULTS) -> KnoxStrategy[User, uuid.UUID]:
    """Return a strategy whose store has `users=None`."""
    return KnoxStrategy(SQLAlchemyTokenStore(session, KnoxToken, users=None), settings, request=None, user_db=None)


async def test_it_has_to_be_meant(session: AsyncSession) -> None:
    """Without `users=None`, the store is refused at construction, because it could check no user at a login."""
    with pytest.raises(UserClassError, match=r"User and KnoxToken on different engines.*users=None"):
        store_on(session)


async def test_tokens_work(session: AsyncSession) -> None:
    """A token can be issued, read and revoked, and the user is loaded from the users' database."""
    strategy, user = strategy_on(session), await create_user(session)

    token = await strategy.write_token(user)

    assert await strategy.read_token(token, user_manager_on(session)) is user
    assert [await strategy.logout_all(user) for _ in range(2)] == [1, 0]
    assert await strategy.read_token(token, user_manager_on(session)) is None


async def test_a_limit_is_refused(session: AsyncSession) -> None:
    """A limit is refused, because the store cannot lock the user's row in another database."""
    strategy = strategy_on(session, KnoxSettings(token_limit_per_user=1))

    with pytest.raises(LimitUnsupported, match="foreign key"):
        await strategy.write_token(await create_user(session))
