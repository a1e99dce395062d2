"""After a write that times out while it waits for a lock, the application's own objects are in the correct state."""

import asyncio
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from sqlalchemy import event, inspect, update
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession

from tests.models import User, create_user
from tests.strategies import Knox

pytestmark = pytest.mark.anyio


@asynccontextmanager
async def timed_out_at_lock(engine: AsyncEngine) -> AsyncIterator[None]:
    """Time out while a statement waits for a lock, however long the block takes to get there."""
    async with asyncio.timeout(None) as limit:

        def expire(_connection: object, _cursor: object, sql: str, *_: object) -> None:
            if "FOR NO KEY UPDATE" in sql:
                limit.reschedule(asyncio.get_running_loop().time() + 0.3)

        event.listen(engine.sync_engine, "before_cursor_execute", expire)
        yield


@pytest.mark.parametrize("any_backend", ["postgresql-asyncpg", "postgresql-psycopg"], indirect=True)
async def test_what_was_added_does_not_pass_for_stored(engine: AsyncEngine) -> None:
    """Objects that were added before a login that times out are transient again, so the application can add them."""
    async with AsyncSession(engine) as session, AsyncSession(engine) as other:
        knox = Knox(session=session, user=await create_user(session))
        id_ = uuid.uuid4()
        added = User(id=id_, email="new@example.org", hashed_password="hash")
        await other.execute(update(User).values(hashed_password="new"))
        session.add(added)

        with pytest.raises(TimeoutError):
            async with timed_out_at_lock(engine):
                await knox.strategy().issue(knox.user)
        await session.commit()

        assert inspect(added).transient
        session.add(added)
        await other.rollback()
        await session.commit()
        assert await other.get(User, id_) is not None
