"""Rotating, revoking, listing and purging tokens."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any
from uuid import uuid4

import pytest
from sqlalchemy.ext.asyncio import AsyncEngine

from fastapi_users_knox import InvalidToken, KnoxSettings
from tests.models import User
from tests.strategies import (
    DAY,
    HOUR,
    MILLISECOND,
    MINUTE,
    NOW,
    SECOND,
    Knox,
    Strategy,
    change_user,
    flipped,
    sent_to,
    stored,
    unknown_token,
)

SETTINGS = KnoxSettings(token_ttl=HOUR)
API = KnoxSettings(token_ttl=HOUR, audience="api")


# texts that are not a live token of this user


async def junk(knox: Knox, _other: User) -> str:
    """Return a malformed token."""
    return flipped(await knox.strategy(SETTINGS).issue(knox.user))


async def empty(_knox: Knox, _other: User) -> str:
    """Return an empty text."""
    return ""


async def unknown(knox: Knox, _other: User) -> str:
    """Return a well-formed token that was never issued."""
    return unknown_token(knox.user)


async def foreign(knox: Knox, other: User) -> str:
    """Return another user's token."""
    return await knox.strategy(SETTINGS).issue(other)


async def of_another_audience(knox: Knox, _other: User) -> str:
    """Return a token of another audience."""
    return await knox.strategy(API).issue(knox.user)


async def expired(knox: Knox, _other: User) -> str:
    """Return a token that expires before the call."""
    return await knox.strategy(SETTINGS).issue(knox.user, token_ttl=MILLISECOND)


async def ended(knox: Knox, _other: User) -> str:
    """Return a token that was logged out."""
    token = await knox.strategy(SETTINGS).issue(knox.user)
    await knox.strategy(SETTINGS).destroy_token(token, knox.user)
    return token


async def rotated(knox: Knox, _other: User) -> str:
    """Return the text that a rotation has replaced."""
    token = await knox.strategy(SETTINGS).issue(knox.user)
    await knox.strategy(SETTINGS).rotate_token(token, knox.user)
    return token


CALLS: dict[str, Callable[[Strategy, str, User], Awaitable[Any]]] = {
    "destroy_token": lambda strategy, token, user: strategy.destroy_token(token, user),
    "rotate_token": lambda strategy, token, user: strategy.rotate_token(token, user),
    "reauthenticate": lambda strategy, token, user: strategy.reauthenticate(token, user),
    "logout_all keep": lambda strategy, token, user: strategy.logout_all(user, keep=token),
}


@pytest.mark.parametrize("make", [junk, empty, unknown, foreign, of_another_audience, expired, ended, rotated])
@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS.keys())
async def test_no_live_token_of_this_user_is_an_error(
    knox: Knox,
    engine: AsyncEngine,
    other: User,
    call: Callable[[Strategy, str, User], Awaitable[Any]],
    make: Callable[[Knox, User], Awaitable[str]],
) -> None:
    """Revoking, rotating or keeping anything but the user's live token raises the same error and changes nothing."""
    await knox.strategy(SETTINGS).issue(knox.user)
    token = await make(knox, other)
    knox.clock.now += SECOND
    rows = await stored(engine)
    knox.published()

    with pytest.raises(InvalidToken, match=r"^401: Unauthorized$"):
        await call(knox.strategy(SETTINGS), token, knox.user)

    assert await stored(engine) == rows
    assert knox.published() == []


# rotating


async def test_a_rotation_swaps_the_text_alone(knox: Knox) -> None:
    """A rotation replaces only the text: id, creation and expiry stay, so it does not prolong the session."""
    old = await knox.strategy(SETTINGS).issue(knox.user)
    knox.clock.now += HOUR / 2

    new = await knox.strategy(SETTINGS).rotate_token(old, knox.user)

    assert new.startswith("knox_")
    assert (new.record, new.user) == (old.record, knox.user)
    assert (new.issued_at, new.expires_in) == (NOW + HOUR / 2, 1800)
    assert [await knox.accepts(token) for token in (old, new)] == [False, True]
    assert await knox.strategy(SETTINGS).list_records(knox.user) == [old.record]


async def test_a_token_rotates_again_and_again(knox: Knox) -> None:
    """After several rotations only the latest text is accepted."""
    texts = [await knox.strategy(SETTINGS).issue(knox.user)]
    for _ in range(3):
        texts.append(await knox.strategy(SETTINGS).rotate_token(texts[-1], knox.user))

    assert [await knox.accepts(text) for text in texts] == [False, False, False, True]


async def test_an_inactive_user_s_token_is_not_rotated(knox: Knox, engine: AsyncEngine) -> None:
    """An inactive user cannot rotate a token."""
    token = await knox.strategy(SETTINGS).issue(knox.user)
    await change_user(engine, knox.user, is_active=False)

    with pytest.raises(InvalidToken):
        await knox.strategy(SETTINGS).rotate_token(token, knox.user)


# revoking


async def test_a_logout_revokes_one_token(knox: Knox) -> None:
    """Logging out revokes the presented token and no other token."""
    token, kept = [await knox.strategy(SETTINGS).issue(knox.user) for _ in range(2)]

    await knox.strategy(SETTINGS).destroy_token(token, knox.user)

    assert [await knox.accepts(text) for text in (token, kept)] == [False, True]


async def test_a_record_is_revoked_by_its_id(knox: Knox, other: User) -> None:
    """`revoke` returns whether it revoked a live session of this user."""
    strategy = knox.strategy(SETTINGS)
    token, kept = await strategy.issue(knox.user), await strategy.issue(other)
    brief = await strategy.issue(knox.user, token_ttl=MILLISECOND)
    knox.clock.now += SECOND

    ids = (token.record.id, token.record.id, kept.record.id, brief.record.id, uuid4())
    revoked = [await strategy.revoke(knox.user, record_id) for record_id in ids]

    assert revoked == [True, False, False, False, False]
    assert [await knox.accepts(text) for text in (token, kept)] == [False, True]


async def test_a_record_of_another_audience_is_revoked_by_its_id(knox: Knox) -> None:
    """`revoke` looks in the strategy's own audience, unless another audience is passed."""
    strategy = knox.strategy(SETTINGS)
    token = await knox.strategy(API).issue(knox.user)

    own = await strategy.revoke(knox.user, token.record.id)
    other = await strategy.revoke(knox.user, token.record.id, audience="api")

    assert (own, other) == (False, True)
    assert not await knox.accepts(token, API)


async def test_the_time_is_that_of_the_clock(knox: Knox) -> None:
    """`now` returns the time by the strategy's clock."""
    assert knox.strategy().now() == knox.clock.now


async def test_a_logout_all_revokes_all_tokens(knox: Knox, other: User) -> None:
    """`logout_all` revokes all of the user's tokens of this audience and returns how many were live."""
    strategy = knox.strategy(SETTINGS)
    issued = [await strategy.issue(knox.user) for _ in range(3)]
    await strategy.issue(knox.user, token_ttl=MILLISECOND)
    spared = await strategy.issue(other)
    beside = await knox.strategy(API).issue(knox.user)
    knox.clock.now += SECOND

    count = await strategy.logout_all(knox.user)

    assert count == 3
    assert not any([await knox.accepts(token) for token in issued])
    assert await knox.accepts(spared)
    assert await knox.accepts(beside, API)
    assert await strategy.logout_all(knox.user) == 0


async def test_a_logout_all_may_keep_one(knox: Knox) -> None:
    """`logout_all(keep=token)` keeps that token, which may have been rotated before."""
    strategy = knox.strategy(SETTINGS)
    gone, old = [await strategy.issue(knox.user) for _ in range(2)]
    kept = await strategy.rotate_token(old, knox.user)

    count = await strategy.logout_all(knox.user, keep=kept)

    assert count == 1
    assert [await knox.accepts(token) for token in (gone, kept)] == [False, True]


async def test_a_token_issued_after_a_logout_all_is_accepted(knox: Knox) -> None:
    """A token issued after a logout-all is accepted."""
    strategy = knox.strategy(SETTINGS)
    await strategy.logout_all(knox.user)

    assert await knox.accepts(await strategy.issue(knox.user))


# listing and purging


async def test_live_records_are_listed_newest_first(knox: Knox, other: User) -> None:
    """`list_records` returns the live records of this user and audience, newest first."""
    strategy = knox.strategy(SETTINGS)
    issued = []
    for _ in range(3):
        knox.clock.now += SECOND
        issued.append(await strategy.issue(knox.user))
    await strategy.issue(knox.user, token_ttl=MILLISECOND)
    await strategy.issue(other)
    await knox.strategy(API).issue(knox.user)
    knox.clock.now += SECOND

    assert await strategy.list_records(knox.user) == [token.record for token in reversed(issued)]


async def test_a_purge_deletes_what_has_expired(knox: Knox, engine: AsyncEngine, other: User) -> None:
    """A purge deletes the expired records of all users and audiences, and this audience's records past its cap."""
    for user in (knox.user, other):
        await knox.strategy(SETTINGS).issue(user)
        await knox.strategy(API).issue(user)
        await knox.strategy(SETTINGS).issue(user, token_ttl=None)
        await knox.strategy(API).issue(user, token_ttl=None)
    knox.clock.now += DAY
    capped = KnoxSettings(token_ttl=HOUR, auto_refresh_max_ttl=DAY)

    purged = await knox.strategy(capped).purge(batch_size=2)

    assert purged == 6
    assert [(row.audience, row.expires_at) for row in await stored(engine)] == [("api", None)] * 2
    assert await knox.strategy(capped).purge() == 0


async def test_a_purge_spares_what_the_kill_switch_refuses(knox: Knox, engine: AsyncEngine) -> None:
    """A purge keeps records from before `not_before`, because the setting may be withdrawn."""
    await knox.strategy(SETTINGS).issue(knox.user)

    purged = await knox.strategy(KnoxSettings(not_before=NOW + MINUTE)).purge()

    assert purged == 0
    assert len(await stored(engine)) == 1


@pytest.mark.parametrize("batch_size", [0, -1, 10_001])
async def test_an_invalid_batch_size_is_refused(knox: Knox, batch_size: int) -> None:
    """An invalid `batch_size` raises a ValueError instead of looping for ever."""
    async with asyncio.timeout(60):
        with pytest.raises(ValueError, match="batch_size"):
            await knox.strategy(SETTINGS).purge(batch_size=batch_size)


# numbers of statements


@pytest.mark.parametrize(
    ("call", "most"),
    [
        (lambda strategy, token, user: strategy.destroy_token(token, user), 3),
        (lambda strategy, token, user: strategy.revoke(user, token.record.id), 2),
        (lambda strategy, _token, user: strategy.logout_all(user), 2),
        (lambda strategy, _token, user: strategy.list_records(user), 1),
    ],
    ids=["destroy_token", "revoke", "logout_all", "list_records"],
)
async def test_each_call_is_a_few_statements(knox: Knox, engine: AsyncEngine, call: Any, most: int) -> None:
    """A call sends few statements (BEGIN among them), however many tokens the user has."""
    strategy = knox.strategy(SETTINGS)
    token = [await strategy.issue(knox.user) for _ in range(20)][-1]

    with sent_to(engine) as statements:
        await call(strategy, token, knox.user)

    assert len(statements) <= most
