"""A session bound to one connection, as in test suites that roll everything back: SQLAlchemy's documented recipe."""

from collections.abc import AsyncIterator

import pytest
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession

from fastapi_users_knox import CredentialsChanged, InvalidToken, KnoxSettings, TokenLimitReached
from tests.backends import Backend
from tests.models import User, create_empty_tables, create_user
from tests.strategies import HOUR, Knox, stored

# With its usual settings Python's SQLite driver cannot roll a savepoint's outer transaction back.
pytestmark = pytest.mark.parametrize(
    "any_backend", ["sqlite-wal-begin", "postgresql-asyncpg", "postgresql-psycopg", "mariadb"], indirect=True
)

SETTINGS = KnoxSettings(token_ttl=2 * HOUR, auto_refresh=True, token_limit_per_user=2)


@pytest.fixture
async def engine(any_backend: Backend) -> AsyncIterator[AsyncEngine]:
    """Give an engine on empty tables, whose statements see what others have committed by then."""
    engine = any_backend.create_engine(**any_backend.impatient)
    await create_empty_tables(engine)
    yield engine
    await engine.dispose()


@pytest.fixture(params=["create_savepoint", "conditional_savepoint", "rollback_only"])
async def knox(request: pytest.FixtureRequest, engine: AsyncEngine) -> AsyncIterator[Knox]:
    """Give a user in a transaction that is rolled back at the end, and see that nothing is left."""
    async with engine.connect() as connection:
        outer = await connection.begin()
        async with AsyncSession(connection, join_transaction_mode=request.param, expire_on_commit=False) as session:
            yield Knox(session=session, user=await create_user(session))
        await outer.rollback()
        left = (await connection.execute(User.__table__.select())).all()
    assert left == []
    assert await stored(engine) == []


async def test_a_whole_life_is_rolled_back(knox: Knox) -> None:
    """Login, refresh, rotation, logout and the limit work, and a rollback leaves nothing."""
    strategy, manager = knox.strategy(SETTINGS), knox.user_manager
    first, second = await strategy.issue(knox.user), await strategy.issue(knox.user)
    with pytest.raises(TokenLimitReached):
        await strategy.issue(knox.user)
    knox.clock.now += HOUR
    await knox.session.commit()
    assert await strategy.read_token(first, manager) is knox.user
    third = await strategy.rotate_token(first, knox.user)
    await strategy.destroy_token(second, knox.user)

    [record] = await strategy.list_records(knox.user)

    assert (record.id, record.expires_at) == (third.record.id, knox.clock.now + 2 * HOUR)
    assert await strategy.read_token(third, manager) is knox.user
    with pytest.raises(InvalidToken):
        await strategy.destroy_token(first, knox.user)
    assert await strategy.logout_all(knox.user) == 1
    assert await strategy.purge() == 0


async def test_a_refused_login_leaves_the_transaction_usable(knox: Knox) -> None:
    """What is raised undoes its own writes alone: what the test suite did before is still there, and can go on."""
    stale = User(id=knox.user.id, email="", hashed_password="old", is_active=True)
    kept = await knox.strategy().issue(knox.user)

    with pytest.raises(CredentialsChanged):
        await knox.strategy().issue(stale)

    assert await knox.accepts(kept)
    assert await knox.accepts(await knox.strategy().issue(knox.user))


async def test_a_login_is_committed(knox: Knox) -> None:
    """A rollback of the session's undoes what came after the login, as with any session: only the suite's undoes it."""
    token = await knox.strategy().issue(knox.user)

    await knox.session.rollback()

    assert await knox.accepts(token)
