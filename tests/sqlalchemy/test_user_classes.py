"""Logins, reads, limits and deletions work for users in every shape that SQLAlchemy can map."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from fastapi_users import BaseUserManager
from fastapi_users_db_sqlalchemy import SQLAlchemyUserDatabase
from sqlalchemy import Column, Connection, ForeignKey, MetaData, Table, event, select
from sqlalchemy.exc import DBAPIError, IntegrityError
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession

from fastapi_users_knox import CredentialsChanged, KnoxSettings, KnoxStrategy, TokenLimitReached
from fastapi_users_knox.sqlalchemy import SQLAlchemyTokenStore
from fastapi_users_knox.sqlalchemy.statements import statements_for
from tests.backends import Backend
from tests.conftest import backend_of
from tests.sqlalchemy.user_shapes import LOOSER_SQL, SHAPES, Shape
from tests.strategies import sent_to, verbs

pytestmark = pytest.mark.unmeasured

SERVERS = ("postgresql-asyncpg", "mariadb")

Strategy = KnoxStrategy[Any, Any]


class Manager(BaseUserManager[Any, Any]):
    """A user manager of any user class."""

    def parse_id(self, value: Any) -> Any:
        """Return the id unchanged."""
        return value


@pytest.fixture(params=["sqlite", *SERVERS], scope="module")
def any_backend(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Backend:
    """Return one database of each kind."""
    return backend_of(request.param, request, tmp_path_factory.mktemp("users"))


@pytest.fixture(params=SHAPES, scope="module")
def shape(request: pytest.FixtureRequest) -> Shape:
    """Return each shape."""
    return {**SHAPES, **LOOSER_SQL}[request.param]


@pytest.fixture(scope="module")
async def connected(any_backend: Backend, shape: Shape) -> AsyncIterator[AsyncEngine]:
    """Return an engine on the tables of one shape only, because different shapes have tables of the same name."""
    engine = any_backend.create_engine()
    async with engine.begin() as connection:
        await connection.run_sync(drop_all_tables)
        await connection.run_sync(shape.metadata.create_all)
    yield engine
    async with engine.begin() as connection:
        await connection.run_sync(drop_all_tables)
    await engine.dispose()


@pytest.fixture
async def engine(connected: AsyncEngine, shape: Shape) -> AsyncEngine:
    """Return the engine on empty tables."""
    async with connected.begin() as connection:
        for table in reversed(shape.metadata.sorted_tables):
            await connection.execute(table.delete())
    return connected


def drop_all_tables(connection: Connection) -> None:
    """Drop all existing tables."""
    metadata = MetaData()
    metadata.reflect(connection)
    metadata.drop_all(connection)


@pytest.fixture
async def session(engine: AsyncEngine) -> AsyncIterator[AsyncSession]:
    """Return the application's session."""
    async with AsyncSession(engine, expire_on_commit=False) as session:
        yield session


@pytest.fixture
async def user(session: AsyncSession, shape: Shape) -> Any:
    """Store a user."""
    return await stored_user(session, shape)


@pytest.fixture
def strategy(session: AsyncSession, shape: Shape) -> Strategy:
    """Return a strategy without a limit."""
    return strategy_on(session, shape)


def strategy_on(session: AsyncSession, shape: Shape, **settings: Any) -> Strategy:
    """Return a strategy."""
    return KnoxStrategy(SQLAlchemyTokenStore(session, shape.token), KnoxSettings(**settings), request=None)


def manager_on(session: AsyncSession, shape: Shape) -> Manager:
    """Return a user manager on a session."""
    return Manager(SQLAlchemyUserDatabase(session, shape.user))


async def stored_user(session: AsyncSession, shape: Shape) -> Any:
    """Store a user, always with the same id."""
    user = shape.new_user()
    session.add(user)
    await session.commit()
    await session.refresh(user)
    return user


async def change(engine: AsyncEngine, shape: Shape, **values: Any) -> None:
    """Change the user in another session, so that the test's own session does not know it."""
    async with AsyncSession(engine) as elsewhere:
        user = await elsewhere.get_one(shape.user, shape.id)
        for name, value in values.items():
            setattr(user, name, value)
        await elsewhere.commit()


async def number_of_tokens(engine: AsyncEngine, shape: Shape) -> int:
    """Return the number of stored records, as another connection reads it."""
    async with engine.connect() as connection:
        return len((await connection.execute(select(shape.token.__table__))).all())


async def test_a_token_is_issued_and_read(engine: AsyncEngine, shape: Shape, user: Any, strategy: Strategy) -> None:
    """A token is issued and read with the expected number of SELECTs, and the read returns the user."""
    token = await strategy.issue(user)

    async with AsyncSession(engine) as later:
        with sent_to(engine) as statements:
            read = await strategy_on(later, shape).read_token(token, manager_on(later, shape))
        listed = await strategy_on(later, shape).list_records(user)

    assert read is not None
    assert type(read) is shape.user
    assert (read.id, listed) == (user.id, [token.record])
    assert [record.user_id for record in listed] == [user.id]
    assert verbs(statements) == ["SELECT"] * shape.reads


async def test_the_store_sees_the_users(session: AsyncSession, shape: Shape) -> None:
    """The store finds the user class by itself, without `users=`."""
    assert SQLAlchemyTokenStore[Any, Any](session, shape.token).sees_users


async def test_the_limit_holds(session: AsyncSession, shape: Shape, user: Any) -> None:
    """A login beyond the limit is refused."""
    strategy = strategy_on(session, shape, token_limit_per_user=1)
    await strategy.issue(user)

    with pytest.raises(TokenLimitReached):
        await strategy.issue(user)


async def test_a_password_changed_meanwhile_fails_the_login(
    engine: AsyncEngine, shape: Shape, user: Any, strategy: Strategy
) -> None:
    """A login stores no token if the password has changed since the user was loaded."""
    await change(engine, shape, **{shape.password: "another hash"})

    with pytest.raises(CredentialsChanged):
        await strategy.issue(user)

    assert await number_of_tokens(engine, shape) == 0


async def test_a_user_deactivated_meanwhile_fails_the_login(
    engine: AsyncEngine, shape: Shape, user: Any, strategy: Strategy
) -> None:
    """A login stores no token if the user was deactivated after being loaded."""
    await change(engine, shape, **shape.inactive)

    with pytest.raises(CredentialsChanged):
        await strategy.issue(user)

    assert await number_of_tokens(engine, shape) == 0


async def test_an_inactive_user_is_refused(
    engine: AsyncEngine, session: AsyncSession, shape: Shape, user: Any, strategy: Strategy
) -> None:
    """A token of an inactive user is refused, even if the session has loaded the user as active before."""
    token = await strategy.issue(user)
    await change(engine, shape, **shape.inactive)

    assert await strategy.read_token(token, manager_on(session, shape)) is None


@pytest.mark.parametrize("shape", LOOSER_SQL, indirect=True)
@pytest.mark.parametrize("sees_users", [True, False])
async def test_a_user_whose_object_says_inactive_is_refused(
    engine: AsyncEngine, shape: Shape, user: Any, strategy: Strategy, *, sees_users: bool
) -> None:
    """If `is_active` is looser in SQL than in Python, a user who is inactive in Python is refused."""
    token = await strategy.issue(user)
    await change(engine, shape, **shape.inactive)

    async with AsyncSession(engine) as later:
        store = SQLAlchemyTokenStore[Any, Any](later, shape.token, users=... if sees_users else None)
        reading = KnoxStrategy(store, KnoxSettings(), user_db=None, request=None)
        read = await reading.read_token(token, manager_on(later, shape))

    assert read is None


@pytest.mark.parametrize("shape", ["two_bases", "properties"], indirect=True)
async def test_an_object_from_before_the_activation_hinders_nobody(
    engine: AsyncEngine, session: AsyncSession, shape: Shape, user: Any, strategy: Strategy
) -> None:
    """A user who is active again is accepted, even if the session has loaded the user as inactive before."""
    token = await strategy.issue(user)
    await change(engine, shape, **shape.inactive)
    await session.refresh(user)
    await session.commit()
    await change(engine, shape, **shape.active)

    read = await strategy.read_token(token, manager_on(session, shape))

    assert read is not None
    assert (read is user, read.is_active) == (True, False)


async def test_a_deleted_user_takes_the_tokens_along(
    engine: AsyncEngine, session: AsyncSession, shape: Shape, user: Any, strategy: Strategy
) -> None:
    """A deletion deletes the tokens first, because without a cascade the foreign key would forbid it."""
    await strategy.issue(user)

    await SQLAlchemyUserDatabase[Any, Any](session, shape.user).delete(user)

    assert await number_of_tokens(engine, shape) == 0


async def test_a_number_that_is_used_again_brings_no_tokens_along(
    session: AsyncSession, shape: Shape, user: Any, strategy: Strategy
) -> None:
    """A new user with the id of a deleted one is not logged in by the old tokens."""
    token = await strategy.issue(user)
    await SQLAlchemyUserDatabase[Any, Any](session, shape.user).delete(user)

    await stored_user(session, shape)

    assert await strategy.read_token(token, manager_on(session, shape)) is None


async def test_a_refused_deletion_leaves_the_tokens(
    engine: AsyncEngine, session: AsyncSession, shape: Shape, user: Any, strategy: Strategy
) -> None:
    """A deletion that another table's foreign key forbids raises the database's own error and keeps the tokens."""
    token = await strategy.issue(user)

    async with invoice(engine, shape):
        with pytest.raises(IntegrityError):
            await SQLAlchemyUserDatabase[Any, Any](session, shape.user).delete(user)
        await session.rollback()

    assert await strategy.read_token(token, manager_on(session, shape)) is not None


@asynccontextmanager
async def invoice(engine: AsyncEngine, shape: Shape) -> AsyncIterator[None]:
    """During the block, a row of another table refers to the user, and SQLite enforces foreign keys like a server."""
    if engine.dialect.name == "sqlite":
        event.listen(engine.sync_engine, "checkout", keep_foreign_keys)
    (key,) = shape.token.__table__.c.user_id.foreign_keys
    table = Table("invoice", MetaData(), Column("user_id", ForeignKey(key.column)))
    async with engine.begin() as connection:
        await connection.run_sync(table.create)
        await connection.execute(table.insert().values(user_id=shape.id))
    yield
    async with engine.begin() as connection:
        await connection.run_sync(table.drop)
    if engine.dialect.name == "sqlite":
        event.remove(engine.sync_engine, "checkout", keep_foreign_keys)
        await engine.dispose()


def keep_foreign_keys(dbapi: Any, *_: object) -> None:
    """Make a connection to SQLite enforce foreign keys."""
    dbapi.execute("PRAGMA foreign_keys = ON")


@pytest.mark.parametrize("any_backend", SERVERS, indirect=True)
async def test_a_login_locks_the_user_in_every_table(
    engine: AsyncEngine, session: AsyncSession, shape: Shape, user: Any
) -> None:
    """A login locks the user's row in every table, so a change of the user waits, whichever table it changes first."""
    users = statements_for(session, shape.token).users
    assert users is not None

    async with engine.begin() as login:
        await login.execute(users.lock, {"user_id": user.id})
        for table in users.mapper.tables:
            async with engine.connect() as other:
                with pytest.raises(DBAPIError):
                    await other.execute(select(table).with_for_update(nowait=True))


@pytest.mark.parametrize("any_backend", SERVERS, indirect=True)
async def test_a_deletion_locks_the_user_before_the_tokens(
    engine: AsyncEngine, session: AsyncSession, shape: Shape, user: Any, strategy: Strategy
) -> None:
    """A deletion locks the user before the tokens, like a login, so the two cannot deadlock or interleave."""
    await strategy.issue(user)

    with sent_to(engine) as statements:
        await SQLAlchemyUserDatabase[Any, Any](session, shape.user).delete(user)

    deletion = next(number for number, sent in enumerate(statements) if sent.startswith("DELETE"))
    assert shape.token.__table__.name in statements[deletion]
    assert "FOR UPDATE" in statements[deletion - 1]
