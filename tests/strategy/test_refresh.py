"""Recording the use of a token: when its expiry and `last_used_at` are written, and what happens if they cannot be."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import event
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession

from fastapi_users_knox import KnoxSettings, TokenRefreshed
from tests.backends import Backend
from tests.models import User
from tests.strategies import DAY, HOUR, MILLISECOND, MINUTE, NOW, SECOND, Knox, sent_to, stored, verbs

PLAIN = KnoxSettings(token_ttl=HOUR)
REFRESHING = KnoxSettings(token_ttl=HOUR, auto_refresh=True)
REFRESHING_OFTEN = KnoxSettings(token_ttl=HOUR, auto_refresh=True, min_refresh_interval=SECOND)
CAPPED = KnoxSettings(token_ttl=HOUR, auto_refresh=True, auto_refresh_max_ttl=2 * HOUR)


async def use(knox: Knox, token: str, settings: KnoxSettings = REFRESHING) -> None:
    """Read a token and require that it is accepted."""
    assert await knox.strategy(settings).read_token(token, knox.user_manager) is knox.user


async def times(engine: AsyncEngine) -> tuple[datetime | None, datetime | None]:
    """Return the stored `expires_at` and `last_used_at` of the only record."""
    [row] = await stored(engine)
    return row.expires_at, row.last_used_at


# when a use is written


@pytest.mark.parametrize(
    ("settings", "used_after", "expires_after", "is_noted"),
    [
        (REFRESHING, MINUTE, HOUR, False),
        (REFRESHING, MINUTE + MILLISECOND, HOUR + MINUTE + MILLISECOND, True),
        (REFRESHING, HOUR - MILLISECOND, 2 * HOUR - MILLISECOND, True),
        (PLAIN, MINUTE, HOUR, False),
        (PLAIN, HOUR / 2, HOUR, True),
    ],
)
async def test_a_use_is_written_after_the_interval(
    knox: Knox,
    engine: AsyncEngine,
    settings: KnoxSettings,
    used_after: timedelta,
    expires_after: timedelta,
    *,
    is_noted: bool,
) -> None:
    """A use after the interval sets `last_used_at`, and with `auto_refresh` it moves the expiry too."""
    token = await knox.strategy(settings).issue(knox.user)
    knox.clock.now += used_after

    await use(knox, token, settings)

    assert await times(engine) == (NOW + expires_after, NOW + used_after if is_noted else None)


async def test_the_record_returned_is_the_one_stored(knox: Knox, engine: AsyncEngine) -> None:
    """The record that a read returns has the stored times, also when the write was skipped."""
    token = await knox.strategy(REFRESHING).issue(knox.user)

    for used_after in (HOUR / 2, MINUTE, MINUTE / 2):
        knox.clock.now += used_after
        found = await knox.strategy(REFRESHING).authenticate(token, knox.user_manager)
        assert found is not None
        assert (found[1].expires_at, found[1].last_used_at) == await times(engine)


@pytest.mark.parametrize("ttl", [MINUTE, 30 * DAY])
async def test_a_refresh_keeps_the_lifetime_of_the_token(knox: Knox, engine: AsyncEngine, ttl: timedelta) -> None:
    """A token that was issued with its own lifetime expires this long after each refresh, whatever `token_ttl` is."""
    token = await knox.strategy(REFRESHING_OFTEN).issue(knox.user, token_ttl=ttl)
    knox.clock.now += ttl / 2

    await use(knox, token, settings=REFRESHING_OFTEN)

    assert await times(engine) == (NOW + ttl * 1.5, NOW + ttl / 2)


async def test_a_refresh_never_shortens(knox: Knox, engine: AsyncEngine) -> None:
    """A token that was issued under a longer `token_ttl` keeps its expiry; only `last_used_at` changes."""
    token = await knox.strategy(KnoxSettings(auto_refresh=True, token_ttl=30 * DAY)).issue(knox.user)
    knox.clock.now += DAY

    await use(knox, token)

    assert await times(engine) == (NOW + 30 * DAY, NOW + DAY)


async def test_an_endless_token_stays_endless(knox: Knox, engine: AsyncEngine) -> None:
    """A token that never expires gets no expiry by a refresh; only `last_used_at` changes."""
    token = await knox.strategy(REFRESHING).issue(knox.user, token_ttl=None)
    knox.clock.now += DAY

    await use(knox, token)

    assert await times(engine) == (None, NOW + DAY)


async def test_a_refresh_never_passes_the_cap(knox: Knox, engine: AsyncEngine) -> None:
    """However often a token is used, it expires at its cap, and a move by a few seconds is not written."""
    token = await knox.strategy(CAPPED).issue(knox.user)

    expiries = []
    for used_after in (HOUR - SECOND, 2 * MINUTE, 50 * MINUTE):
        knox.clock.now += used_after
        await use(knox, token, CAPPED)
        expiries.append((await times(engine))[0])

    assert expiries == [NOW + 2 * HOUR - SECOND] * 3
    knox.clock.now = NOW + 2 * HOUR
    assert not await knox.accepts(token, CAPPED)


async def test_many_reads_make_one_write(knox: Knox, engine: AsyncEngine) -> None:
    """Of many reads within the interval only one writes."""
    token = await knox.strategy(REFRESHING).issue(knox.user)
    knox.clock.now += HOUR / 2

    with sent_to(engine) as statements:
        for _ in range(20):
            knox.clock.now += SECOND
            await use(knox, token)

    assert verbs(statements).count("UPDATE") == 1


async def test_a_refresh_publishes_an_event(knox: Knox) -> None:
    """A refresh publishes `TokenRefreshed` with the stored record; a use that moves no expiry publishes nothing."""
    token = await knox.strategy(REFRESHING).issue(knox.user)
    knox.published()
    knox.clock.now += HOUR / 2

    await use(knox, token)
    knox.clock.now += HOUR / 2
    await use(knox, token, PLAIN)

    [published] = knox.events
    assert isinstance(published, TokenRefreshed)
    assert (published.record.expires_at, published.record.last_used_at) == (NOW + 3 * HOUR / 2, NOW + HOUR / 2)


async def test_a_switch_to_refreshing_holds_for_tokens_from_before(knox: Knox, engine: AsyncEngine) -> None:
    """Switching `auto_refresh` on applies to tokens that were issued before."""
    token = await knox.strategy(PLAIN).issue(knox.user)
    knox.clock.now += HOUR / 2

    await use(knox, token, REFRESHING)

    assert await times(engine) == (NOW + 3 * HOUR / 2, NOW + HOUR / 2)


# when a use cannot be written


@asynccontextmanager
async def locked(engine: AsyncEngine) -> AsyncIterator[None]:
    """Hold the database's write lock on another connection."""
    async with engine.connect() as connection:
        await connection.exec_driver_sql("BEGIN IMMEDIATE")
        yield
        await connection.rollback()


@pytest.mark.bounded
async def test_a_record_that_cannot_be_deleted_fails_nothing(
    knox: Knox, engine: AsyncEngine, caplog: pytest.LogCaptureFixture
) -> None:
    """An expired token is refused, and no error raised, if its record cannot be deleted."""
    token = await knox.strategy(PLAIN).issue(knox.user)
    knox.published()
    knox.clock.now += HOUR

    async with locked(engine):
        user = await knox.strategy(PLAIN).read_token(token, knox.user_manager)

    assert user is None
    assert knox.published() == []
    assert len(caplog.records) == 1
    assert len(await stored(engine)) == 1


async def test_a_read_replica_is_enough_to_read(
    knox: Knox, any_backend: Backend, caplog: pytest.LogCaptureFixture
) -> None:
    """On a read-only database live tokens are accepted and expired tokens are refused."""
    live = await knox.strategy(REFRESHING).issue(knox.user)
    expired = await knox.strategy(REFRESHING).issue(knox.user, token_ttl=MINUTE)
    user_id = knox.user.id
    replica = any_backend.create_engine()

    @event.listens_for(replica.sync_engine, "connect")
    def connect(connection: Any, _record: object) -> None:
        connection.execute("PRAGMA query_only = ON")

    async with AsyncSession(replica) as session:
        reader = Knox(session=session, user=await session.get_one(User, user_id))
        reader.clock.now += HOUR / 2

        await use(reader, live)
        assert await reader.strategy(REFRESHING).read_token(expired, reader.user_manager) is None

    await replica.dispose()
    assert len(caplog.records) == 2
