"""With `knox_autocommit`, a read in an idle session on PostgreSQL is a single SELECT and leaves the session idle."""

import asyncio
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import Select, event, func, inspect, literal, select
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession
from sqlalchemy.orm import Session
from sqlalchemy.pool import QueuePool

from fastapi_users_knox.sqlalchemy.reading import fetch
from fastapi_users_knox.users import load_user
from tests.backends import NOW, Backend
from tests.models import User, create_user, store_on, user_manager_on
from tests.strategies import Knox, sent_to, verbs

pytestmark = pytest.mark.anyio
postgresql = pytest.mark.parametrize("any_backend", ["postgresql-asyncpg", "postgresql-psycopg"], indirect=True)


@pytest.fixture
async def session(engine: AsyncEngine) -> AsyncIterator[AsyncSession]:
    """Return a session on an engine with the option."""
    async with AsyncSession(engine.execution_options(knox_autocommit=True)) as session:
        yield session


@pytest.fixture
async def user(engine: AsyncEngine) -> User:
    """Store a user."""
    async with AsyncSession(engine, expire_on_commit=False) as session:
        return await create_user(session)


@pytest.fixture
async def token(engine: AsyncEngine, user: User) -> str:
    """Issue a token."""
    async with AsyncSession(engine) as session:
        return await Knox(session=session, user=user).strategy().write_token(user)


@pytest.fixture
def read(session: AsyncSession, user: User, token: str) -> Callable[[], Awaitable[bool]]:
    """Return a function that reads the token and returns whether it is accepted."""
    knox = Knox(session=session, user=user)
    return lambda: knox.accepts(token)


async def count_users(session: AsyncSession) -> int:
    """Return the number of users that the session sees."""
    return (await session.scalars(select(func.count()).select_from(User))).one()


async def rolls_back(session: AsyncSession) -> bool:
    """Return whether a write of the application is now in a transaction, which is tested by rolling it back."""
    before = await count_users(session)
    session.add(User(email=f"{uuid.uuid4()}@example.org", hashed_password="hash"))
    await session.flush()
    await session.rollback()
    return await count_users(session) == before


@pytest.mark.parametrize("any_backend", ["postgresql-asyncpg"], indirect=True)
@pytest.mark.parametrize(("option", "around"), [(True, []), (False, ["BEGIN;", "ROLLBACK;"])])
async def test_a_read_is_its_select_alone(
    engine: AsyncEngine, user: User, token: str, *, option: bool, around: list[str]
) -> None:
    """With the option, a read sends only a SELECT; without it, BEGIN and ROLLBACK too."""
    queries: list[str] = []

    def note(connection: Any, *_: object) -> None:
        connection.driver_connection.add_query_logger(lambda logged: queries.append(logged.query))

    await engine.dispose()
    event.listen(engine.sync_engine, "connect", note)
    async with engine.connect():  # SQLAlchemy sends further queries on a new connection, which do not count.
        pass
    queries.clear()

    with sent_to(engine) as statements:
        async with AsyncSession(engine.execution_options(knox_autocommit=option)) as session:
            assert await Knox(session=session, user=user).accepts(token)

    assert verbs(statements) == ["SELECT"]
    assert queries == around


@postgresql
async def test_an_idle_session_stays_idle(
    session: AsyncSession, user: User, read: Callable[[], Awaitable[bool]]
) -> None:
    """After a read, the session has no transaction and no connection, whether the store or the manager loads users."""
    pool = session.sync_session.get_bind(User).engine.pool
    assert isinstance(pool, QueuePool)

    assert await read()
    assert not session.in_transaction()
    assert await load_user(user_manager_on(session), user.id) is not None

    assert not session.in_transaction()
    assert pool.checkedout() == 0


@postgresql
async def test_what_the_application_does_then_is_a_transaction(
    session: AsyncSession, read: Callable[[], Awaitable[bool]]
) -> None:
    """What the application writes after a read is in a transaction and can be rolled back."""
    assert await read()

    assert await rolls_back(session)


@postgresql
async def test_what_the_application_has_begun_is_kept(
    session: AsyncSession, read: Callable[[], Awaitable[bool]]
) -> None:
    """A read inside the application's transaction joins it, and neither commits it nor rolls it back."""
    before = await count_users(session)
    session.add(User(email="new@example.org", hashed_password="hash"))
    await session.flush()

    assert await read()

    assert session.in_transaction()
    await session.rollback()
    assert await count_users(session) == before


def end_transaction(session: Session) -> None:
    """End the transaction without expiring the loaded objects."""
    transaction = session.get_transaction()
    assert transaction is not None
    transaction.close()


@postgresql
async def test_what_was_loaded_does_not_expire(session: AsyncSession, read: Callable[[], Awaitable[bool]]) -> None:
    """A read does not expire the objects that the application has loaded before."""
    loaded = await create_user(session)
    await session.run_sync(end_transaction)

    assert await read()

    assert not inspect(loaded).expired


@postgresql
@pytest.mark.parametrize(
    ("statement", "seconds", "error"),
    [(select(literal(1) / literal(0)), None, DBAPIError), (select(func.pg_sleep(60)), 0.3, TimeoutError)],
    ids=["failed", "cancelled"],
)
async def test_nothing_commits_by_itself_after_a_read_that_fails(
    session: AsyncSession, statement: Select[Any], seconds: float | None, error: type[Exception]
) -> None:
    """After a read that fails or is cancelled, the session is idle, and the next write is in a transaction."""
    with pytest.raises(error):
        async with asyncio.timeout(seconds):
            await fetch(session, statement, {}, mapper=inspect(User))

    assert not session.in_transaction()
    assert await rolls_back(session)


@pytest.mark.parametrize("any_backend", ["sqlite", "mariadb"], indirect=True)
async def test_elsewhere_it_changes_nothing(session: AsyncSession, read: Callable[[], Awaitable[bool]]) -> None:
    """On other databases, where autocommit would cost round trips, the option has no effect."""
    assert await read()

    assert session.in_transaction()


@postgresql
async def test_a_refresh_needs_one_connection(any_backend: Backend, user: User, token: str) -> None:
    """A due refresh is stored even if the pool has only one connection."""
    engine = any_backend.create_engine(pool_size=1, max_overflow=0)
    async with AsyncSession(engine.execution_options(knox_autocommit=True)) as session:
        knox = Knox(session=session, user=user)
        knox.clock.now = NOW + timedelta(minutes=5)

        found = await knox.strategy().authenticate(token, knox.user_manager)

        assert found is not None
        assert found[1].last_used_at == knox.clock.now
        assert not session.in_transaction()
        assert await store_on(session).list(user.id, audience="", now=knox.clock.now) == [found[1]]
    await engine.dispose()


@pytest.mark.parametrize("any_backend", ["postgresql-psycopg"], indirect=True)
async def test_a_session_of_two_phases_is_read_as_ever(engine: AsyncEngine, user: User, token: str) -> None:
    """In a session with two-phase transactions, the option has no effect."""
    async with AsyncSession(engine.execution_options(knox_autocommit=True), twophase=True) as session:
        assert await Knox(session=session, user=user).accepts(token)

        assert session.in_transaction()
