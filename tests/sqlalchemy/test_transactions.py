"""Reads and writes of tokens affect the application's session and its open transaction only as documented."""

import asyncio
import re
import uuid
from collections.abc import AsyncIterator
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Executable, delete, event, func, select, update
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession, async_sessionmaker

from fastapi_users_knox import KnoxSettings, KnoxStrategy, StoreUnavailable, TokenRecord
from tests.backends import MEMORY, NOW, SERVERS, SQLITE, Backend
from tests.models import KnoxToken, User, create_empty_tables, create_user, store_on, user_manager_on

pytestmark = pytest.mark.anyio

LATER = NOW + timedelta(hours=1)
REFRESHING = KnoxSettings(auto_refresh=True)
Sessions = async_sessionmaker[AsyncSession]
# MariaDB at SERIALIZABLE locks the rows that an open transaction has read, so no other connection can write to them.
UNLOCKING = [*SQLITE, *sorted(SERVERS.keys() - {"mariadb-serializable"})]


def strategy_on(session: AsyncSession, now: datetime = LATER) -> KnoxStrategy[User, uuid.UUID]:
    """Return a strategy with automatic refresh whose clock stands still."""
    return KnoxStrategy(store_on(session), REFRESHING, clock=lambda: now, request=None)


async def authenticate(session: AsyncSession, token: str) -> tuple[User, TokenRecord[uuid.UUID]] | None:
    """Read a token an hour after its login, when its refresh is due."""
    return await strategy_on(session).authenticate(token, user_manager_on(session))


@pytest.fixture
async def token(sessions: Sessions) -> str:
    """Issue a token to a user."""
    async with sessions() as session:
        return await strategy_on(session, NOW).write_token(await create_user(session))


async def stored_expiry(sessions: Sessions) -> datetime | None:
    """Return the stored expiry of the only token, as another session reads it."""
    async with sessions() as session:
        return (await session.scalars(select(KnoxToken))).one().expires_at


def unstorable() -> User:
    """Return a user that every database refuses, because it has no e-mail address."""
    return User(hashed_password="hash")


async def test_reading_flushes_nothing(sessions: Sessions, token: str) -> None:
    """A read flushes no pending changes of the session, so changes that the database refuses do not fail it."""
    async with sessions() as session:
        pending = unstorable()
        session.add(pending)

        assert await authenticate(session, token) is not None

        assert pending in session.new
        with pytest.raises(IntegrityError):
            await session.flush()


# If SQLite begins transactions at a read, only one of two open transactions can write, so a refresh waits.
@pytest.mark.parametrize("any_backend", [name for name in UNLOCKING if "begin" not in name], indirect=True)
async def test_a_refresh_is_stored_beside_an_open_transaction(sessions: Sessions, token: str) -> None:
    """A due refresh is stored even if the application has a transaction open that it never commits."""
    async with sessions() as session:
        await session.execute(select(func.count()).select_from(User))

        assert await authenticate(session, token) is not None

    assert await stored_expiry(sessions) == LATER + timedelta(hours=10)


@pytest.mark.parametrize("any_backend", [name for name in UNLOCKING if "autocommit" not in name], indirect=True)
@pytest.mark.bounded
async def test_reading_neither_commits_nor_rolls_back(sessions: Sessions, token: str) -> None:
    """A read with a refresh neither commits nor rolls back the application's uncommitted changes."""
    async with sessions() as session:
        session.add(User(email="new@example.org", hashed_password="hash"))
        await session.flush()

        assert await authenticate(session, token) is not None

        mine = await session.scalar(select(func.count()).select_from(User))
        async with sessions() as other:
            theirs = await other.scalar(select(func.count()).select_from(User))
    assert (mine, theirs) == (2, 1)


async def test_the_application_can_write_in_the_transaction_it_read_in(sessions: Sessions, token: str) -> None:
    """After a refresh during the application's transaction, that transaction can still write."""
    async with sessions() as session:
        await session.execute(select(func.count()).select_from(User))

        await authenticate(session, token)

        session.add(User(email="new@example.org", hashed_password="hash"))
        await session.commit()


async def test_what_a_session_holds_stays_usable(sessions: Sessions) -> None:
    """Login, refresh, rotation and logout commit the session, and the objects in it stay usable."""
    async with sessions() as session:
        user = await create_user(session)
        strategy = strategy_on(session, NOW)

        token = await strategy.write_token(user)
        assert user.email
        assert await authenticate(session, token) is not None
        assert user.email
        await strategy.destroy_token(await strategy.rotate_token(token, user), user)
        assert user.email

        assert not session.in_transaction()


async def test_writing_commits_the_session(sessions: Sessions, token: str) -> None:
    """A logout commits the pending changes of the session, as FastAPI-Users' own adapters do."""
    async with sessions() as session:
        user = (await session.scalars(select(User))).one()
        user.email = "changed@example.org"

        await strategy_on(session, NOW).destroy_token(token, user)

    async with sessions() as session:
        assert (await session.scalars(select(User))).one().email == "changed@example.org"


async def test_a_user_that_is_only_added_can_log_in(sessions: Sessions) -> None:
    """A user who is only added to the session can log in, because the user is flushed before the token is stored."""
    async with sessions() as session:
        await session.execute(select(func.count()).select_from(User))
        user = User(id=uuid.uuid4(), email="new@example.org", hashed_password="hash", is_active=True)
        session.add(user)

        token = await strategy_on(session, NOW).write_token(user)

        assert await strategy_on(session, NOW).read_token(token, user_manager_on(session)) is user


@pytest.fixture
async def user_and_token(backend: Backend) -> AsyncIterator[tuple[User, str]]:
    """Issue a token to a user, on a database that several connections can share."""
    engine = backend.create_engine()
    await create_empty_tables(engine)
    async with AsyncSession(engine, expire_on_commit=False) as session:
        user = await create_user(session)
        yield user, await strategy_on(session, NOW).write_token(user)
    await engine.dispose()


async def elsewhere(backend: Backend, statement: Executable) -> None:
    """Execute and commit a statement on another engine, like another process."""
    engine = backend.create_engine()
    async with engine.connect() as connection:
        await connection.execute(statement)
        await connection.commit()
    await engine.dispose()


@pytest.fixture(params=["idle", "in a transaction"])
async def holding_session(
    request: pytest.FixtureRequest, backend: Backend, user_and_token: tuple[User, str]
) -> AsyncIterator[AsyncSession]:
    """Return a session that has loaded the user, and that is idle or still in that transaction."""
    engine = backend.create_engine()
    async with AsyncSession(engine, expire_on_commit=False) as session:
        await session.get_one(User, user_and_token[0].id)
        if request.param == "idle":
            await session.commit()
        yield session
    await engine.dispose()


# On MariaDB at SERIALIZABLE, nobody can change a user that an open transaction has read.
UNBLOCKED = pytest.mark.parametrize("backend", UNLOCKING, indirect=True)


@UNBLOCKED
async def test_a_user_deactivated_elsewhere_is_refused(
    backend: Backend, user_and_token: tuple[User, str], holding_session: AsyncSession
) -> None:
    """A user whom another process has deactivated is refused, whatever this session has loaded or its snapshot has."""
    await elsewhere(backend, update(User).values(is_active=False))

    assert await authenticate(holding_session, user_and_token[1]) is None


@UNBLOCKED
async def test_a_token_ended_elsewhere_is_refused(
    backend: Backend, user_and_token: tuple[User, str], holding_session: AsyncSession
) -> None:
    """A token that another process has revoked is refused, even in a transaction that began earlier."""
    assert await authenticate(holding_session, user_and_token[1]) is not None
    await elsewhere(backend, delete(KnoxToken))

    assert await authenticate(holding_session, user_and_token[1]) is None


async def one_connection(backend: Backend, **options: Any) -> AsyncIterator[AsyncSession]:
    """Return a session on an engine with only one connection; waiting for a second one would take an hour."""
    engine = backend.create_engine(pool_size=1, max_overflow=0, pool_timeout=3600, **options)
    async with AsyncSession(engine) as session:
        yield session
    await engine.dispose()


@pytest.fixture
async def lone_session(backend: Backend, user_and_token: tuple[User, str]) -> AsyncIterator[AsyncSession]:
    """Return a session on an engine with one connection, at the backend's isolation level."""
    assert user_and_token
    async for session in one_connection(backend):
        yield session


@pytest.fixture
async def current_session(backend: Backend, user_and_token: tuple[User, str]) -> AsyncIterator[AsyncSession]:
    """Return a session on an engine with one connection, at READ COMMITTED where the database has that level."""
    assert user_and_token
    async for session in one_connection(backend, **backend.impatient):
        yield session


async def test_of_one_connection_a_refresh_takes_the_one(
    user_and_token: tuple[User, str], lone_session: AsyncSession
) -> None:
    """With only one connection, a due refresh is stored, because the read ends its own transaction before."""
    await authenticate(lone_session, user_and_token[1])
    await lone_session.commit()

    stored = (await lone_session.scalars(select(KnoxToken))).one()
    assert stored.expires_at == LATER + timedelta(hours=10)


async def test_two_backends_share_the_one_connection(
    user_and_token: tuple[User, str], lone_session: AsyncSession
) -> None:
    """If one backend does not know a token, the next one can still read and refresh it on the only connection."""
    other = KnoxStrategy(store_on(lone_session), KnoxSettings(audience="other"), clock=lambda: LATER, request=None)

    assert await other.read_token(user_and_token[1], user_manager_on(lone_session)) is None
    await authenticate(lone_session, user_and_token[1])
    await lone_session.commit()

    stored = (await lone_session.scalars(select(KnoxToken))).one()
    assert stored.expires_at == LATER + timedelta(hours=10)


@pytest.mark.parametrize("backend", [name for name in UNLOCKING if "begin" not in name], indirect=True)
@pytest.mark.bounded
async def test_without_a_connection_a_refresh_is_skipped(
    user_and_token: tuple[User, str], current_session: AsyncSession
) -> None:
    """While the application's transaction uses the only connection, a read succeeds without the refresh."""
    await current_session.execute(select(func.count()).select_from(User))

    authenticated = await authenticate(current_session, user_and_token[1])

    assert authenticated is not None
    assert authenticated[1].expires_at == NOW + timedelta(hours=10)


@pytest.mark.parametrize(
    "backend", ["sqlite-wal-begin", "postgresql-repeatable-read", "postgresql-serializable", "mariadb"], indirect=True
)
@pytest.mark.bounded
async def test_without_a_connection_an_older_snapshot_is_not_believed(
    user_and_token: tuple[User, str], lone_session: AsyncSession
) -> None:
    """In an older snapshot, a read raises `StoreUnavailable` if no second connection can check the token."""
    await lone_session.execute(select(func.count()).select_from(User))

    with pytest.raises(StoreUnavailable):
        await authenticate(lone_session, user_and_token[1])


async def test_in_memory_a_refresh_waits_for_an_idle_session() -> None:
    """If all sessions share one connection, a refresh is stored by the next read in an idle session."""
    engine = MEMORY["sqlite-memory"](Path()).create_engine()
    await create_empty_tables(engine)
    sessions = async_sessionmaker(engine)
    async with sessions() as session:
        token = await strategy_on(session, NOW).write_token(await create_user(session))
    async with sessions() as session:
        await session.execute(select(func.count()).select_from(User))
        await authenticate(session, token)
    waiting = await stored_expiry(sessions)

    async with sessions() as session:
        await authenticate(session, token)

    assert waiting == NOW + timedelta(hours=10)
    assert await stored_expiry(sessions) == LATER + timedelta(hours=10)
    await engine.dispose()


@pytest.mark.bounded
async def test_a_refresh_that_is_kept_waiting_is_skipped_once(
    backend: Backend, user_and_token: tuple[User, str], caplog: pytest.LogCaptureFixture
) -> None:
    """While the table is locked, reads succeed; only one in a minute tries to refresh, and logs that it could not."""
    engine = backend.create_engine()
    async with engine.connect() as freezing, AsyncSession(engine) as session:
        await freezing.exec_driver_sql(backend.freeze)

        outcomes = [await authenticate(session, user_and_token[1]) for _ in range(5)]

        await freezing.invalidate()
    await engine.dispose()
    assert all(outcomes)
    assert caplog.text.count("Skipped updating last_used_at and expires_at") == 1


@pytest.mark.parametrize("backend", ["postgresql-asyncpg", "postgresql-psycopg", "mariadb"], indirect=True)
async def test_a_refresh_is_left_to_whoever_has_locked_the_token(
    backend: Backend, user_and_token: tuple[User, str], caplog: pytest.LogCaptureFixture
) -> None:
    """A read of a token that another request is refreshing succeeds without waiting, and logs nothing."""
    engine = backend.create_engine()
    async with engine.connect() as refreshing, AsyncSession(engine) as session:
        await refreshing.execute(select(KnoxToken).with_for_update())

        authenticated = await authenticate(session, user_and_token[1])

    await engine.dispose()
    assert authenticated is not None
    assert authenticated[1].expires_at == NOW + timedelta(hours=10)
    assert caplog.text == ""


@pytest.mark.parametrize("statement", ["PRAGMA|SET|BEGIN|SELECT set_config", "UPDATE"])
async def test_a_cancelled_request_leaves_no_trace(
    backend: Backend, user_and_token: tuple[User, str], statement: str
) -> None:
    """A request that is cancelled during a refresh ends, and its connection goes back with its usual timeouts."""
    engine = backend.create_engine(pool_size=1, max_overflow=0)
    async with engine.connect() as connection:
        usual = (await connection.exec_driver_sql(backend.ask_wait)).first()
    reading = asyncio.create_task(read_alone(engine, user_and_token[1]))

    def cancel(_connection: object, _cursor: object, sql: str, *_: object) -> None:
        if re.match(statement, sql) and not reading.cancelling():
            reading.cancel()

    event.listen(engine.sync_engine, "before_cursor_execute", cancel)
    with pytest.raises(asyncio.CancelledError):
        await reading

    async with engine.connect() as connection:
        assert (await connection.exec_driver_sql(backend.ask_wait)).first() == usual
    await engine.dispose()
    await elsewhere(backend, delete(KnoxToken))


async def read_alone(engine: AsyncEngine, token: str) -> None:
    """Read a token in a new session."""
    async with AsyncSession(engine) as session:
        await authenticate(session, token)


@pytest.mark.parametrize("statement", ["SELECT", "DELETE", "INSERT"])
async def test_a_cancelled_login_locks_nobody_out(
    backend: Backend, user_and_token: tuple[User, str], statement: str
) -> None:
    """A login that is cancelled during any of its statements leaves no lock behind."""
    engine = backend.create_engine()
    logging_in = asyncio.create_task(log_in_alone(engine, user_and_token[0]))

    def cancel(_connection: object, _cursor: object, sql: str, *_: object) -> None:
        if sql.startswith(statement) and not logging_in.cancelling():
            logging_in.cancel()

    event.listen(engine.sync_engine, "before_cursor_execute", cancel)
    with pytest.raises(asyncio.CancelledError):
        await logging_in

    await elsewhere(backend, delete(KnoxToken))
    await engine.dispose()


async def log_in_alone(engine: AsyncEngine, user: User) -> None:
    """Log in in a new session."""
    async with AsyncSession(engine) as session:
        await strategy_on(session).write_token(user)
