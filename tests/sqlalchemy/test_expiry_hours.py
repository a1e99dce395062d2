"""Expired rows are found by the hour of their expiry, which is set whoever writes the expiry."""

import uuid
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta, timezone
from typing import Any, cast

import pytest
from sqlalchemy import Table, func, insert, literal, select, update
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column, validates

from fastapi_users_knox import KnoxSettings, KnoxStrategy
from fastapi_users_knox.sqlalchemy import SQLAlchemyBaseKnoxTokenTableUUID
from fastapi_users_knox.sqlalchemy.expiry_hours import UNKNOWN_HOUR, hour_of
from tests.backends import Backend
from tests.models import KnoxToken, User, create_user, store_on, user_manager_on

pytestmark = pytest.mark.parametrize("any_backend", ["sqlite", "postgresql-asyncpg", "mariadb"], indirect=True)

NOW = datetime(2030, 1, 1, 12, 34, 56, 789000, tzinfo=UTC)
THIS_HOUR = datetime(2030, 1, 1, 12, tzinfo=UTC)
MINUTE, HOUR = timedelta(minutes=1), timedelta(hours=1)
TABLE = cast("Table", KnoxToken.__table__)


@pytest.fixture
async def session(engine: AsyncEngine) -> AsyncIterator[AsyncSession]:
    """Return a session."""
    async with AsyncSession(engine, expire_on_commit=False) as session:
        yield session


@pytest.fixture
async def user(session: AsyncSession) -> User:
    """Return a user."""
    return await create_user(session)


def strategy_on(session: AsyncSession, now: datetime = NOW, **settings: Any) -> KnoxStrategy[User, uuid.UUID]:
    """Return a strategy whose clock stands still."""
    return KnoxStrategy(store_on(session), KnoxSettings(**settings), request=None, clock=lambda: now)


def row_of(user: User, **values: object) -> dict[str, Any]:
    """Return a row as an application may write it, without an hour."""
    id_ = uuid.uuid4()
    times = {"created_at": NOW - HOUR, "authenticated_at": NOW - HOUR}
    return {"id": id_, "digest": id_.bytes * 2, "user_id": user.id, "audience": "", **times, **values}


async def hours(session: AsyncSession) -> list[datetime | None]:
    """Return the hours of all rows."""
    return list((await session.execute(select(TABLE.c.expiry_hour))).scalars())


async def count(session: AsyncSession) -> int:
    """Return the number of rows."""
    return (await session.execute(select(func.count()).select_from(TABLE))).scalar_one()


def test_an_hour_is_rounded_down_in_utc(any_backend: Backend) -> None:
    """The hour is the same for every time zone, even for one that is half an hour away from the others."""
    assert any_backend

    assert hour_of(NOW.astimezone(timezone(timedelta(hours=5, minutes=30)))) == THIS_HOUR
    assert hour_of(THIS_HOUR) == THIS_HOUR
    assert hour_of(None) is None


async def test_a_login_sets_the_hour(session: AsyncSession, user: User) -> None:
    """The hour of a new token is the one in which it expires; a token that never expires has none."""
    await strategy_on(session, token_ttl=2 * HOUR).issue(user)
    assert await hours(session) == [THIS_HOUR + 2 * HOUR]

    await strategy_on(session).logout_all(user)
    await strategy_on(session, token_ttl=None).issue(user)
    assert await hours(session) == [None]


async def test_a_refresh_moves_the_hour(session: AsyncSession, user: User) -> None:
    """A refresh moves the hour together with the expiry."""
    settings: dict[str, Any] = {"token_ttl": 2 * HOUR, "auto_refresh": True}
    token = await strategy_on(session, NOW, **settings).issue(user)

    await strategy_on(session, NOW + HOUR, **settings).read_token(token, user_manager_on(session))

    assert await hours(session) == [THIS_HOUR + 3 * HOUR]


@pytest.mark.parametrize("expires_at", [NOW, None])
async def test_an_insert_of_the_application_sets_the_hour(
    session: AsyncSession, user: User, expires_at: datetime | None
) -> None:
    """An INSERT of the application by SQLAlchemy sets the hour."""
    await session.execute(insert(TABLE), [row_of(user, expires_at=expires_at) for _ in range(2)])

    assert await hours(session) == [expires_at and THIS_HOUR] * 2


async def test_objects_keep_the_hour_up_to_date(session: AsyncSession, user: User) -> None:
    """The hour of an object is set whenever its expiry is set."""
    token = KnoxToken(**row_of(user, expires_at=NOW))
    session.add(token)
    await session.commit()
    first = await hours(session)
    token.expires_at = NOW - HOUR
    await session.commit()

    assert [*first, *await hours(session)] == [THIS_HOUR, THIS_HOUR - HOUR]


async def test_an_application_may_validate_the_expiry(any_backend: Backend) -> None:
    """A token class can have a validator of its own for the expiry."""

    class Apart(DeclarativeBase):
        """The declarative base of another application."""

    class Token(SQLAlchemyBaseKnoxTokenTableUUID, Apart):
        """A token record that expires at a full second."""

        user_id: Mapped[uuid.UUID] = mapped_column()

        @validates("expires_at")
        def in_seconds(self, _name: str, expires_at: datetime) -> datetime:
            """Round the expiry down."""
            return expires_at.replace(microsecond=0)

    assert any_backend
    token = Token(expires_at=NOW)

    assert token.expires_at == NOW.replace(microsecond=0)
    assert token.expiry_hour == THIS_HOUR


async def test_an_unknown_hour_is_before_all_others(session: AsyncSession, user: User) -> None:
    """If the expiry is an SQL expression, or the INSERT is not SQLAlchemy's, the row is looked at by every purge."""
    past = select(literal(NOW - MINUTE, TABLE.c.expires_at.type)).scalar_subquery()
    await session.execute(insert(TABLE).values(**row_of(user), expires_at=past))
    token = KnoxToken(**row_of(user))
    token.expires_at = cast("Any", past)
    session.add(token)
    await session.flush()
    columns = [column for column in TABLE.columns if column.name != "expiry_hour"]
    new = row_of(user)
    values = [
        literal(new[column.name], column.type) if column.name in {"id", "digest"} else column for column in columns
    ]
    raw = insert(TABLE).from_select(columns, select(*values).limit(1), include_defaults=False)
    await session.execute(raw)
    await session.commit()

    assert await hours(session) == [UNKNOWN_HOUR] * 3
    assert await strategy_on(session).purge() == 3


async def test_a_token_expired_by_an_update_does_not_count(session: AsyncSession, user: User) -> None:
    """A token that the application has expired by an UPDATE without the hour takes no place in the limit."""
    settings: dict[str, Any] = {"token_limit_per_user": 1, "token_ttl": 2 * HOUR}
    await strategy_on(session, NOW, **settings).issue(user)
    await session.execute(update(TABLE).values(expires_at=NOW - MINUTE))
    await session.commit()

    token = await strategy_on(session, NOW, **settings).issue(user)

    assert await strategy_on(session).list_records(user) == [token.record]
    evicting = strategy_on(session, NOW, **settings, limit_policy="evict_oldest")
    newest = await evicting.issue(user)
    assert await evicting.list_records(user) == [newest.record]


async def test_a_purge_keeps_the_rest_of_the_hour(session: AsyncSession, user: User) -> None:
    """A purge in the hour of an expiry deletes the rows that have expired, and keeps those that have not."""
    rows = [row_of(user, expires_at=NOW + shift) for shift in (-MINUTE, timedelta(), MINUTE)]
    await session.execute(insert(TABLE), rows)
    await session.commit()

    assert await strategy_on(session).purge() == 2
    assert await count(session) == 1
