"""An application whose strategies the program may use, as `--app tests.cli.application:<name>`."""

import asyncio
import os
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from fastapi_users_db_sqlalchemy import SQLAlchemyUserDatabase
from redis.asyncio import Redis
from sqlalchemy import event, select
from sqlalchemy.ext.asyncio import AsyncSession, create_async_engine
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from fastapi_users_knox import KnoxEvent, KnoxSettings, KnoxStrategy, Listener
from fastapi_users_knox.redis import RedisTokenStore
from fastapi_users_knox.settings.settings import utc_now
from fastapi_users_knox.sqlalchemy import SQLAlchemyBaseKnoxTokenTable, SQLAlchemyTokenStore
from tests.models import KnoxToken, User, store_on

DATABASE, REDIS = "KNOX_TEST_DATABASE", "KNOX_TEST_REDIS"
SETTINGS = KnoxSettings(audience="web")
AHEAD = timedelta(0)  # by which the clock of the application is ahead
PRAGMA = "PRAGMA foreign_keys"  # the statement with which each connection begins
open_transactions: list[bool] = []
published: list[KnoxEvent[Any]] = []
listeners: list[Listener] = []


@asynccontextmanager
async def open_strategy() -> AsyncIterator[KnoxStrategy[User, UUID]]:
    """Open a strategy over the database, with settings and a listener."""
    async with open_session() as session:
        strategy_listeners = [published.append, *listeners]
        yield KnoxStrategy(store_on(session), SETTINGS, request=None, listeners=strategy_listeners, clock=clock)


@asynccontextmanager
async def open_on_redis() -> AsyncIterator[KnoxStrategy[User, UUID]]:
    """Open a strategy over Redis, with a user database."""
    async with open_session() as session, Redis.from_url(os.environ[REDIS]) as client:
        users = SQLAlchemyUserDatabase[User, UUID](session, User)
        yield KnoxStrategy(RedisTokenStore[User, UUID](client), request=None, user_db=users)


@asynccontextmanager
async def open_capped_on_redis() -> AsyncIterator[KnoxStrategy[User, UUID]]:
    """Open a strategy over Redis, with settings and a listener."""
    async with Redis.from_url(os.environ[REDIS]) as client:
        store = RedisTokenStore[User, UUID](client)
        yield KnoxStrategy(store, SETTINGS, request=None, user_db=None, listeners=listeners, clock=clock)


@asynccontextmanager
async def open_foreign() -> AsyncIterator[KnoxStrategy[User, UUID]]:
    """Open a strategy over a store that is not this package's own."""
    async with open_session() as session:
        yield KnoxStrategy(ForeignStore(store_on(session)), request=None)


@asynccontextmanager
async def open_without_users() -> AsyncIterator[KnoxStrategy[User, UUID]]:
    """Open a strategy over a store that does not see the users."""
    async with open_session() as session:
        yield KnoxStrategy(SQLAlchemyTokenStore[User, UUID](session, KnoxToken, users=None), request=None, user_db=None)


@asynccontextmanager
async def open_begun() -> AsyncIterator[KnoxStrategy[User, UUID]]:
    """Open a strategy on a session that has a transaction open, and note at the end whether it is still open."""
    async with open_session() as session:
        await session.execute(select(1))
        transaction = session.get_transaction()
        try:
            yield KnoxStrategy(store_on(session), request=None)
        finally:
            open_transactions.append(session.get_transaction() is transaction)


@asynccontextmanager
async def open_slowly() -> AsyncIterator[str]:
    """Say that the program has come here, and wait."""
    sys.stderr.write("waiting\n")
    sys.stderr.flush()
    await asyncio.Event().wait()
    yield ""


@asynccontextmanager
async def open_with_slow_listener() -> AsyncIterator[KnoxStrategy[User, UUID]]:
    """Open a strategy whose listener says that a session is revoked, and waits for a line of input."""

    async def wait(_event: KnoxEvent[Any]) -> None:
        sys.stderr.write("revoked\n")
        sys.stderr.flush()
        await asyncio.to_thread(sys.stdin.readline)

    async with open_session() as session:
        yield KnoxStrategy(store_on(session), request=None, listeners=[wait])


@asynccontextmanager
async def open_session() -> AsyncIterator[AsyncSession]:
    """Open a session of the application."""
    engine = create_async_engine(os.environ[DATABASE])
    event.listen(engine.sync_engine, "connect", _begin)
    try:
        async with AsyncSession(engine, expire_on_commit=False) as session:
            yield session
    finally:
        await engine.dispose()


class LooseBase(DeclarativeBase):
    """The declarative base of a table without users."""


class Loose(SQLAlchemyBaseKnoxTokenTable[UUID], LooseBase):
    """Tokens whose users are in another database."""

    __tablename__ = "loose_token"
    user_id: Mapped[UUID] = mapped_column()


@asynccontextmanager
async def open_loose() -> AsyncIterator[KnoxStrategy[User, UUID]]:
    """Open a strategy over the tokens whose users are in another database."""
    async with open_session() as session:
        yield KnoxStrategy(SQLAlchemyTokenStore[User, UUID](session, Loose, users=None), request=None, user_db=None)


def _begin(connection: Any, _record: object) -> None:
    """Send a statement on a new connection to SQLite."""
    if "sqlite" in os.environ[DATABASE]:
        cursor = connection.cursor()
        cursor.execute(PRAGMA)
        cursor.close()


def clock() -> datetime:
    """Return the time of the application's clock."""
    return utc_now() + AHEAD


@asynccontextmanager
async def open_nothing() -> AsyncIterator[str]:
    """Open what is no strategy."""
    yield "a strategy"


@asynccontextmanager
async def open_broken() -> AsyncIterator[str]:
    """Fail."""
    raise RuntimeError("the configuration is missing")
    yield ""


class ForeignStore:
    """A store with all the verbs and nothing else."""

    def __init__(self, store: Any) -> None:
        """Wrap a store."""
        self._store = store
        self.sees_users: bool = store.sees_users

    def __getattr__(self, name: str) -> Any:
        """Return a verb of the store."""
        return getattr(self._store, name)
