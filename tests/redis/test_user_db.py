"""`user_db`: with tokens in Redis, a login and `read_record` check the user by FastAPI-Users' adapter."""

import uuid
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from fastapi_users.db import BaseUserDatabase
from fastapi_users_db_sqlalchemy import SQLAlchemyUserDatabase
from redis.asyncio import Redis
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession, async_scoped_session, async_sessionmaker

from fastapi_users_knox import CredentialsChanged, KnoxSettings, KnoxStrategy
from fastapi_users_knox.redis import RedisTokenStore
from tests.backends import Backend
from tests.conftest import backend_of
from tests.models import User, create_user
from tests.redis.people import MemoryUserDatabase, Person
from tests.strategies import change_user

pytestmark = pytest.mark.anyio

CHANGES: list[dict[str, Any]] = [{"hashed_password": "new"}, {"is_active": False}]


@pytest.fixture(params=["sqlite", "sqlite-wal-begin", "postgresql-asyncpg", "postgresql-repeatable-read", "mariadb"])
def any_backend(request: pytest.FixtureRequest, tmp_path: Path) -> Backend:
    """Give the users' database, also where an open transaction sees an older state (WAL, REPEATABLE READ, MariaDB)."""
    return backend_of(request.param, request, tmp_path)


@dataclass(kw_only=True)
class Login:
    """A login under way: the user was loaded by the session, whose transaction is open."""

    redis: Redis
    session: AsyncSession
    user: User

    def strategy(self, user_db: BaseUserDatabase[User, uuid.UUID] | None) -> KnoxStrategy[User, uuid.UUID]:
        """Make the strategy."""
        return KnoxStrategy(RedisTokenStore(self.redis), KnoxSettings(), request=None, user_db=user_db)

    @property
    def user_db(self) -> SQLAlchemyUserDatabase[User, uuid.UUID]:
        """Make the adapter as an application does."""
        return SQLAlchemyUserDatabase(self.session, User)


@pytest.fixture
async def login(redis: Redis, engine: AsyncEngine) -> AsyncIterator[Login]:
    """Give a login of a user."""
    async with AsyncSession(engine) as elsewhere:
        user_id = (await create_user(elsewhere)).id
    async with AsyncSession(engine) as session:
        user = await session.get(User, user_id)
        assert user is not None
        yield Login(redis=redis, session=session, user=user)


async def test_an_unchanged_user_logs_in(login: Login) -> None:
    """The user's object stays usable after the check, and no transaction stays open."""
    token = await login.strategy(login.user_db).issue(login.user)

    assert await login.strategy(login.user_db).read_record(token) == token.record
    assert login.user.email


@pytest.mark.parametrize("changes", CHANGES, ids=["password", "activity"])
async def test_a_user_who_changes_meanwhile_does_not(
    login: Login, engine: AsyncEngine, changes: dict[str, Any]
) -> None:
    """What another connection has committed since is seen, though session and transaction still hold what was."""
    await change_user(engine, login.user, **changes)

    with pytest.raises(CredentialsChanged):
        await login.strategy(login.user_db).issue(login.user)

    assert await login.redis.dbsize() == 0


async def test_a_scoped_session_is_looked_through(login: Login, engine: AsyncEngine) -> None:
    """The adapter may have a scoped session."""
    scoped: Any = async_scoped_session(async_sessionmaker(engine), scopefunc=lambda: None)

    assert await login.strategy(SQLAlchemyUserDatabase(scoped, User)).issue(login.user)

    await scoped.remove()


async def test_without_a_user_database_nothing_is_checked(login: Login, engine: AsyncEngine) -> None:
    """`user_db=None` says that an application does without."""
    await change_user(engine, login.user, hashed_password="new")

    token = await login.strategy(None).issue(login.user)

    assert await login.strategy(None).read_record(token) == token.record


async def test_a_record_of_an_inactive_or_deleted_user_is_not_read(login: Login, engine: AsyncEngine) -> None:
    """As over SQL, `read_record` answers for active users alone, by what is stored, and commits nothing."""
    token = await login.strategy(login.user_db).issue(login.user)
    await change_user(engine, login.user, is_active=False)
    pending = User(email="eve@example.org", hashed_password="hash")
    login.session.add(pending)

    inactive = await login.strategy(login.user_db).read_record(token)

    assert inactive is None
    assert pending in login.session.new


class TestAnotherAdapter:
    """The check is made by the `get` of whatever adapter there is."""

    @pytest.mark.parametrize("changes", [*CHANGES, None], ids=["password", "activity", "deletion"])
    async def test_a_user_who_changes_meanwhile_does_not_log_in(
        self, redis: Redis, changes: dict[str, Any] | None
    ) -> None:
        """The login fails, leaves nothing, and a token from before is not read."""
        user = Person(id=uuid.uuid4(), email="ada@example.org")
        users: MemoryUserDatabase[uuid.UUID] = MemoryUserDatabase(uuid.uuid4, {user.id: user})
        store: RedisTokenStore[Person[uuid.UUID], uuid.UUID] = RedisTokenStore(redis)
        strategy = KnoxStrategy(store, request=None, user_db=users)
        loaded = await users.get(user.id)
        assert loaded is not None
        if changes is None:
            await users.delete(user)
        else:
            await users.update(user, changes)

        with pytest.raises(CredentialsChanged):
            await strategy.issue(loaded)

        assert await redis.dbsize() == 0
