"""Sessions that each belong to one tenant, by which PostgreSQL's row-level security chooses the rows."""

import os
from collections.abc import AsyncIterator

from fastapi.requests import HTTPConnection
from sqlalchemy import Connection, event, text
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker, create_async_engine
from sqlalchemy.orm import Session, SessionTransaction


class TenantSession(Session):
    """A session that knows its tenant."""


@event.listens_for(TenantSession, "after_begin")
def set_tenant(session: Session, _transaction: SessionTransaction, connection: Connection) -> None:
    """Set the tenant in each transaction, until it ends."""
    connection.execute(text("SELECT set_config('app.tenant', :tenant, true)"), session.info)


engine = create_async_engine(os.environ["DATABASE_URL"])
async_session_maker = async_sessionmaker(engine, sync_session_class=TenantSession, expire_on_commit=False)


async def get_async_session(connection: HTTPConnection) -> AsyncIterator[AsyncSession]:
    """Open the session of a request."""
    async with async_session_maker(info={"tenant": connection.url.hostname}) as session:
        yield session
