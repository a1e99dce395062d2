"""Tokens issued with `issue(by=record)`: they require a live record and inherit its `authenticated_at`."""

import uuid
from dataclasses import replace

import pytest
from sqlalchemy.ext.asyncio import AsyncEngine

from fastapi_users_knox import CredentialsChanged, InvalidToken, KnoxError, KnoxSettings, KnoxStrategy
from fastapi_users_knox.sqlalchemy import SQLAlchemyTokenStore
from tests.models import KnoxToken, User
from tests.strategies import DEFAULTS, HOUR, MINUTE, SECOND, Knox, change_user, request, stored

API = KnoxSettings(audience="api")


async def test_a_token_is_issued_on_the_strength_of_a_session(knox: Knox) -> None:
    """Issuing a token on the authority of a live session works, and the session stays live."""
    session = await knox.strategy().issue(knox.user)

    token = await knox.strategy(API).issue(knox.user, by=session.record, replace=False)

    assert await knox.accepts(token, API)
    assert await knox.accepts(session)


@pytest.mark.parametrize("settings", [DEFAULTS, API])
async def test_none_is_issued_by_a_revoked_session(knox: Knox, engine: AsyncEngine, settings: KnoxSettings) -> None:
    """No token is issued by a session that a logout-all has revoked in the meantime."""
    session = await knox.strategy().issue(knox.user)
    await knox.strategy().logout_all(knox.user)

    with pytest.raises(InvalidToken):
        await knox.strategy(settings).issue(knox.user, by=session.record)

    assert await stored(engine) == []


async def test_none_is_issued_by_an_expired_session(knox: Knox) -> None:
    """No token is issued by a session that has expired in the meantime."""
    session = await knox.strategy().issue(knox.user, token_ttl=SECOND)
    knox.clock.now += SECOND

    with pytest.raises(InvalidToken):
        await knox.strategy(API).issue(knox.user, by=session.record)


async def test_none_is_issued_by_a_session_from_before_the_kill_switch(knox: Knox) -> None:
    """No token is issued by a session from before `not_before`."""
    session = await knox.strategy().issue(knox.user)
    knox.clock.now += HOUR
    settings = KnoxSettings(not_before=knox.clock.now)

    with pytest.raises(InvalidToken):
        await knox.strategy(settings).issue(knox.user, by=session.record)


async def test_none_is_issued_by_another_user_s_session(knox: Knox, other: User) -> None:
    """No token is issued on the authority of another user's session, even if the passed record names this user."""
    foreign = await knox.strategy().issue(other)

    with pytest.raises(InvalidToken):
        await knox.strategy().issue(knox.user, by=foreign.record)
    with pytest.raises(InvalidToken):
        await knox.strategy().issue(knox.user, by=replace(foreign.record, user_id=knox.user.id))


async def test_the_kill_switch_reaches_what_was_issued_by_a_session(knox: Knox) -> None:
    """A token issued after `not_before` by a session from before it is refused and not listed."""
    session = await knox.strategy().issue(knox.user)
    knox.clock.now += 2 * HOUR
    token = await knox.strategy().issue(knox.user, by=session.record, replace=False)
    later = await knox.strategy().issue(knox.user)
    settings = KnoxSettings(not_before=knox.clock.now - HOUR)

    assert [await knox.accepts(text, settings) for text in (session, token, later)] == [False, False, True]
    assert await knox.strategy(settings).list_records(knox.user) == [later.record]
    with pytest.raises(InvalidToken):
        await knox.strategy(settings).issue(knox.user, by=token.record)


async def test_a_store_that_cannot_lock_the_user_issues_none(knox: Knox) -> None:
    """`issue(by=)` raises over a store without a user table, because it could not exclude a concurrent logout-all."""
    store = SQLAlchemyTokenStore[User, uuid.UUID](knox.session, KnoxToken, users=None)
    strategy = KnoxStrategy(store, request=None, user_db=None, clock=knox.clock)
    session = await strategy.issue(knox.user)

    with pytest.raises(KnoxError, match=r"issue\(by=\) needs a store that sees the users"):
        await strategy.issue(knox.user, by=session.record)


async def test_an_old_login_is_not_made_fresh(knox: Knox) -> None:
    """A token issued by a session inherits its `authenticated_at`, and a rotation keeps it."""
    session = await knox.strategy().issue(knox.user)
    knox.clock.now += HOUR

    token = await knox.strategy(API).issue(knox.user, by=session.record)
    rotated = await knox.strategy(API).rotate_token(token, knox.user)
    last = await knox.strategy(API).issue(knox.user, by=rotated.record)

    record = await knox.strategy(API).read_record(last)
    assert record is not None
    assert (record.authenticated_at, record.created_at) == (session.record.created_at, knox.clock.now)
    assert not knox.strategy(API).is_fresh(record, HOUR - MINUTE)
    assert knox.strategy(API).is_fresh(record, HOUR)


async def test_none_is_issued_for_an_inactive_user(knox: Knox, engine: AsyncEngine) -> None:
    """No token is issued for an inactive user, whether the loaded user or only the stored row says so."""
    session = await knox.strategy().issue(knox.user)
    await change_user(engine, knox.user, is_active=False)
    for by in (..., session.record):
        with pytest.raises(CredentialsChanged):
            await knox.strategy(API).issue(knox.user, by=by)
    await knox.session.refresh(knox.user)

    for by in (..., session.record):
        with pytest.raises(CredentialsChanged):
            await knox.strategy(API).issue(knox.user, by=by)

    assert len(await stored(engine)) == 1


async def test_nobody_authorizes_nothing(knox: Knox, engine: AsyncEngine) -> None:
    """`None`, which `presented_record` returns if no session authenticated the request, is no login."""
    strategy = knox.strategy(request=request())

    with pytest.raises(InvalidToken):
        await strategy.issue(knox.user, by=strategy.presented_record(knox.user))

    assert await stored(engine) == []
