"""The setting of each measurement: a database with empty tables, a client of Redis, and a user."""

import logging
import uuid
from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack, asynccontextmanager, contextmanager
from logging.handlers import BufferingHandler
from pathlib import Path
from tempfile import TemporaryDirectory

from redis.asyncio import Redis
from sqlalchemy import event, make_url
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession, create_async_engine

from benchmarks.measure import Servers
from benchmarks.models import Base, User
from tests.redis_servers import redis
from tests.servers import ServerUnavailable
from tests.sql_servers import mariadb, postgresql


@contextmanager
def servers() -> Iterator[Servers]:
    """Start private servers, and report the servers that this machine cannot run."""
    with ExitStack() as stack:
        directory = Path(stack.enter_context(TemporaryDirectory(prefix="knox-")))
        databases, redis_url = {"SQLite": f"sqlite+aiosqlite:///{directory}/benchmark.db"}, None
        with report_if_unavailable():
            databases["PostgreSQL"] = stack.enter_context(postgresql()).url("postgresql+asyncpg")
        with report_if_unavailable():
            databases["MariaDB"] = stack.enter_context(mariadb()).url("mysql+asyncmy")
        with report_if_unavailable():
            redis_url = stack.enter_context(redis("any")).url()
        yield Servers(databases=databases, redis=redis_url)


@contextmanager
def report_if_unavailable() -> Iterator[None]:
    """Report a server that this machine cannot run, and continue without it."""
    try:
        yield
    except ServerUnavailable as reason:
        print(f"left out: {reason}")  # noqa: T201


@asynccontextmanager
async def database(url: str) -> AsyncIterator[AsyncEngine]:
    """Return an engine on new tables, and drop them afterwards."""
    engine = create_async_engine(url)
    if engine.dialect.name == "sqlite":
        event.listen(
            engine.sync_engine, "connect", lambda connection, _: connection.execute("PRAGMA foreign_keys = ON")
        )
    try:
        async with engine.begin() as connection:
            await connection.run_sync(Base.metadata.drop_all)
            await connection.run_sync(Base.metadata.create_all)
        yield engine
        async with engine.begin() as connection:
            await connection.run_sync(Base.metadata.drop_all)
    finally:
        await engine.dispose()


@asynccontextmanager
async def database_beside(url: str, number: int) -> AsyncIterator[str]:
    """Create an empty database on the same server, and return its URL."""
    here = make_url(url)
    there = here.set(database=f"{here.database}_{number}")
    if here.get_backend_name() == "sqlite":  # The first connection creates the file, in a temporary directory.
        yield there.render_as_string()
        return
    server = create_async_engine(url, isolation_level="AUTOCOMMIT")
    async with server.connect() as connection:
        await connection.exec_driver_sql(f"CREATE DATABASE {there.database}")
        try:
            yield there.render_as_string(hide_password=False)
        finally:
            await connection.exec_driver_sql(f"DROP DATABASE {there.database}")
    await server.dispose()


async def vacuum(engine: AsyncEngine) -> None:
    """Make PostgreSQL vacuum now, so that it does not vacuum during the measurement."""
    if engine.dialect.name == "postgresql":
        async with engine.connect() as connection:
            await connection.execution_options(isolation_level="AUTOCOMMIT")
            await connection.exec_driver_sql("VACUUM ANALYZE")


@asynccontextmanager
async def client(url: str | None) -> AsyncIterator[Redis | None]:
    """Return a client of an empty Redis, and empty it again afterwards."""
    if url is None:
        yield None
        return
    # RedisStrategy needs decoded responses. Redis may need more time than usual to delete a million keys.
    async with Redis.from_url(url, decode_responses=True, socket_timeout=None) as redis:
        await redis.flushall()
        yield redis
        await redis.flushall()


async def create_user(engine: AsyncEngine, *, hashed_password: str = "hash") -> User:
    """Store a user."""
    user = User(email=f"{uuid.uuid4()}@example.org", hashed_password=hashed_password)
    async with AsyncSession(engine, expire_on_commit=False) as session:
        session.add(user)
        await session.commit()
        await session.refresh(user)
    return user


@contextmanager
def collected_log() -> Iterator[list[logging.LogRecord]]:
    """Collect the log messages instead of printing them."""
    logger, handler = logging.getLogger("fastapi_users_knox"), BufferingHandler(1_000_000)
    logger.addHandler(handler)
    try:
        yield handler.buffer
    finally:
        logger.removeHandler(handler)
