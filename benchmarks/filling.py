"""Fill a store with many tokens in little time, with the same result as the same number of logins."""

import os
import uuid
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from math import ceil
from typing import Any, cast

from redis.asyncio import Redis
from sqlalchemy import Table, delete, insert
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession

from benchmarks.models import KnoxToken, User
from benchmarks.peers import BROWSER, SETTINGS, Knox, request
from benchmarks.redis_keys import forget, write
from fastapi_users_knox import ClientInfo, KnoxSettings, KnoxStrategy, Listener, TokenRecord, TokenStore, tokens
from fastapi_users_knox.redis import RedisTokenStore
from fastapi_users_knox.sqlalchemy import SQLAlchemyTokenStore
from fastapi_users_knox.sqlalchemy.expiry_hours import hour_of

NOW = datetime(2030, 1, 1, tzinfo=UTC)
TTL = timedelta(hours=10)
BROWSED = ClientInfo(user_agent=BROWSER, ip_address="192.0.2.1")
TOKENS_PER_USER = 3

_CHUNK = 10_000
_KNOWN = 1000  # the number of tokens with a known text, which the benchmarks read at random


@dataclass(frozen=True, kw_only=True)
class Kept:
    """What a store keeps about a token, and the token's text if it is known."""

    digest: bytes
    record: TokenRecord[uuid.UUID]
    text: str = field(repr=False)


@dataclass(frozen=True, kw_only=True)
class Place:
    """The stores of tokens and users.

    Attributes:
        engine: The engine of the users, and of the tokens unless `redis` is given.
        redis: The client of the tokens.
        clock: The clock of the strategies. By default it stands still, so no read has to update `last_used_at`.
        listeners: The listeners of the strategies.
    """

    engine: AsyncEngine
    redis: Redis | None = None
    clock: Callable[[], datetime] = lambda: NOW
    listeners: Sequence[Listener] = ()

    def session(self) -> AsyncSession:
        """Open a session, as a request does."""
        return AsyncSession(self.engine, expire_on_commit=False)

    def knox(self, session: AsyncSession, settings: KnoxSettings = SETTINGS) -> Knox:
        """Return the strategy of a request."""
        store: TokenStore[User, uuid.UUID] = (
            SQLAlchemyTokenStore(session, KnoxToken) if self.redis is None else RedisTokenStore(self.redis)
        )
        return KnoxStrategy(
            store, settings, request=request(), user_db=None, listeners=self.listeners, clock=self.clock
        )

    async def keep(self, kept: Iterable[Kept]) -> None:
        """Store tokens of existing users."""
        if self.redis is None:
            await _keep_in_sql(self.engine, kept)
        else:
            await write(self.redis, [(one.digest, one.record) for one in kept], now=NOW)

    async def forget(self, user_id: uuid.UUID, text: str) -> None:
        """Remove a token directly, because a logout would leave garbage of the scripts to the next call."""
        digest = tokens.digest(text)
        if self.redis is not None:
            await forget(self.redis, user_id, digest, now=NOW)
            return
        async with self.engine.begin() as connection:
            table = cast("Table", KnoxToken.__table__)
            await connection.execute(delete(table).where(table.c.digest == digest))


def log_in(
    user_id: uuid.UUID,
    *,
    client: ClientInfo = BROWSED,
    ttl: timedelta = TTL,
    last_used_at: datetime | None = None,
    is_known: bool = True,
    **fields: Any,
) -> Kept:
    """Create a token that is not stored yet; without its text this is much less work.

    Args:
        user_id: The id of the token's user.
        client: What is known about the client.
        ttl: The time from `NOW` until the token expires; negative if it has expired already.
        last_used_at: The time of its last use.
        is_known: Whether the text of the token is needed.
        fields: Further fields of its record.
    """
    text = tokens.generate(tokens.routing_tag(user_id), prefix="knox_") if is_known else ""
    record = TokenRecord(
        id=uuid.uuid4(),
        user_id=user_id,
        audience="",
        created_at=min(NOW, NOW + ttl),
        expires_at=NOW + ttl,
        last_used_at=last_used_at,
        user_agent=client.user_agent,
        ip_address=client.ip_address,
        **fields,
    )
    return Kept(digest=tokens.digest(text) if is_known else os.urandom(32), record=record, text=text)


async def fill(
    place: Place, count: int, *, client: ClientInfo = BROWSED, last_used_at: datetime | None = None, **fields: Any
) -> list[Kept]:
    """Store this many tokens, three for each user, in random order, and return some of the tokens with their texts."""
    shared = {"client": client, "last_used_at": last_used_at, **fields}
    users = [uuid.uuid4() for _ in range(ceil(count / TOKENS_PER_USER))]
    every = ceil(count / _KNOWN)
    known: list[Kept] = []
    if place.redis is None:
        await create_users(place.engine, users)
    async with _much_memory(place.engine):
        for start in range(0, count, _CHUNK):
            numbers = range(start, min(start + _CHUNK, count))
            chunk = [log_in(users[n % len(users)], is_known=n % every == 0, **shared) for n in numbers]
            await place.keep(chunk)
            known += [one for one in chunk if one.text]
    if place.redis is not None:
        await create_users(place.engine, {one.record.user_id for one in known})
    return known


async def create_users(engine: AsyncEngine, ids: Iterable[uuid.UUID]) -> None:
    """Store users."""
    rows = [{"id": user_id, "email": f"{user_id}@example.org", "hashed_password": "hash"} for user_id in ids]
    async with engine.begin() as connection:
        for start in range(0, len(rows), _CHUNK):
            await connection.execute(insert(cast("Table", User.__table__)), rows[start : start + _CHUNK])


@asynccontextmanager
async def _much_memory(engine: AsyncEngine) -> AsyncIterator[None]:
    """Make SQLite keep the indexes in memory while they grow, which halves the time."""
    if engine.dialect.name != "sqlite":
        yield
        return
    async with engine.connect() as connection:
        await connection.exec_driver_sql("PRAGMA cache_size = -262144")
    yield
    await engine.dispose()  # The measurements run on connections with the default cache.


def _row(kept: Kept) -> dict[str, object]:
    """Return the row of a token."""
    return vars(kept.record) | {"digest": kept.digest, "expiry_hour": hour_of(kept.record.expires_at)}


def _unchanged(value: object) -> object:
    """Return a value as it is."""
    return value


async def _keep_in_sql(engine: AsyncEngine, kept: Iterable[Kept]) -> None:
    """Insert rows, on PostgreSQL by COPY, which takes half the time."""
    rows: list[dict[str, object]] = [_row(one) for one in kept]
    async with engine.begin() as connection:
        if engine.dialect.name == "postgresql":
            driver = (await connection.get_raw_connection()).driver_connection
            columns = [KnoxToken.__table__.columns[name] for name in rows[0]]
            processors = [column.type.dialect_impl(engine.dialect).bind_processor(engine.dialect) for column in columns]
            convert = [processor or _unchanged for processor in processors]  # The driver knows nothing of these types.
            records = [tuple(one(value) for one, value in zip(convert, row.values(), strict=True)) for row in rows]
            assert driver is not None
            await driver.copy_records_to_table(KnoxToken.__tablename__, records=records, columns=list(rows[0]))
        else:
            await connection.execute(insert(cast("Table", KnoxToken.__table__)), rows)
