"""Looks at the transaction of a session, from the server's side and from the application's."""

import uuid

import pytest
from sqlalchemy import (
    func,
    select,
    text,
)
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession

from tests.models import User

postgresql = pytest.mark.parametrize("any_backend", ["postgresql-asyncpg", "postgresql-psycopg"], indirect=True)
asyncpg = pytest.mark.parametrize("any_backend", ["postgresql-asyncpg"], indirect=True)

IDLE, IN_TRANSACTION = "idle", "idle in transaction"


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
