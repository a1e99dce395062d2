"""On PostgreSQL, a read sends its SELECT before the transaction begins."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from sqlalchemy import (
    Connection,
    Select,
    event,
    func,
    inspect,
    literal,
    select,
    update,
)
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession
from sqlalchemy.orm import object_session

from fastapi_users_knox.sqlalchemy.reading import fetch
from fastapi_users_knox.users import load_user
from tests.backends import NOW
from tests.models import User, create_user, store_on, user_manager_on
from tests.sqlalchemy.lazy_begin.looks import (
    IDLE,
    IN_TRANSACTION,
    asyncpg,
    count_users,
    postgresql,
    rolls_back,
    state_of,
)
from tests.strategies import Knox, change_user

pytestmark = pytest.mark.anyio


@asyncpg
async def test_a_read_is_its_select_alone(engine: AsyncEngine, user: User, token: str) -> None:
    """A read sends one SELECT, and neither BEGIN nor ROLLBACK; the first read of each connection sends both."""
    queries: list[str] = []

    def note(connection: Any, *_: object) -> None:
        connection.driver_connection.add_query_logger(lambda logged: queries.append(logged.query))

    await engine.dispose()
    event.listen(engine.sync_engine, "connect", note)
    async with engine.connect():  # SQLAlchemy sends further queries on a new connection, which do not count.
        pass
    sent = []
    for _ in range(3):
        queries.clear()
        async with AsyncSession(engine) as session:
            assert await Knox(session=session, user=user).accepts(token)
        sent.append(list(queries))

    assert sent == [["BEGIN;", "ROLLBACK;"], [], []]


@postgresql
async def test_no_transaction_is_open_after_a_read(
    engine: AsyncEngine, session: AsyncSession, user: User, read: Callable[[], Awaitable[bool]]
) -> None:
    """After a read the server has no transaction open, whether the store or the user manager loads the user."""
    assert await read()
    after_store = await state_of(session, engine)
    assert await load_user(user_manager_on(session), user.id) is not None

    assert (after_store, await state_of(session, engine)) == (IDLE, IDLE)


@postgresql
async def test_what_the_application_does_then_is_a_transaction(
    engine: AsyncEngine, session: AsyncSession, read: Callable[[], Awaitable[bool]]
) -> None:
    """The application's first statement begins the transaction, and its writes can be rolled back."""
    assert await read()
    await count_users(session)
    state = await state_of(session, engine)
    await session.rollback()

    assert await read()
    assert (state, await rolls_back(session)) == (IN_TRANSACTION, True)


@postgresql
async def test_what_the_application_has_begun_is_kept(
    session: AsyncSession, read: Callable[[], Awaitable[bool]]
) -> None:
    """A read inside the application's transaction joins it, and neither commits it nor rolls it back."""
    before = await count_users(session)
    session.add(User(email="new@example.org", hashed_password="hash"))
    await session.flush()

    assert await read()

    await session.rollback()
    assert await count_users(session) == before


@postgresql
async def test_what_was_loaded_does_not_expire(session: AsyncSession, read: Callable[[], Awaitable[bool]]) -> None:
    """A read does not expire the objects that the application has loaded before."""
    loaded = await create_user(session)
    await session.refresh(loaded)

    assert await read()

    assert not inspect(loaded).expired


@postgresql
async def test_pending_objects_are_not_stored_by_a_read(engine: AsyncEngine, session: AsyncSession, user: User) -> None:
    """A read of an unknown token neither flushes nor commits objects that the application has added."""
    session.add(User(email="new@example.org", hashed_password="hash"))

    found = await Knox(session=session, user=user).strategy().read_token("knox_" + "0" * 51, user_manager_on(session))
    assert await store_on(session).list(user.id, audience="elsewhere", now=NOW) == []

    assert found is None
    async with AsyncSession(engine) as other:
        assert await count_users(other) == 1


@postgresql
@pytest.mark.parametrize(
    ("statement", "seconds", "error"),
    [(select(literal(1) / literal(0)), None, DBAPIError), (select(func.pg_sleep(60)), 0.3, TimeoutError)],
    ids=["failed", "cancelled"],
)
async def test_nothing_commits_by_itself_after_a_read_that_fails(
    session: AsyncSession, statement: Select[Any], seconds: float | None, error: type[Exception]
) -> None:
    """After a read that fails or is cancelled, the next write of the application is in a transaction."""
    with pytest.raises(error):
        async with asyncio.timeout(seconds):
            await fetch(session, statement, {}, mapper=inspect(User))

    await session.rollback()
    assert await rolls_back(session)


@pytest.mark.measured
@postgresql
async def test_a_connection_that_is_lost_meanwhile_is_given_up(
    session: AsyncSession, read: Callable[[], Awaitable[bool]]
) -> None:
    """If the server ends the connection during a read, the read fails, and no later read uses that connection."""
    with pytest.raises(DBAPIError):
        await fetch(session, select(func.pg_terminate_backend(func.pg_backend_pid())), {}, mapper=inspect(User))

    await session.rollback()
    assert await read()
    assert await rolls_back(session)


@postgresql
async def test_the_latest_state_is_seen_before_the_begin(
    engine: AsyncEngine, user: User, read: Callable[[], Awaitable[bool]]
) -> None:
    """Of two reads in one session, the second sees a deactivation that was committed after the first read."""
    before = await read()

    await change_user(engine, user, is_active=False)

    assert (before, await read()) == (True, False)


@postgresql
async def test_what_the_application_does_on_load_is_in_a_transaction(
    engine: AsyncEngine, user: User, token: str
) -> None:
    """What a listener of the application writes when the read loads the user can be rolled back."""

    def write(loaded: User, _context: object) -> None:
        changed = update(User).where(User.__table__.c.id == loaded.id).values(email="changed@example.org")
        connection_of(loaded).execute(changed)

    event.listen(User, "load", write)
    try:
        async with AsyncSession(engine) as session:
            accepted = await Knox(session=session, user=user).accepts(token)
            await session.rollback()
    finally:
        event.remove(User, "load", write)

    async with AsyncSession(engine) as session:
        stored = (await session.scalars(select(User.__table__.c.email))).one()
    assert (accepted, stored) == (True, user.email)


def connection_of(loaded: User) -> Connection:
    """Return the connection of the session that has loaded an object."""
    session = object_session(loaded)
    assert session is not None
    return session.connection()


@postgresql
async def test_a_second_read_needs_no_second_connection(
    single: AsyncEngine, engine: AsyncEngine, user: User, token: str
) -> None:
    """The second read in a session counts as the first one of its transaction, which has not begun."""
    async with AsyncSession(single) as session:
        reads = [await Knox(session=session, user=user).accepts(token) for _ in range(2)]
        state = await state_of(session, engine)

    assert (reads, state) == ([True, True], IDLE)
