"""Reading a token: which tokens are accepted or refused, and how many statements a read takes."""

from collections.abc import Iterable
from datetime import datetime, timedelta

import pytest
from sqlalchemy import delete
from sqlalchemy.ext.asyncio import AsyncEngine

from fastapi_users_knox import KnoxSettings
from tests.models import User
from tests.strategies import (
    DAY,
    DEFAULTS,
    HOUR,
    MILLISECOND,
    MINUTE,
    NOW,
    SECOND,
    Knox,
    change_user,
    flipped,
    sent_to,
    stored,
    unknown_token,
    verbs,
)

ENDLESS = KnoxSettings(token_ttl=None)


# which tokens are accepted


async def test_a_live_token_gives_its_user(knox: Knox) -> None:
    """A live token authenticates its user, and each kind of read returns the stored record."""
    token = await knox.strategy().issue(knox.user)

    authenticated = await knox.strategy().authenticate(token, knox.user_manager)

    assert authenticated == (knox.user, token.record)
    assert await knox.strategy().read_token(token, knox.user_manager) is knox.user
    assert await knox.strategy().read_record(token) == token.record


async def test_a_plain_str_is_accepted(knox: Knox) -> None:
    """A token is accepted as a plain `str`, which is how it comes from a header."""
    token = await knox.strategy().issue(knox.user)

    assert await knox.strategy().read_token(str(token), knox.user_manager) is knox.user


async def test_another_prefix_logs_nobody_out(knox: Knox) -> None:
    """Tokens issued before `token_prefix` was changed are still accepted."""
    tokens = [await knox.strategy(KnoxSettings(token_prefix=prefix)).issue(knox.user) for prefix in ("", "old_", "_")]

    accepted = [await knox.accepts(token, KnoxSettings(token_prefix="new_")) for token in tokens]

    assert accepted == [True, True, True]


def refused_texts(token: str) -> Iterable[str | None]:
    """List texts that are not well-formed tokens, some of them close to this token."""
    return (None, "", "junk", flipped(token), token + "\n", token.lower(), "\0", "\ud800", "ä" * 56, token * 10_000)


async def test_junk_is_free(knox: Knox, engine: AsyncEngine) -> None:
    """A text that is not a well-formed token is refused without querying the database."""
    token = await knox.strategy().issue(knox.user)

    with sent_to(engine) as statements:
        for text in refused_texts(token):
            assert await knox.strategy().read_token(text, knox.user_manager) is None
            assert await knox.strategy().read_record(text) is None

    assert statements == []


async def test_an_unknown_token_is_refused(knox: Knox, engine: AsyncEngine) -> None:
    """A well-formed token that was never issued is refused after one SELECT."""
    text = unknown_token(knox.user)

    with sent_to(engine) as statements:
        user = await knox.strategy().read_token(text, knox.user_manager)

    assert user is None
    assert verbs(statements) == ["SELECT"]


async def test_a_digest_is_no_token(knox: Knox, engine: AsyncEngine) -> None:
    """Nothing that the database stores about a token is accepted as a token."""
    token = await knox.strategy().issue(knox.user)
    digest = (await stored(engine))[0].digest

    for text in (digest.hex(), digest.decode("latin-1"), str(token.record.id)):
        assert await knox.strategy().read_token(text, knox.user_manager) is None


async def test_a_read_is_one_statement(knox: Knox, engine: AsyncEngine) -> None:
    """One SELECT reads the token together with its user."""
    token = await knox.strategy().issue(knox.user)

    with sent_to(engine) as statements:
        await knox.strategy().read_token(token, knox.user_manager)
        await knox.strategy().read_record(token)

    assert verbs(statements) == ["SELECT", "SELECT"]
    assert "JOIN" in statements[0]


# the expiry


@pytest.mark.parametrize(("after", "accepted"), [(HOUR - MILLISECOND, True), (HOUR, False), (HOUR + DAY, False)])
async def test_a_token_is_refused_from_its_expiry_on(knox: Knox, after: timedelta, *, accepted: bool) -> None:
    """Every kind of read refuses a token as soon as `now >= expires_at`."""
    token = await knox.strategy(KnoxSettings(token_ttl=HOUR)).issue(knox.user)

    knox.clock.now += after

    assert (await knox.strategy().read_record(token) is not None) == accepted
    assert await knox.accepts(token) == accepted
    assert (len(await knox.strategy().list_records(knox.user)) == 1) == accepted
    assert (await knox.strategy().read_token(token, knox.user_manager) is not None) == accepted


async def test_an_expired_token_that_is_presented_is_deleted(knox: Knox, engine: AsyncEngine) -> None:
    """Presenting an expired token removes its record, and only the first read publishes `TokenExpired`."""
    token = await knox.strategy(KnoxSettings(token_ttl=HOUR)).issue(knox.user)
    kept = await knox.strategy(KnoxSettings(token_ttl=HOUR)).issue(knox.user)
    knox.published()
    knox.clock.now += HOUR

    users = [await knox.strategy().read_token(token, knox.user_manager) for _ in range(2)]

    assert users == [None, None]
    assert [row.id for row in await stored(engine)] == [kept.record.id]
    assert knox.published() == [("TokenExpired",)]


async def test_an_expired_token_is_deleted_however_lately_it_was_used(knox: Knox, engine: AsyncEngine) -> None:
    """Presenting an expired token removes its record even right after its last use."""
    settings = KnoxSettings(token_ttl=HOUR)
    token = await knox.strategy(settings).issue(knox.user)
    knox.clock.now += HOUR - SECOND
    await knox.strategy(settings).read_token(token, knox.user_manager)
    knox.published()

    knox.clock.now += SECOND
    await knox.strategy(settings).read_token(token, knox.user_manager)

    assert await stored(engine) == []
    assert knox.published() == [("TokenExpired",)]


async def test_a_passive_read_writes_nothing(knox: Knox, engine: AsyncEngine) -> None:
    """With `touch=False` neither a due refresh nor the removal of an expired record is written or published."""
    settings = KnoxSettings(token_ttl=HOUR, auto_refresh=True)
    live, expired = (
        await knox.strategy(settings).issue(knox.user),
        await knox.strategy().issue(knox.user, token_ttl=MINUTE),
    )
    rows = await stored(engine)
    knox.published()
    knox.clock.now += HOUR / 2

    with sent_to(engine) as statements:
        found = [
            await knox.strategy(settings).authenticate(token, knox.user_manager, touch=False)
            for token in (live, expired)
        ]
        read = [await knox.strategy(settings).read_record(token) for token in (live, expired)]

    assert found == [(knox.user, live.record), None]
    assert read == [live.record, None]
    assert verbs(statements) == ["SELECT"] * 4
    assert await stored(engine) == rows
    assert knox.published() == []


# the cap and the kill switch


@pytest.mark.parametrize("made_under", [ENDLESS, KnoxSettings(token_ttl=90 * DAY)])
async def test_the_cap_holds_for_tokens_from_before_it(
    knox: Knox, engine: AsyncEngine, made_under: KnoxSettings
) -> None:
    """A record from before the cap was set is refused past the cap, and removed when it is presented."""
    token = await knox.strategy(made_under).issue(knox.user)
    capped = KnoxSettings(auto_refresh_max_ttl=DAY)

    knox.clock.now = NOW + DAY - MILLISECOND
    assert await knox.accepts(token, capped)
    knox.clock.now = NOW + DAY
    assert await knox.strategy(capped).read_token(token, knox.user_manager) is None
    assert await stored(engine) == []


@pytest.mark.parametrize(("not_before", "accepted"), [(NOW, True), (NOW + MILLISECOND, False), (NOW + DAY, False)])
async def test_the_kill_switch(knox: Knox, engine: AsyncEngine, not_before: datetime, *, accepted: bool) -> None:
    """Tokens of logins before `not_before` are refused; their records stay, because the setting may be withdrawn."""
    token = await knox.strategy().issue(knox.user)
    switched = KnoxSettings(not_before=not_before)

    with sent_to(engine) as statements:
        user = await knox.strategy(switched).read_token(token, knox.user_manager)

    assert (user is not None) == accepted
    assert verbs(statements) == ["SELECT"]
    assert (await knox.strategy(switched).read_record(token) is not None) == accepted
    assert (len(await knox.strategy(switched).list_records(knox.user)) == 1) == accepted
    assert await knox.accepts(token, DEFAULTS)
    assert len(await stored(engine)) == 1


# the user


async def test_an_inactive_user_is_refused(knox: Knox, engine: AsyncEngine) -> None:
    """Every read refuses a user whose stored row is inactive, even if the session's object is active."""
    token = await knox.strategy().issue(knox.user)
    await change_user(engine, knox.user, is_active=False)

    user = await knox.strategy().read_token(token, knox.user_manager)

    assert knox.user.is_active
    assert user is None
    assert await knox.strategy().read_record(token) is None


async def test_a_user_who_is_activated_again_is_let_in(knox: Knox, engine: AsyncEngine) -> None:
    """Refusing an inactive user removes no record, so the token works again after reactivation."""
    token = await knox.strategy().issue(knox.user)
    await change_user(engine, knox.user, is_active=False)
    await knox.strategy().read_token(token, knox.user_manager)
    await change_user(engine, knox.user, is_active=True)

    assert await knox.strategy().read_token(token, knox.user_manager) is knox.user


async def test_an_inactive_user_s_token_is_not_refreshed(knox: Knox, engine: AsyncEngine) -> None:
    """A token that is refused because its user is inactive is not refreshed."""
    settings = KnoxSettings(token_ttl=HOUR, auto_refresh=True)
    token = await knox.strategy(settings).issue(knox.user)
    await change_user(engine, knox.user, is_active=False)
    rows = await stored(engine)
    knox.clock.now += HOUR / 2

    await knox.strategy(settings).read_token(token, knox.user_manager)

    assert await stored(engine) == rows


async def test_a_deleted_user_is_refused(knox: Knox, engine: AsyncEngine) -> None:
    """A deleted user is refused even if the record is left, as in SQLite without foreign keys."""
    token = await knox.strategy().issue(knox.user)
    async with engine.begin() as connection:
        await connection.execute(delete(User))

    assert len(await stored(engine)) == 1
    assert await knox.strategy().read_token(token, knox.user_manager) is None
    assert await knox.strategy().read_record(token) is None


# audiences


async def test_audiences_keep_apart(knox: Knox) -> None:
    """Of two strategies on one table, each reads, lists, limits and revokes only its own audience's tokens."""
    web, api = (
        knox.strategy(KnoxSettings(audience=audience, token_limit_per_user=1, limit_policy="evict_oldest"))
        for audience in ("web", "api")
    )
    one, two = await web.issue(knox.user), await api.issue(knox.user)

    assert await api.read_token(one, knox.user_manager) is None
    assert await web.read_record(two) is None
    assert (await web.list_records(knox.user), await api.list_records(knox.user)) == ([one.record], [two.record])
    assert not await web.revoke(knox.user, two.record.id)
    assert await web.logout_all(knox.user) == 1
    assert await api.read_token(two, knox.user_manager) is knox.user
