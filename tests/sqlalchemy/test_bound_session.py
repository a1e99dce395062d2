"""Sessions that are bound to one connection work, as in SQLAlchemy's recipe for tests that roll everything back."""

from collections.abc import AsyncIterator

import pytest
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession

from fastapi_users_knox import CredentialsChanged, InvalidToken, KnoxSettings, TokenLimitReached
from tests.backends import Backend
from tests.models import User, create_empty_tables, create_user
from tests.strategies import HOUR, Knox, stored

# With its default settings, Python's SQLite driver cannot roll back the transaction around a savepoint.
pytestmark = pytest.mark.parametrize(
    "any_backend", ["sqlite-wal-begin", "postgresql-asyncpg", "postgresql-psycopg", "mariadb"], indirect=True
)

SETTINGS = KnoxSettings(token_ttl=2 * HOUR, auto_refresh=True, token_limit_per_user=2)


@pytest.fixture
async def engine(any_backend: Backend) -> AsyncIterator[AsyncEngine]:
    """Return an engine on empty tables, at READ COMMITTED where the database has that level."""
    engine = any_backend.create_engine(**any_backend.impatient)
    await create_empty_tables(engine)
    yield engine
    await engine.dispose()


@pytest.fixture(params=["create_savepoint", "conditional_savepoint", "rollback_only"])
async def knox(request: pytest.FixtureRequest, engine: AsyncEngine) -> AsyncIterator[Knox]:
    """Return a user in a transaction that is rolled back at the end, and check that nothing is left afterwards."""
    async with engine.connect() as connection:
        outer = await connection.begin()
        async with AsyncSession(connection, join_transaction_mode=request.param, expire_on_commit=False) as session:
            yield Knox(session=session, user=await create_user(session))
        await outer.rollback()
        left = (await connection.execute(User.__table__.select())).all()
    assert left == []
    assert await stored(engine) == []


async def test_a_whole_life_is_rolled_back(knox: Knox) -> None:
    """Login, refresh, rotation, logout and the limit work, and the final rollback leaves nothing."""
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
    """A login that is refused undoes only its own writes, so earlier tokens and later logins still work."""
    stale = User(id=knox.user.id, email="", hashed_password="old", is_active=True)
    kept = await knox.strategy().issue(knox.user)

    with pytest.raises(CredentialsChanged):
        await knox.strategy().issue(stale)

    assert await knox.accepts(kept)
    assert await knox.accepts(await knox.strategy().issue(knox.user))


async def test_a_login_is_committed(knox: Knox) -> None:
    """A rollback of the session does not undo a login, because the store has committed it in the session."""
    token = await knox.strategy().issue(knox.user)

    await knox.session.rollback()

    assert await knox.accepts(token)
