"""With tokens in Redis, a login and `read_record` check the user through `user_db`, FastAPI-Users' adapter."""

import uuid
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import timedelta
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
    """Return a database for the users; in some, an open transaction sees old data (WAL, REPEATABLE READ, MariaDB)."""
    return backend_of(request.param, request, tmp_path)


@dataclass(kw_only=True)
class Login:
    """A login that has just loaded the user, in a session with an open transaction."""

    redis: Redis
    session: AsyncSession
    user: User

    def strategy(self, user_db: BaseUserDatabase[User, uuid.UUID] | None) -> KnoxStrategy[User, uuid.UUID]:
        """Return the strategy of the login."""
        return KnoxStrategy(RedisTokenStore(self.redis), KnoxSettings(), request=None, user_db=user_db)

    @property
    def user_db(self) -> SQLAlchemyUserDatabase[User, uuid.UUID]:
        """The adapter, as an application creates it."""
        return SQLAlchemyUserDatabase(self.session, User)


@pytest.fixture
async def login(redis: Redis, engine: AsyncEngine) -> AsyncIterator[Login]:
    """Return a login of a user whom another session has stored."""
    async with AsyncSession(engine) as elsewhere:
        user_id = (await create_user(elsewhere)).id
    async with AsyncSession(engine) as session:
        user = await session.get(User, user_id)
        assert user is not None
        yield Login(redis=redis, session=session, user=user)


async def test_an_unchanged_user_logs_in(login: Login) -> None:
    """A user who has not changed can log in, and the user object stays usable after the check."""
    token = await login.strategy(login.user_db).issue(login.user)

    assert await login.strategy(login.user_db).read_record(token) == token.record
    assert login.user.email


@pytest.mark.parametrize("changes", CHANGES, ids=["password", "activity"])
async def test_a_user_who_changes_meanwhile_does_not(
    login: Login, engine: AsyncEngine, changes: dict[str, Any]
) -> None:
    """A login fails if another connection has changed the user since, even if this transaction sees the old data."""
    await change_user(engine, login.user, **changes)

    with pytest.raises(CredentialsChanged):
        await login.strategy(login.user_db).issue(login.user)

    assert await login.redis.dbsize() == 0


@pytest.mark.parametrize("changes", CHANGES, ids=["password", "activity"])
async def test_a_user_who_changes_meanwhile_rolls_nothing(
    login: Login, engine: AsyncEngine, changes: dict[str, Any]
) -> None:
    """If the user has changed since, a roll fails before it revokes the old token."""
    strategy = login.strategy(login.user_db)
    session = await strategy.issue(login.user)
    old = await strategy.issue(login.user, by=session.record, scopes={"a"}, replace=False)
    await change_user(engine, login.user, **changes)

    with pytest.raises(CredentialsChanged):
        await strategy.roll_token(old.record, login.user, by=session.record, overlap=timedelta(0))

    assert old.record in await strategy.list_records(login.user)


async def test_a_scoped_session_is_looked_through(login: Login, engine: AsyncEngine) -> None:
    """The check works with an adapter that has a scoped session."""
    scoped: Any = async_scoped_session(async_sessionmaker(engine), scopefunc=lambda: None)

    assert await login.strategy(SQLAlchemyUserDatabase(scoped, User)).issue(login.user)

    await scoped.remove()


async def test_without_a_user_database_nothing_is_checked(login: Login, engine: AsyncEngine) -> None:
    """With `user_db=None`, a login does not check whether the user has changed."""
    await change_user(engine, login.user, hashed_password="new")

    token = await login.strategy(None).issue(login.user)

    assert await login.strategy(None).read_record(token) == token.record


async def test_a_record_of_an_inactive_or_deleted_user_is_not_read(login: Login, engine: AsyncEngine) -> None:
    """`read_record` returns no record of a user who is stored as inactive, and flushes nothing of the session."""
    token = await login.strategy(login.user_db).issue(login.user)
    await change_user(engine, login.user, is_active=False)
    pending = User(email="eve@example.org", hashed_password="hash")
    login.session.add(pending)

    inactive = await login.strategy(login.user_db).read_record(token)

    assert inactive is None
    assert pending in login.session.new


class TestAnotherAdapter:
    """With an adapter for another database, the check calls its `get`."""

    @pytest.mark.parametrize("changes", [*CHANGES, None], ids=["password", "activity", "deletion"])
    async def test_a_user_who_changes_meanwhile_does_not_log_in(
        self, redis: Redis, changes: dict[str, Any] | None
    ) -> None:
        """A login of a user who was changed or deleted meanwhile fails, and stores nothing."""
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
