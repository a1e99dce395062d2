"""The store classifies the errors of each database: it retries, reports an outage, or passes the error on."""

import asyncio
import uuid
from pathlib import Path

import pytest
from sqlalchemy import Connection, create_engine, event, inspect, select, text, update
from sqlalchemy.engine import make_url
from sqlalchemy.exc import DBAPIError, ProgrammingError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncSession, create_async_engine

from fastapi_users_knox import KnoxError, StoreUnavailable
from fastapi_users_knox.sqlalchemy import UTCDateTime
from fastapi_users_knox.sqlalchemy.database import Database
from fastapi_users_knox.sqlalchemy.dialects import is_transient, reading
from fastapi_users_knox.sqlalchemy.statements import statements_for
from fastapi_users_knox.sqlalchemy.transactions import run_to_commit
from fastapi_users_knox.testing.contract import new_digest, new_record, presented
from tests.backends import NOW, SQLITE, Backend
from tests.models import KnoxToken, User, create_empty_tables, create_user, store_on

pytestmark = pytest.mark.anyio


async def collision(backend: Backend) -> BaseException:
    """Return the error of two transactions that each write to one row and then to the other's row."""
    engine = backend.create_engine(**backend.impatient)
    await create_empty_tables(engine)
    async with AsyncSession(engine, expire_on_commit=False) as session:
        ids = [(await create_user(session)).id for _ in range(2)]
    async with engine.connect() as one, engine.connect() as other:
        outcomes = await _write_at_once((one, ids[0]), (other, ids[1]))
        if not outcomes:
            outcomes = await _write_at_once((one, ids[1]), (other, ids[0]))
    await engine.dispose()
    return outcomes[0]


async def _write_at_once(*writes: tuple[AsyncConnection, uuid.UUID]) -> list[BaseException]:
    """Write to users on several connections at once, and return the errors."""
    id_of = inspect(User).columns["id"]
    outcomes = await asyncio.gather(
        *(
            connection.execute(update(User).where(id_of == id_).values(hashed_password="new"))
            for connection, id_ in writes
        ),
        return_exceptions=True,
    )
    return [outcome for outcome in outcomes if isinstance(outcome, BaseException)]


async def test_a_collision_is_transient(backend: Backend) -> None:
    """A deadlock, or SQLite's error in its place, counts as transient."""
    error = await collision(backend)

    assert isinstance(error, DBAPIError)
    assert is_transient(error)


@pytest.mark.parametrize(
    ("backend", "impatience"),
    [
        ("mariadb", "SET innodb_lock_wait_timeout = 0"),
        ("postgresql-asyncpg", "SET lock_timeout = 1"),
        ("postgresql-psycopg", "SET lock_timeout = 1"),
    ],
    indirect=["backend"],
)
async def test_a_lock_that_is_not_had_in_time_is_transient(backend: Backend, impatience: str) -> None:
    """An error because a lock was not released in time counts as transient."""
    engine = backend.create_engine()
    await create_empty_tables(engine)
    async with AsyncSession(engine, expire_on_commit=False) as session:
        user_id = (await create_user(session)).id

    async with engine.connect() as one, engine.connect() as other:
        await other.exec_driver_sql(impatience)
        (error,) = await _write_at_once((one, user_id)) + await _write_at_once((other, user_id))

    await engine.dispose()
    assert isinstance(error, DBAPIError)
    assert is_transient(error)


async def test_a_mistake_is_not_transient(backend: Backend) -> None:
    """A syntax error does not count as transient."""
    engine = backend.create_engine()
    async with engine.connect() as connection:
        with pytest.raises(DBAPIError) as raised:
            await connection.exec_driver_sql("NONSENSE")
    await engine.dispose()

    assert not is_transient(raised.value)


@pytest.mark.parametrize("failures", [0, 1, 3, 4])
async def test_work_that_fails_because_of_contention_is_retried(backend: Backend, failures: int) -> None:
    """Work that fails with a transient error is retried up to three times, and then `StoreUnavailable` is raised."""
    error, engine = await collision(backend), backend.create_engine()
    attempts = iter([error] * failures)

    def work(_connection: Connection) -> str:
        for failure in attempts:
            raise failure
        return "done"

    async with AsyncSession(engine) as session:
        writing_it = run_to_commit(Database(session, statements_for(session, KnoxToken)), work)
        if failures > 3:
            with pytest.raises(StoreUnavailable):
                await writing_it
        else:
            assert await writing_it == "done"
    await engine.dispose()


async def test_what_the_application_could_not_commit_is_not_retried(backend: Backend) -> None:
    """A login that fails to commit the application's own changes is not retried, because they would be missing."""
    error, engine = await collision(backend), backend.create_engine()
    failures = iter([error])

    def fail_once(_session: object) -> None:
        for failure in failures:
            raise failure

    async with AsyncSession(engine) as session:
        user = await create_user(session)
        await session.refresh(user)
        event.listen(session.sync_session, "before_commit", fail_once)
        with pytest.raises(StoreUnavailable):
            await store_on(session).add(new_record(user.id), new_digest(), now=NOW)

        assert (await session.scalars(select(KnoxToken))).all() == []
    await engine.dispose()


async def test_other_databases_are_refused(tmp_path: Path) -> None:
    """Writes to a database that is not supported are refused, because its locks may work differently."""
    engine = SQLITE["sqlite"](tmp_path).create_engine()
    await create_empty_tables(engine)
    engine.dialect.name = "oracle"

    async with AsyncSession(engine) as session:
        with pytest.raises(KnoxError, match="oracle"):
            await run_to_commit(Database(session, statements_for(session, KnoxToken)), fail)

    await engine.dispose()


def fail(_connection: Connection) -> None:
    """Raise an error that does not come from a database."""
    raise ZeroDivisionError


async def test_a_mistake_in_the_work_is_no_outage(backend: Backend) -> None:
    """An error that does not come from the database is raised unchanged, and not as `StoreUnavailable`."""
    engine = backend.create_engine()
    await create_empty_tables(engine)

    async with AsyncSession(engine) as session:
        with pytest.raises(ZeroDivisionError):
            await run_to_commit(Database(session, statements_for(session, KnoxToken)), fail)

    await engine.dispose()


@pytest.mark.parametrize("backend", ["postgresql-asyncpg", "postgresql-psycopg"], indirect=True)
async def test_a_connection_that_is_lost_in_the_work_is_an_outage(backend: Backend) -> None:
    """If the connection is lost during a write, `StoreUnavailable` is raised, and the session can still be used."""
    engine = backend.create_engine()
    await create_empty_tables(engine)

    async with AsyncSession(engine) as session:
        await session.execute(select(KnoxToken))
        with pytest.raises(StoreUnavailable):
            await run_to_commit(
                Database(session, statements_for(session, KnoxToken)),
                lambda connection: connection.exec_driver_sql("SELECT pg_terminate_backend(pg_backend_pid())"),
            )

        assert (await session.execute(select(KnoxToken))).all() == []
    await engine.dispose()


@pytest.mark.parametrize("backend", ["postgresql-asyncpg", "postgresql-psycopg", "mariadb"], indirect=True)
async def test_a_missing_table_is_no_outage(backend: Backend) -> None:
    """The error of a missing table, as after a forgotten migration, is raised unchanged."""
    engine = backend.create_engine()

    async with AsyncSession(engine) as session:
        with pytest.raises(ProgrammingError):
            await run_to_commit(
                Database(session, statements_for(session, KnoxToken)),
                lambda connection: connection.exec_driver_sql("SELECT * FROM forgotten"),
            )

    await engine.dispose()


def test_a_naive_moment_is_refused() -> None:
    """A datetime without a time zone is refused."""
    with pytest.raises(ValueError, match="aware"):
        UTCDateTime().process_bind_param(NOW.replace(tzinfo=None), create_engine("sqlite://").dialect)


def lose_while_reading(connection: Connection) -> None:
    """Lose the connection of SQLite while its lock timeout is changed."""
    with reading(connection):
        connection.invalidate()


async def test_a_connection_that_cannot_be_restored_is_thrown_away(tmp_path: Path) -> None:
    """A connection whose lock timeouts cannot be restored does not go back to the pool."""
    engine = SQLITE["sqlite"](tmp_path).create_engine()

    async with engine.connect() as connection:
        await connection.run_sync(lose_while_reading)

        assert connection.invalidated

    await engine.dispose()


SNAPSHOTS = pytest.mark.parametrize(
    "backend",
    ["postgresql-repeatable-read", "postgresql-serializable", "mariadb", "mariadb-serializable"],
    indirect=True,
)


@SNAPSHOTS
async def test_a_bound_session_is_not_believed_in_a_snapshot(backend: Backend) -> None:
    """A session on a connection that reads from a snapshot can neither log in nor read a token."""
    engine = backend.create_engine()
    await create_empty_tables(engine)

    async with engine.connect() as connection, AsyncSession(connection, expire_on_commit=False) as session:
        user = await create_user(session)
        with pytest.raises(KnoxError, match="READ COMMITTED"):
            await store_on(session).add(new_record(user.id), new_digest(), now=NOW)
    async with AsyncSession(engine) as session:
        digest = new_digest()
        await store_on(session).add(new_record(user.id), digest, now=NOW)
    async with engine.connect() as connection, AsyncSession(connection) as session:
        with pytest.raises(KnoxError, match="READ COMMITTED"):
            await store_on(session).get(presented("nobody", digest), audience="web")

    await engine.dispose()


@pytest.mark.parametrize("backend", ["postgresql-repeatable-read", "mariadb"], indirect=True)
async def test_a_bound_session_does_not_exceed_the_limit(backend: Backend) -> None:
    """A login is refused in a snapshot that does not show another login, with which the limit is reached."""
    engine = backend.create_engine()
    await create_empty_tables(engine)
    async with AsyncSession(engine, expire_on_commit=False) as session:
        user = await create_user(session)

    async with engine.connect() as connection, connection.begin(), AsyncSession(connection) as bound:
        await bound.execute(select(KnoxToken))
        async with AsyncSession(engine) as session:
            await store_on(session).add(new_record(user.id), new_digest(), now=NOW, limit=1)
        with pytest.raises(KnoxError, match="READ COMMITTED"):
            await store_on(bound).add(new_record(user.id), new_digest(), now=NOW, limit=1)

    async with AsyncSession(engine) as session:
        assert len((await session.execute(select(KnoxToken))).all()) == 1
    await engine.dispose()


@pytest.mark.parametrize("backend", ["postgresql-asyncpg", "postgresql-psycopg"], indirect=True)
async def test_a_level_set_for_one_transaction_is_not_overlooked(backend: Backend) -> None:
    """A revoked token is refused even if only the current transaction was set to REPEATABLE READ."""
    engine = backend.create_engine(isolation_level="READ COMMITTED")
    await create_empty_tables(engine)
    digest = new_digest()
    async with AsyncSession(engine, expire_on_commit=False) as session:
        user = await create_user(session)
        await store_on(session).add(new_record(user.id), digest, now=NOW)

    async with AsyncSession(engine) as session, AsyncSession(engine) as other:
        await session.execute(text("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ"))
        before = (await session.execute(select(KnoxToken))).all()
        await store_on(other).remove_all(user.id, audience=None, now=NOW)
        found = await store_on(session).get(presented("nobody", digest), audience="web")

        assert (len(before), found) == (1, None)
        assert len((await session.execute(select(KnoxToken))).all()) == 1
    await engine.dispose()


@pytest.mark.parametrize("backend", ["postgresql-asyncpg", "postgresql-psycopg", "mariadb"], indirect=True)
async def test_a_refused_connection_is_an_outage(backend: Backend) -> None:
    """Any error of a driver while it connects, whether SQLAlchemy wraps it or not, becomes `StoreUnavailable`."""
    engine = create_async_engine(make_url(backend.url).set(database="nowhere"))

    async with AsyncSession(engine) as session:
        with pytest.raises(StoreUnavailable):
            await store_on(session).list(uuid.uuid4(), audience="", now=NOW)

    await engine.dispose()
