"""A refresh on the session's own connection ends nothing that the application has begun, whatever happens to it."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, nullcontext, suppress
from datetime import datetime
from typing import Any

import pytest
from sqlalchemy import (
    event,
    text,
)
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession

from fastapi_users_knox import KnoxSettings
from tests.backends import NOW
from tests.models import User
from tests.sqlalchemy.lazy_begin.looks import (
    IDLE,
    count_users,
    postgresql,
    rolls_back,
    state_of,
)
from tests.sqlalchemy.lazy_begin.openings import OPENINGS
from tests.strategies import HOUR, Knox, stored

pytestmark = pytest.mark.anyio


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
async def test_a_refresh_needs_one_connection(single: AsyncEngine, user: User, token: str) -> None:
    """A due refresh is stored although the pool has only one connection, and stores nothing of the application."""
    async with AsyncSession(single) as session:
        session.add(User(email="before@example.org", hashed_password="hash"))
        assert await refresh(session, user, token)
        session.add(User(email="after@example.org", hashed_password="hash"))
        assert session.in_transaction()

    assert await last_uses(single) == [NOW + HOUR]
    async with AsyncSession(single) as session:
        assert await count_users(session) == 1


@postgresql
@pytest.mark.parametrize("opening", OPENINGS)
async def test_a_refresh_is_stored_with_every_setting(
    engine: AsyncEngine, user: User, token: str, opening: str
) -> None:
    """Where the session's own connection is not free, a due refresh is stored on a second one."""
    async with OPENINGS[opening](engine) as session:
        assert await refresh(session, user, token)

        assert await last_uses(engine) == [NOW + HOUR] or opening == "read-only"


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
    single: AsyncEngine, engine: AsyncEngine, user: User, token: str
) -> None:
    """A due refresh that waits for a lock is given up, and the request goes on with the same connection."""
    async with AsyncSession(single) as session:
        async with engine.connect() as other:
            await other.exec_driver_sql("LOCK TABLE knox_token IN SHARE MODE")
            accepted = await refresh(session, user, token)
        state, users = await state_of(session, engine), await count_users(session)

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
    single: AsyncEngine, user: User, token: str, *, is_due: bool
) -> None:
    """Whenever a read or a refresh is cancelled, the connection goes back as it was, or not at all."""
    for turns in range(12):
        async with AsyncSession(single) as session:
            acts = refresh(session, user, token) if is_due else Knox(session=session, user=user).accepts(token)
            wait_without_yielding()
            reading = asyncio.create_task(acts)
            for _ in range(turns):
                await asyncio.sleep(0)
            reading.cancel()
            with suppress(asyncio.CancelledError):
                await reading

        async with AsyncSession(single) as session:
            assert await rolls_back(session)


def wait_without_yielding() -> None:
    """Keep the event loop busy for 6 ms, after which psycopg yields to it even where it would not have to."""
    until = time.monotonic() + 0.006
    while time.monotonic() < until:
        pass
