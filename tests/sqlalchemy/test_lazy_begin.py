"""On PostgreSQL, a read sends its SELECT before the transaction begins, and only where that is safe."""

import asyncio
import time
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager, nullcontext, suppress
from datetime import datetime
from typing import Any

import pytest
from sqlalchemy import (
    Connection,
    Delete,
    Engine,
    NullPool,
    Select,
    StaticPool,
    Update,
    event,
    func,
    inspect,
    literal,
    select,
    text,
    update,
)
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession, create_async_engine
from sqlalchemy.orm import Session, object_session, sessionmaker

from fastapi_users_knox import KnoxSettings
from fastapi_users_knox.sqlalchemy.reading import fetch
from fastapi_users_knox.users import load_user
from tests.backends import NOW, Backend
from tests.models import User, create_user, store_on, user_manager_on
from tests.strategies import HOUR, Knox, change_user, sent_to, stored, verbs

pytestmark = pytest.mark.anyio
postgresql = pytest.mark.parametrize("any_backend", ["postgresql-asyncpg", "postgresql-psycopg"], indirect=True)
asyncpg = pytest.mark.parametrize("any_backend", ["postgresql-asyncpg"], indirect=True)

IDLE, IN_TRANSACTION = "idle", "idle in transaction"


@pytest.fixture
async def user(engine: AsyncEngine) -> User:
    """Store a user."""
    async with AsyncSession(engine, expire_on_commit=False) as session:
        return await create_user(session)


@pytest.fixture
async def token(engine: AsyncEngine, user: User) -> str:
    """Issue a token, and read it once on the connection of the pool, which is asked at its first read."""
    async with AsyncSession(engine) as session:
        issued = await Knox(session=session, user=user).strategy().write_token(user)
    async with AsyncSession(engine) as session:
        assert await Knox(session=session, user=user).accepts(issued)
    return issued


@pytest.fixture
async def session(engine: AsyncEngine, token: str) -> AsyncIterator[AsyncSession]:  # noqa: ARG001 (it must be first)
    """Return a session whose connection has been asked."""
    async with AsyncSession(engine) as session:
        yield session


@pytest.fixture
def read(session: AsyncSession, user: User, token: str) -> Callable[[], Awaitable[bool]]:
    """Return a function that reads the token and returns whether it is accepted."""
    knox = Knox(session=session, user=user)
    return lambda: knox.accepts(token)


async def state_of(session: AsyncSession, engine: AsyncEngine) -> str:
    """Return what the server says about the connection that the session has checked out."""
    driver = (await (await session.connection()).get_raw_connection()).driver_connection
    assert driver is not None
    pid = driver.get_server_pid() if engine.dialect.driver == "asyncpg" else driver.info.backend_pid
    async with engine.connect() as other:
        asked = await other.execute(text("SELECT state FROM pg_stat_activity WHERE pid = :pid"), {"pid": pid})
        return str(asked.scalar_one())


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
    any_backend: Backend, engine: AsyncEngine, user: User, token: str
) -> None:
    """The second read in a session counts as the first one of its transaction, which has not begun."""
    single = any_backend.create_engine(pool_size=1, max_overflow=0)
    async with AsyncSession(single) as session:
        assert await Knox(session=session, user=user).accepts(token)
    async with AsyncSession(single) as session:
        reads = [await Knox(session=session, user=user).accepts(token) for _ in range(2)]
        state = await state_of(session, engine)
    await single.dispose()

    assert (reads, state) == ([True, True], IDLE)


def do_nothing(*_: object) -> None:
    """Listen, and do nothing."""


def heard_by_session(name: str) -> Callable[[AsyncEngine], AsyncSession]:
    """Return a function that opens a session whose class has a listener."""

    def open_session(engine: AsyncEngine) -> AsyncSession:
        maker = sessionmaker()
        event.listen(maker, name, do_nothing)
        return AsyncSession(engine, sync_session_class=type(maker()))

    return open_session


def heard_by_engine(name: str) -> Callable[[AsyncEngine], AsyncSession]:
    """Return a function that opens a session on an engine with a listener."""

    def open_session(engine: AsyncEngine) -> AsyncSession:
        event.listen(engine.sync_engine, name, do_nothing)
        return AsyncSession(engine)

    return open_session


def with_options(**options: Any) -> Callable[[AsyncEngine], AsyncSession]:
    """Return a function that opens a session on an engine with execution options."""
    return lambda engine: AsyncSession(engine.execution_options(**options))


class RoutingSession(Session):
    """A session that chooses its engine for each statement, as SQLAlchemy's documentation shows it."""

    follower: Engine

    def get_bind(self, *args: Any, clause: Any = None, **options: Any) -> Any:
        """Send everything but an UPDATE or a DELETE to the follower."""
        leader = super().get_bind(*args, clause=clause, **options)
        return leader if isinstance(clause, Update | Delete) else self.follower


def routed(engine: AsyncEngine) -> AsyncSession:
    """Open a session that reads from a follower, here the same server in read-only transactions."""
    follower = engine.sync_engine.execution_options(postgresql_readonly=True)
    return AsyncSession(engine, sync_session_class=type("Routing", (RoutingSession,), {"follower": follower}))


OPTIONS: Mapping[str, Callable[[AsyncEngine], AsyncSession]] = {
    **{name: heard_by_session(name) for name in ("after_begin", "after_transaction_create", "do_orm_execute")},
    **{
        name: heard_by_engine(name)
        for name in (
            *("engine_connect", "begin", "checkout", "before_execute", "after_execute", "before_cursor_execute"),
            *("after_cursor_execute", "handle_error", "do_execute"),
        )
    },
    "repeatable read": with_options(isolation_level="REPEATABLE READ"),
    "serializable": with_options(isolation_level="SERIALIZABLE"),
    "read-only": with_options(postgresql_readonly=True),
    "streaming": with_options(stream_results=True),
    "get_bind": routed,
}


@postgresql
@pytest.mark.parametrize("option", OPTIONS)
async def test_a_setting_of_the_transaction_switches_it_off(
    engine: AsyncEngine, user: User, token: str, option: str
) -> None:
    """If the application adds something to the beginning of a transaction, the read begins a transaction."""
    async with OPTIONS[option](engine) as session:
        assert await Knox(session=session, user=user).accepts(token)

        assert await state_of(session, engine) == IN_TRANSACTION


@postgresql
@pytest.mark.parametrize(
    ("options", "state"),
    [
        ({"isolation_level": "REPEATABLE READ"}, IN_TRANSACTION),
        ({"isolation_level": "SERIALIZABLE"}, IN_TRANSACTION),
        ({"isolation_level": "READ COMMITTED"}, IDLE),
        ({"isolation_level": "AUTOCOMMIT"}, IDLE),
        ({"poolclass": NullPool}, IN_TRANSACTION),
        ({"poolclass": StaticPool}, IN_TRANSACTION),
        ({"pool_pre_ping": True}, IDLE),
    ],
    ids=["repeatable read", "serializable", "read committed", "autocommit", "no pool", "shared", "ping"],
)
async def test_the_options_of_the_engine_decide(
    any_backend: Backend, engine: AsyncEngine, user: User, token: str, *, options: Mapping[str, Any], state: str
) -> None:
    """With snapshots of a transaction, or without a pool, the read begins a transaction."""
    own = create_async_engine(any_backend.url, **options)
    for _ in range(2):  # The first read of a connection begins a transaction anyway.
        async with AsyncSession(own) as session:
            assert await Knox(session=session, user=user).accepts(token)
            seen = await state_of(session, engine)
    await own.dispose()

    assert seen == state


@postgresql
async def test_a_bound_session_reads_in_the_transaction_of_its_connection(
    engine: AsyncEngine, user: User, token: str
) -> None:
    """A session that is bound to a connection reads inside a transaction."""
    async with engine.connect() as connection, AsyncSession(connection) as session:
        assert await Knox(session=session, user=user).accepts(token)

        assert await state_of(session, engine) == IN_TRANSACTION


@pytest.mark.parametrize("any_backend", ["postgresql-psycopg"], indirect=True)
async def test_a_session_of_two_phases_reads_in_a_transaction(engine: AsyncEngine, user: User, token: str) -> None:
    """A session with two-phase transactions reads inside a transaction."""
    async with AsyncSession(engine, twophase=True) as session:
        assert await Knox(session=session, user=user).accepts(token)

        assert await state_of(session, engine) == IN_TRANSACTION


@pytest.mark.parametrize("any_backend", ["sqlite", "mariadb"], indirect=True)
async def test_elsewhere_nothing_changes(engine: AsyncEngine, user: User, token: str) -> None:
    """On other databases, the read is one SELECT in the session's transaction."""
    with sent_to(engine) as statements:
        async with AsyncSession(engine) as session:
            assert await Knox(session=session, user=user).accepts(token)

            assert session.in_transaction()
    assert verbs(statements) == ["SELECT"]


REFRESHING = KnoxSettings(auto_refresh=True)


async def refresh(session: AsyncSession, user: User, token: str) -> bool:
    """Read the token at a time at which a refresh is due, and return whether it is accepted."""
    knox = Knox(session=session, user=user)
    knox.clock.now = NOW + HOUR
    return await knox.strategy(REFRESHING).read_token(token, knox.user_manager) is not None


async def last_uses(engine: AsyncEngine) -> list[datetime | None]:
    """Return the last use of each token."""
    return [row.last_used_at for row in await stored(engine)]


@postgresql
async def test_a_refresh_needs_one_connection(any_backend: Backend, user: User, token: str) -> None:
    """A due refresh is stored although the pool has only one connection, and stores nothing of the application."""
    engine = any_backend.create_engine(pool_size=1, max_overflow=0)
    async with AsyncSession(engine) as session:
        assert await Knox(session=session, user=user).accepts(token)
    async with AsyncSession(engine) as session:
        session.add(User(email="before@example.org", hashed_password="hash"))
        assert await refresh(session, user, token)
        session.add(User(email="after@example.org", hashed_password="hash"))
        assert session.in_transaction()

    assert await last_uses(engine) == [NOW + HOUR]
    async with AsyncSession(engine) as session:
        assert await count_users(session) == 1
    await engine.dispose()


@postgresql
@pytest.mark.parametrize("option", OPTIONS)
async def test_a_refresh_is_stored_with_every_setting(engine: AsyncEngine, user: User, token: str, option: str) -> None:
    """Where the session's own connection is not free, a due refresh is stored on a second one."""
    async with OPTIONS[option](engine) as session:
        assert await refresh(session, user, token)

        assert await last_uses(engine) == [NOW + HOUR] or option == "read-only"


@postgresql
async def test_a_refresh_keeps_what_was_set_for_the_transaction(
    engine: AsyncEngine, user: User, token: str, caplog: pytest.LogCaptureFixture
) -> None:
    """What a checkout listener has set for the transaction stays set, and a write that would lose it is skipped."""

    def set_path(connection: Any, *_: object) -> None:
        cursor = connection.cursor()
        cursor.execute("SELECT set_config('search_path', 'elsewhere,public', true)")
        cursor.close()

    event.listen(engine.sync_engine, "checkout", set_path)
    async with AsyncSession(engine) as session:
        assert await refresh(session, user, token)

        path = (await session.execute(text("SHOW search_path"))).scalar_one()
    assert (path, await last_uses(engine)) == ("elsewhere,public", [None])
    assert "make them in an after_begin event of the session" in caplog.text


@postgresql
@pytest.mark.bounded
async def test_a_refresh_that_has_to_wait_is_skipped(
    engine: AsyncEngine, session: AsyncSession, user: User, token: str
) -> None:
    """A due refresh that waits for a lock is given up, and the request goes on with the same connection."""
    async with engine.connect() as other:
        await other.exec_driver_sql("LOCK TABLE knox_token IN SHARE MODE")
        accepted = await refresh(session, user, token)
        state = await state_of(session, engine)
    users = await count_users(session)

    assert (accepted, state, users, await last_uses(engine)) == (True, IDLE, 1, [None])


TERMINATE = """
    CREATE FUNCTION terminate() RETURNS trigger LANGUAGE plpgsql AS
    $$ BEGIN PERFORM pg_terminate_backend(pg_backend_pid()); RETURN new; END $$
"""
TRIGGERS = {
    "update": "CREATE TRIGGER terminate BEFORE UPDATE ON knox_token FOR EACH ROW EXECUTE FUNCTION terminate()",
    "commit": "CREATE CONSTRAINT TRIGGER terminate AFTER UPDATE ON knox_token DEFERRABLE INITIALLY DEFERRED "
    "FOR EACH ROW EXECUTE FUNCTION terminate()",
}


@asynccontextmanager
async def terminating_at(moment: str, engine: AsyncEngine) -> AsyncIterator[None]:
    """Make the server end each connection that updates a token, at the UPDATE or at the COMMIT."""
    async with engine.begin() as connection:
        await connection.exec_driver_sql(TERMINATE)
        await connection.exec_driver_sql(TRIGGERS[moment])
    try:
        yield
    finally:
        async with engine.begin() as connection:
            await connection.exec_driver_sql("DROP FUNCTION terminate CASCADE")


@postgresql
@pytest.mark.parametrize("in_block", [False, True], ids=["plain", "begin()"])
@pytest.mark.parametrize("moment", TRIGGERS)
async def test_a_connection_that_is_lost_in_a_refresh_fails_nobody(
    engine: AsyncEngine, user: User, token: str, *, moment: str, in_block: bool
) -> None:
    """If the server ends the connection during a due refresh, the request goes on with another connection."""
    async with (
        terminating_at(moment, engine),
        AsyncSession(engine, expire_on_commit=False) as session,
        session.begin() if in_block else nullcontext(),
    ):
        accepted = await refresh(session, user, token)
        users = await count_users(session)

    assert (accepted, users, await last_uses(engine)) == (True, 1, [None])


@pytest.mark.measured
@postgresql
@pytest.mark.parametrize("is_due", [False, True], ids=["read", "refresh"])
async def test_a_cancellation_leaves_no_connection_in_autocommit(
    any_backend: Backend, user: User, token: str, *, is_due: bool
) -> None:
    """Whenever a read or a refresh is cancelled, the connection goes back as it was, or not at all."""
    engine = any_backend.create_engine(pool_size=1, max_overflow=0)
    async with AsyncSession(engine) as session:
        assert await Knox(session=session, user=user).accepts(token)
    for turns in range(12):
        async with AsyncSession(engine) as session:
            acts = refresh(session, user, token) if is_due else Knox(session=session, user=user).accepts(token)
            wait_without_yielding()
            reading = asyncio.create_task(acts)
            for _ in range(turns):
                await asyncio.sleep(0)
            reading.cancel()
            with suppress(asyncio.CancelledError):
                await reading

        async with AsyncSession(engine) as session:
            assert await rolls_back(session)
    await engine.dispose()


def wait_without_yielding() -> None:
    """Keep the event loop busy for 6 ms, after which psycopg yields to it even where it would not have to."""
    until = time.monotonic() + 0.006
    while time.monotonic() < until:
        pass
