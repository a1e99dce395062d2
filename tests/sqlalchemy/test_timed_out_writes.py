"""After a write that times out while it waits for a lock, the application's own objects are in the correct state."""

import asyncio
import uuid

import pytest
from sqlalchemy import inspect, update
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession

from tests.models import User, create_user
from tests.strategies import Knox

pytestmark = pytest.mark.anyio


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
            async with asyncio.timeout(0.3):
                await knox.strategy().issue(knox.user)
        await session.commit()

        assert inspect(added).transient
        session.add(added)
        await other.rollback()
        await session.commit()
        assert await other.get(User, id_) is not None
