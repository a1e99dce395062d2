"""A session that keeps users and tokens on two engines: tokens work, and a limit is refused, as it cannot be kept."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy.ext.asyncio import AsyncSession, create_async_engine

from fastapi_users_knox import KnoxSettings, KnoxStrategy, LimitUnsupported
from tests.models import Base, KnoxToken, User, create_user, store_on, user_manager_on

pytestmark = pytest.mark.anyio


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


async def test_tokens_work(session: AsyncSession) -> None:
    """A token is issued, read and ended; the user is loaded where users are."""
    strategy, user = KnoxStrategy(store_on(session)), await create_user(session)

    token = await strategy.write_token(user)

    assert await strategy.read_token(token, user_manager_on(session)) is user
    assert [await strategy.logout_all(user) for _ in range(2)] == [1, 0]
    assert await strategy.read_token(token, user_manager_on(session)) is None


async def test_a_limit_is_refused(session: AsyncSession) -> None:
    """Without the user's row beside the tokens there is nothing to lock, and the error says so."""
    strategy = KnoxStrategy(store_on(session), KnoxSettings(token_limit_per_user=1))

    with pytest.raises(LimitUnsupported, match="foreign key"):
        await strategy.write_token(await create_user(session))
