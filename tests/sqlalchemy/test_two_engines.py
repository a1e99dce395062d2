"""A session that keeps users and tokens on two engines: the store does not see the users, and has to be set so."""

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
    """Bind the users to one database and the tokens to another."""
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
    """Make a strategy whose store is set not to see the users."""
    return KnoxStrategy(SQLAlchemyTokenStore(session, KnoxToken, users=None), settings, request=None, user_db=None)


async def test_it_has_to_be_meant(session: AsyncSession) -> None:
    """A store that would check nothing of the users at a login is refused when it is made, with the reason."""
    with pytest.raises(UserClassError, match=r"User and KnoxToken on different engines.*users=None"):
        store_on(session)


async def test_tokens_work(session: AsyncSession) -> None:
    """A token is issued, read and ended; the user is loaded where users are."""
    strategy, user = strategy_on(session), await create_user(session)

    token = await strategy.write_token(user)

    assert await strategy.read_token(token, user_manager_on(session)) is user
    assert [await strategy.logout_all(user) for _ in range(2)] == [1, 0]
    assert await strategy.read_token(token, user_manager_on(session)) is None


async def test_a_limit_is_refused(session: AsyncSession) -> None:
    """Without the user's row beside the tokens there is nothing to lock, and the error says so."""
    strategy = strategy_on(session, KnoxSettings(token_limit_per_user=1))

    with pytest.raises(LimitUnsupported, match="foreign key"):
        await strategy.write_token(await create_user(session))
