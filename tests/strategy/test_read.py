"""Reading a token: who is let in, who is not, and what that costs."""

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


# who is let in


async def test_a_live_token_gives_its_user(knox: Knox) -> None:
    """It is the user of the session, and the record stored."""
    token = await knox.strategy().issue(knox.user)

    authenticated = await knox.strategy().authenticate(token, knox.user_manager)

    assert authenticated == (knox.user, token.record)
    assert await knox.strategy().read_token(token, knox.user_manager) is knox.user
    assert await knox.strategy().read_record(token) == token.record


async def test_the_text_alone_counts(knox: Knox) -> None:
    """A token is recognised by its text, as it comes from a header."""
    token = await knox.strategy().issue(knox.user)

    assert await knox.strategy().read_token(str(token), knox.user_manager) is knox.user


async def test_another_prefix_logs_nobody_out(knox: Knox) -> None:
    """Tokens from before `token_prefix` was changed are accepted still."""
    tokens = [await knox.strategy(KnoxSettings(token_prefix=prefix)).issue(knox.user) for prefix in ("", "old_", "_")]

    accepted = [await knox.accepts(token, KnoxSettings(token_prefix="new_")) for token in tokens]

    assert accepted == [True, True, True]


def refused_texts(token: str) -> Iterable[str | None]:
    """List what has not the shape of a token, though some is near to this one."""
    return (None, "", "junk", flipped(token), token + "\n", token.lower(), "\0", "\ud800", "ä" * 56, token * 10_000)


async def test_junk_is_free(knox: Knox, engine: AsyncEngine) -> None:
    """What has not the shape of a token is refused without asking the database."""
    token = await knox.strategy().issue(knox.user)

    with sent_to(engine) as statements:
        for text in refused_texts(token):
            assert await knox.strategy().read_token(text, knox.user_manager) is None
            assert await knox.strategy().read_record(text) is None

    assert statements == []


async def test_an_unknown_token_is_refused(knox: Knox, engine: AsyncEngine) -> None:
    """The right shape is not enough: the token is looked up by one statement."""
    text = unknown_token(knox.user)

    with sent_to(engine) as statements:
        user = await knox.strategy().read_token(text, knox.user_manager)

    assert user is None
    assert verbs(statements) == ["SELECT"]


async def test_a_digest_is_no_token(knox: Knox, engine: AsyncEngine) -> None:
    """Nobody can log in with what the database holds."""
    token = await knox.strategy().issue(knox.user)
    digest = (await stored(engine))[0].digest

    for text in (digest.hex(), digest.decode("latin-1"), str(token.record.id)):
        assert await knox.strategy().read_token(text, knox.user_manager) is None


async def test_a_read_is_one_statement(knox: Knox, engine: AsyncEngine) -> None:
    """Token and user come together, by one SELECT."""
    token = await knox.strategy().issue(knox.user)

    with sent_to(engine) as statements:
        await knox.strategy().read_token(token, knox.user_manager)
        await knox.strategy().read_record(token)

    assert verbs(statements) == ["SELECT", "SELECT"]
    assert "JOIN" in statements[0]


# the expiry


@pytest.mark.parametrize(("after", "accepted"), [(HOUR - MILLISECOND, True), (HOUR, False), (HOUR + DAY, False)])
async def test_a_token_is_refused_from_its_expiry_on(knox: Knox, after: timedelta, *, accepted: bool) -> None:
    """Expired is `now >= expires_at`, in every kind of read."""
    token = await knox.strategy(KnoxSettings(token_ttl=HOUR)).issue(knox.user)

    knox.clock.now += after

    assert (await knox.strategy().read_record(token) is not None) == accepted
    assert await knox.accepts(token) == accepted
    assert (len(await knox.strategy().list_records(knox.user)) == 1) == accepted
    assert (await knox.strategy().read_token(token, knox.user_manager) is not None) == accepted


async def test_an_expired_token_that_is_presented_is_deleted(knox: Knox, engine: AsyncEngine) -> None:
    """Its record is removed, and no other; a second read finds nothing to remove or to publish."""
    token = await knox.strategy(KnoxSettings(token_ttl=HOUR)).issue(knox.user)
    kept = await knox.strategy(KnoxSettings(token_ttl=HOUR)).issue(knox.user)
    knox.published()
    knox.clock.now += HOUR

    users = [await knox.strategy().read_token(token, knox.user_manager) for _ in range(2)]

    assert users == [None, None]
    assert [row.id for row in await stored(engine)] == [kept.record.id]
    assert knox.published() == [("TokenExpired",)]


async def test_an_expired_token_is_deleted_however_lately_it_was_used(knox: Knox, engine: AsyncEngine) -> None:
    """A client that uses its token to the last does not leave its record behind."""
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
    """A record made under an older, longer setting is refused at its cap, and deleted when it is presented."""
    token = await knox.strategy(made_under).issue(knox.user)
    capped = KnoxSettings(auto_refresh_max_ttl=DAY)

    knox.clock.now = NOW + DAY - MILLISECOND
    assert await knox.accepts(token, capped)
    knox.clock.now = NOW + DAY
    assert await knox.strategy(capped).read_token(token, knox.user_manager) is None
    assert await stored(engine) == []


@pytest.mark.parametrize(("not_before", "accepted"), [(NOW, True), (NOW + MILLISECOND, False), (NOW + DAY, False)])
async def test_the_kill_switch(knox: Knox, engine: AsyncEngine, not_before: datetime, *, accepted: bool) -> None:
    """Tokens of logins before `not_before` are refused; their records stay, as the switch may be set back."""
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
    """At every read, judged by the row just read, whatever the object says that the session already has."""
    token = await knox.strategy().issue(knox.user)
    await change_user(engine, knox.user, is_active=False)

    user = await knox.strategy().read_token(token, knox.user_manager)

    assert knox.user.is_active
    assert user is None
    assert await knox.strategy().read_record(token) is None


async def test_a_user_who_is_activated_again_is_let_in(knox: Knox, engine: AsyncEngine) -> None:
    """A refusal because of the user removes no record."""
    token = await knox.strategy().issue(knox.user)
    await change_user(engine, knox.user, is_active=False)
    await knox.strategy().read_token(token, knox.user_manager)
    await change_user(engine, knox.user, is_active=True)

    assert await knox.strategy().read_token(token, knox.user_manager) is knox.user


async def test_an_inactive_user_s_token_is_not_refreshed(knox: Knox, engine: AsyncEngine) -> None:
    """A refused read is no use."""
    settings = KnoxSettings(token_ttl=HOUR, auto_refresh=True)
    token = await knox.strategy(settings).issue(knox.user)
    await change_user(engine, knox.user, is_active=False)
    rows = await stored(engine)
    knox.clock.now += HOUR / 2

    await knox.strategy(settings).read_token(token, knox.user_manager)

    assert await stored(engine) == rows


async def test_a_deleted_user_is_refused(knox: Knox, engine: AsyncEngine) -> None:
    """Also where the database has left the record, as SQLite does unless foreign keys are switched on."""
    token = await knox.strategy().issue(knox.user)
    async with engine.begin() as connection:
        await connection.execute(delete(User))

    assert len(await stored(engine)) == 1
    assert await knox.strategy().read_token(token, knox.user_manager) is None
    assert await knox.strategy().read_record(token) is None


# audiences


async def test_audiences_keep_apart(knox: Knox) -> None:
    """Of two strategies on one table each reads, lists, limits and ends its own."""
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
