"""The policy: the settings' arithmetic, tested with numbers alone."""

import uuid
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastapi_users_knox import KnoxSettings, TokenRecord

NOW = datetime(2030, 1, 1, 12, tzinfo=UTC)
MILLISECOND = timedelta(milliseconds=1)
MINUTE = timedelta(minutes=1)
HOUR = timedelta(hours=1)
DAY = timedelta(days=1)

RECORD = TokenRecord(id=uuid.UUID(int=1), user_id=1, audience="", created_at=NOW, expires_at=NOW + HOUR)
PLAIN = KnoxSettings(token_ttl=HOUR)
CAPPED = KnoxSettings(token_ttl=HOUR, auto_refresh_max_ttl=DAY)
REFRESHING = KnoxSettings(token_ttl=HOUR, auto_refresh=True)
CAPPED_REFRESHING = KnoxSettings(token_ttl=HOUR, auto_refresh=True, auto_refresh_max_ttl=DAY)

TIMES = st.integers(0, 3 * 86_400_000).map(lambda number: number * MILLISECOND)  # up to three days
TTLS = st.integers(2, 86_400_000).map(lambda number: number * MILLISECOND)


@st.composite
def refreshing_settings(draw: st.DrawFn) -> KnoxSettings:
    """Draw settings with `auto_refresh`, with or without a cap."""
    ttl = draw(TTLS)
    return KnoxSettings(
        token_ttl=ttl,
        auto_refresh=True,
        auto_refresh_max_ttl=draw(st.none() | TIMES.map(lambda more: ttl + more)),
        min_refresh_interval=draw(st.integers(0, ttl // MILLISECOND - 1)) * MILLISECOND,
    )


@st.composite
def read_records(draw: st.DrawFn) -> tuple[TokenRecord[int], datetime]:
    """Draw a record with any expiry, and a time at which it is read."""
    return replace(RECORD, expires_at=NOW + draw(TIMES)), NOW + draw(TIMES)


# the expiry at login


@pytest.mark.parametrize(
    ("settings", "ttl", "expires_at"),
    [
        (PLAIN, HOUR, NOW + HOUR),
        (PLAIN, 30 * DAY, NOW + 30 * DAY),
        (PLAIN, None, None),
        (CAPPED, HOUR, NOW + HOUR),
        (CAPPED, DAY, NOW + DAY),
        (CAPPED, 30 * DAY, NOW + DAY),
        (CAPPED, None, NOW + DAY),
    ],
)
def test_the_expiry_at_login(settings: KnoxSettings, ttl: timedelta | None, expires_at: datetime | None) -> None:
    """A token expires after its lifetime, but never after the cap."""
    assert settings.expires_at(NOW, ttl) == expires_at


@pytest.mark.parametrize("ttl", [timedelta(0), -MILLISECOND, timedelta(days=36526), timedelta(microseconds=1)])
def test_an_invalid_lifetime_is_refused(ttl: timedelta) -> None:
    """A lifetime passed at a login obeys the rule of `token_ttl`: zero does not mean that it never expires."""
    with pytest.raises(ValueError, match="more than 0, at most 100 years"):
        PLAIN.expires_at(NOW, ttl)


# the cap and the kill switch


@pytest.mark.parametrize(
    ("cap", "not_before", "created_since"),
    [
        (None, None, None),
        (DAY, None, NOW - DAY + MILLISECOND),
        (None, NOW - HOUR, NOW - HOUR),
        (DAY, NOW - HOUR, NOW - HOUR),
        (DAY, NOW - 2 * DAY, NOW - DAY + MILLISECOND),
        (None, NOW + HOUR, NOW + HOUR),
    ],
)
def test_the_earliest_accepted_login(
    cap: timedelta | None, not_before: datetime | None, created_since: datetime | None
) -> None:
    """The later of the cap and `not_before` decides from when on logins are accepted."""
    settings = KnoxSettings(token_ttl=HOUR, auto_refresh_max_ttl=cap, not_before=not_before)

    assert settings.created_since(NOW) == created_since
    assert settings.capped_since(NOW) == (None if cap is None else NOW - cap + MILLISECOND)


@given(read=read_records(), cap=TIMES.map(lambda more: HOUR + more))
def test_live_means_before_the_expiry_and_the_cap(read: tuple[TokenRecord[int], datetime], cap: timedelta) -> None:
    """A record is live while `now < min(expires_at, created_at + cap)`, under any settings it was made."""
    record, now = read
    settings = KnoxSettings(token_ttl=HOUR, auto_refresh_max_ttl=cap)

    is_live = record.is_live(now, created_since=settings.created_since(now))

    assert record.expires_at is not None
    assert is_live == (now < min(record.expires_at, record.created_at + cap))


@given(read=read_records(), not_before=TIMES)
def test_live_means_not_from_before_the_kill_switch(
    read: tuple[TokenRecord[int], datetime], not_before: timedelta
) -> None:
    """A record is live only if it was created at `not_before` or later, and has not expired."""
    record, now = read
    created_at = NOW + HOUR
    settings = KnoxSettings(token_ttl=HOUR, not_before=NOW + not_before)

    is_live = replace(record, created_at=created_at).is_live(now, created_since=settings.created_since(now))

    assert is_live == (NOW + not_before <= created_at and record.is_live(now))


# the refresh


@pytest.mark.parametrize(
    ("last_used_at", "now", "is_due"),
    [
        (None, NOW, False),
        (None, NOW + MINUTE, False),
        (None, NOW + MINUTE + MILLISECOND, True),
        (NOW + HOUR, NOW + HOUR + MINUTE, False),
        (NOW + HOUR, NOW + HOUR + MINUTE + MILLISECOND, True),
        (NOW + HOUR, NOW, False),
    ],
)
def test_a_use_is_written_after_the_interval(last_used_at: datetime | None, now: datetime, *, is_due: bool) -> None:
    """A use is written only if more than `min_refresh_interval` has passed since the last write or the login."""
    assert PLAIN.is_write_due(replace(RECORD, last_used_at=last_used_at), now) == is_due


def test_without_an_interval_every_use_is_written() -> None:
    """With an interval of 0 every use is written, except within the same millisecond."""
    settings = KnoxSettings(min_refresh_interval=timedelta(0))

    assert [settings.is_write_due(RECORD, NOW + later) for later in (timedelta(0), MILLISECOND)] == [False, True]


@pytest.mark.parametrize(
    ("settings", "used_after", "expires_after"),
    [
        (PLAIN, MINUTE * 30, None),
        (REFRESHING, MINUTE - MILLISECOND, None),
        (REFRESHING, MINUTE, None),
        (REFRESHING, MINUTE + MILLISECOND, HOUR + MINUTE + MILLISECOND),
        (REFRESHING, HOUR - MILLISECOND, 2 * HOUR - MILLISECOND),
        (CAPPED_REFRESHING, 30 * MINUTE, 90 * MINUTE),
    ],
)
def test_a_refresh_moves_the_expiry_by_more_than_the_interval(
    settings: KnoxSettings, used_after: timedelta, expires_after: timedelta | None
) -> None:
    """A refresh moves the expiry to `now + token_ttl`, if that is later by more than the interval."""
    expected = None if expires_after is None else NOW + expires_after

    assert settings.refreshed_expiry(RECORD, NOW + used_after) == expected


@pytest.mark.parametrize(
    ("expires_before_cap", "refreshed"), [(MINUTE, False), (MINUTE + MILLISECOND, True), (timedelta(0), False)]
)
def test_the_last_refresh_is_to_the_cap(expires_before_cap: timedelta, *, refreshed: bool) -> None:
    """Near the cap a refresh moves the expiry to the cap, if that is later by more than the interval."""
    cap = NOW + DAY
    record = replace(RECORD, expires_at=cap - expires_before_cap)

    assert CAPPED_REFRESHING.refreshed_expiry(record, cap - HOUR) == (cap if refreshed else None)


def test_a_token_that_never_expires_is_not_refreshed() -> None:
    """A token that never expires gets no expiry by a refresh."""
    assert REFRESHING.refreshed_expiry(replace(RECORD, expires_at=None), NOW + DAY) is None


@given(settings=refreshing_settings(), read=read_records())
def test_a_refresh_is_knox_s(settings: KnoxSettings, read: tuple[TokenRecord[int], datetime]) -> None:
    """A refresh moves the expiry to `min(now + ttl, created + max)` if later by more than the interval."""
    record, now = read
    assert settings.token_ttl is not None
    assert record.expires_at is not None
    expected = now + settings.token_ttl
    if settings.auto_refresh_max_ttl is not None:
        expected = min(expected, record.created_at + settings.auto_refresh_max_ttl)

    refreshed = settings.refreshed_expiry(record, now)

    assert refreshed == (expected if expected - record.expires_at > settings.min_refresh_interval else None)


@given(settings=refreshing_settings(), read=read_records())
def test_a_refresh_never_shortens_and_never_passes_the_cap(
    settings: KnoxSettings, read: tuple[TokenRecord[int], datetime]
) -> None:
    """A refreshed expiry is later than before, not after the cap, and not refreshed again at once."""
    record, now = read
    refreshed = settings.refreshed_expiry(record, now)

    if refreshed is not None:
        assert record.expires_at is not None
        assert refreshed > record.expires_at
        assert refreshed <= record.created_at + (settings.auto_refresh_max_ttl or 1000 * DAY)
        assert settings.refreshed_expiry(replace(record, expires_at=refreshed), now) is None
