"""Issuing tokens: the record that a login stores, its lifetime, its name and the limit."""

from datetime import timedelta

import pytest
from sqlalchemy import delete
from sqlalchemy.ext.asyncio import AsyncEngine

from fastapi_users_knox import CredentialsChanged, KnoxSettings, TokenLimitReached, TokenRecord, tokens
from tests.models import User
from tests.strategies import DAY, HOUR, NOW, SECOND, Knox, change_user, request, sent_to, stored

FROM_PHONE = (("X-Device-Id", "phone"), ("X-Device-Name", "Ada's phone"), ("User-Agent", "curl/8"))


# the token and its record


async def test_a_login_stores_a_record(knox: Knox) -> None:
    """The stored record holds the user, the times and the client's description."""
    token = await knox.strategy(KnoxSettings(audience="web"), request=request(*FROM_PHONE)).write_token(knox.user)

    [record] = await knox.strategy(KnoxSettings(audience="web")).list_records(knox.user)
    assert record == token.record
    assert record == TokenRecord(
        id=record.id,
        user_id=knox.user.id,
        audience="web",
        created_at=NOW,
        expires_at=NOW + timedelta(hours=10),
        name="Ada's phone",
        device_id="phone",
        user_agent="curl/8",
        ip_address="192.0.2.1",
    )


async def test_an_issued_token_knows_what_it_is(knox: Knox) -> None:
    """An issued token is a well-formed text that carries its record, user and lifetime."""
    token = await knox.strategy(KnoxSettings(token_ttl=HOUR, token_prefix="acme_")).issue(knox.user)

    assert token.startswith("acme_")
    assert tokens.parse(token) == tokens.routing_tag(knox.user.id)
    assert (token.user, token.issued_at, token.expires_in) == (knox.user, NOW, 3600)


async def test_no_two_tokens_are_alike(knox: Knox) -> None:
    """Every token has its own text and its own id."""
    issued = [await knox.strategy().issue(knox.user) for _ in range(10)]

    assert len(set(issued)) == len({token.record.id for token in issued}) == 10


async def test_the_digest_is_stored(knox: Knox, engine: AsyncEngine) -> None:
    """The database stores the token's digest and no part of its text."""
    token = await knox.strategy().issue(knox.user)

    [row] = await stored(engine)
    assert row.digest == tokens.digest(token)
    assert not any(token[5:] in str(value) for value in row)


async def test_times_are_whole_milliseconds(knox: Knox) -> None:
    """Times are cut to whole milliseconds, so the returned record equals the stored one."""
    knox.clock.now = NOW + timedelta(microseconds=123_456)

    token = await knox.strategy().issue(knox.user)

    assert token.record.created_at == NOW + timedelta(milliseconds=123)
    assert await knox.strategy().list_records(knox.user) == [token.record]


async def test_the_clock_s_zone_does_not_matter(knox: Knox) -> None:
    """Times are stored in UTC, whatever time zone the clock returns."""
    knox.clock.now = NOW.astimezone()

    token = await knox.strategy().issue(knox.user)

    assert token.record.created_at.utcoffset() == timedelta(0)
    assert token.record.created_at == NOW


async def test_a_login_commits_the_session(knox: Knox, engine: AsyncEngine) -> None:
    """A login commits the session, as FastAPI-Users' adapters do, and the user's attributes stay readable."""
    knox.user.email = "changed@example.org"

    await knox.strategy().issue(knox.user)

    assert not knox.session.in_transaction()
    assert (knox.user.email, knox.user.is_active) == ("changed@example.org", True)
    async with engine.connect() as connection:
        emails = (await connection.execute(User.__table__.select())).mappings().all()
    assert [row["email"] for row in emails] == ["changed@example.org"]


# lifetimes and names


@pytest.mark.parametrize(
    ("ttl", "cap", "expires_after"),
    [
        (30 * DAY, None, 30 * DAY),
        (SECOND, None, SECOND),
        (None, None, None),
        (30 * DAY, 20 * DAY, 20 * DAY),
        (None, 20 * DAY, 20 * DAY),
    ],
)
async def test_a_token_may_have_its_own_lifetime(
    knox: Knox, ttl: timedelta | None, cap: timedelta | None, expires_after: timedelta | None
) -> None:
    """`token_ttl` of `issue` may be longer or shorter than the setting, or None, but never passes the cap."""
    token = await knox.strategy(KnoxSettings(auto_refresh_max_ttl=cap)).issue(knox.user, token_ttl=ttl)

    assert token.record.expires_at == (None if expires_after is None else NOW + expires_after)


@pytest.mark.parametrize("ttl", [timedelta(0), -SECOND, 36526 * DAY, timedelta(microseconds=1)])
async def test_an_invalid_lifetime_is_refused(knox: Knox, engine: AsyncEngine, ttl: timedelta) -> None:
    """An invalid lifetime, such as zero, raises a ValueError before anything is written."""
    with sent_to(engine) as statements, pytest.raises(ValueError, match="more than 0"):
        await knox.strategy().issue(knox.user, token_ttl=ttl)

    assert statements == []


@pytest.mark.parametrize(("name", "stored_name"), [(None, "Ada's phone"), ("Backup", "Backup"), ("x" * 200, "x" * 128)])
async def test_a_token_may_be_named(knox: Knox, name: str | None, stored_name: str) -> None:
    """A name passed to `issue` replaces the client's own and is cut to the column's length."""
    token = await knox.strategy(request=request(*FROM_PHONE)).issue(knox.user, name=name)

    [record] = await knox.strategy().list_records(knox.user)
    assert token.record.name == record.name == stored_name


# the limit


@pytest.mark.parametrize("replace", [True, False])
async def test_every_way_to_a_token_obeys_the_limit(knox: Knox, *, replace: bool) -> None:
    """At the limit neither a login nor `issue` issues a token, and no token is revoked."""
    strategy = knox.strategy(KnoxSettings(token_limit_per_user=2))
    kept = [await strategy.write_token(knox.user) for _ in range(2)]

    with pytest.raises(TokenLimitReached):
        await strategy.issue(knox.user, token_ttl=None, replace=replace)

    assert [await knox.accepts(token) for token in kept] == [True, True]
    assert len(await strategy.list_records(knox.user)) == 2


async def test_the_limit_may_evict(knox: Knox) -> None:
    """With `evict_oldest` a login at the limit succeeds and revokes the oldest token."""
    strategy = knox.strategy(KnoxSettings(token_limit_per_user=2, limit_policy="evict_oldest"))
    issued = []
    for _ in range(3):
        knox.clock.now += SECOND
        issued.append(await strategy.issue(knox.user))

    assert [await knox.accepts(token) for token in issued] == [False, True, True]


async def test_tokens_past_the_cap_do_not_count(knox: Knox) -> None:
    """Tokens that are refused because of the cap do not count towards the limit."""
    await knox.strategy().issue(knox.user, token_ttl=None)
    knox.clock.now += DAY
    capped = KnoxSettings(auto_refresh_max_ttl=DAY, token_limit_per_user=1)

    token = await knox.strategy(capped).issue(knox.user)

    assert await knox.strategy(capped).list_records(knox.user) == [token.record]


# a user who is changed before the write


@pytest.mark.parametrize("values", [{"hashed_password": "new"}, {"is_active": False}])
async def test_a_login_fails_if_its_user_has_changed(
    knox: Knox, engine: AsyncEngine, values: dict[str, object]
) -> None:
    """A login fails if the password or `is_active` changes between its check and its write."""
    await change_user(engine, knox.user, **values)

    with pytest.raises(CredentialsChanged):
        await knox.strategy().issue(knox.user)

    assert await stored(engine) == []


async def test_a_login_fails_if_its_user_is_gone(knox: Knox, engine: AsyncEngine) -> None:
    """A login fails if its user is deleted between its check and its write."""
    async with engine.begin() as connection:
        await connection.execute(delete(User))

    with pytest.raises(CredentialsChanged):
        await knox.strategy().issue(knox.user)

    assert await stored(engine) == []
