"""Re-authentication through the strategy: it moves `authenticated_at`, and replaces the text and maybe the data."""

from collections.abc import Mapping
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import delete
from sqlalchemy.ext.asyncio import AsyncEngine

from fastapi_users_knox import (
    CredentialsChanged,
    InvalidToken,
    IssuedToken,
    KnoxSettings,
    KnoxStrategy,
    TokenReauthenticated,
)
from tests.models import KnoxToken, User, store_on
from tests.strategies import HOUR, NOW, Knox, change_user, request, stored

API = KnoxSettings(audience="api")
REFRESHING = KnoxSettings(auto_refresh=True, auto_refresh_max_ttl=timedelta(days=1))
FREE = {"plan": "free"}


@pytest.fixture
async def session_token(knox: Knox) -> IssuedToken:
    """Issue a token an hour before the test."""
    token = await knox.strategy(REFRESHING).issue(knox.user, name="laptop", data=FREE)
    knox.clock.now += HOUR
    knox.events.clear()
    return token


async def test_only_the_proof_and_the_text_change(knox: Knox, session_token: IssuedToken) -> None:
    """The record gets a new `authenticated_at` and a new text, and keeps everything else."""
    new = await knox.strategy().reauthenticate(session_token, knox.user)

    expected = replace(session_token.record, authenticated_at=NOW + HOUR)
    assert new.startswith("knox_")
    assert (new.record, new.user) == (expected, knox.user)
    assert (new.issued_at, new.expires_in) == (NOW + HOUR, 9 * 3600)
    assert await knox.strategy().list_records(knox.user) == [expected]
    assert [await knox.accepts(text) for text in (session_token, new)] == [False, True]


async def test_the_text_keeps_its_prefix(knox: Knox) -> None:
    """The new text has the prefix of the old one, which need not be the one of the settings."""
    token = await knox.strategy(KnoxSettings(token_prefix="shop_")).issue(knox.user)

    new = await knox.strategy().reauthenticate(token, knox.user)

    assert new.startswith("shop_")


async def test_it_is_published_with_the_new_record(knox: Knox, session_token: IssuedToken) -> None:
    """The event has the record as it is now, and the request."""
    connection = request(("User-Agent", "curl/8"))

    new = await knox.strategy(request=connection).reauthenticate(session_token, knox.user)

    [event] = knox.events
    assert isinstance(event, TokenReauthenticated)
    assert (event.user_id, event.record, event.request) == (knox.user.id, new.record, connection)
    assert event.client.user_agent == "curl/8"
    assert new not in repr(event)


@pytest.mark.parametrize(
    ("data", "expected"), [(None, FREE), ({}, {}), ({"factors": ["passkey"]}, {"factors": ["passkey"]})]
)
async def test_the_data_may_be_replaced(
    knox: Knox, session_token: IssuedToken, data: Mapping[str, Any] | None, expected: Mapping[str, Any]
) -> None:
    """`data=` replaces the whole data of the record, and `None` keeps it."""
    new = await knox.strategy().reauthenticate(session_token, knox.user, data=data)

    [record] = await knox.strategy().list_records(knox.user)
    assert new.record.data == record.data == expected


@pytest.mark.parametrize("data", [["factors"], {"factors": {"passkey"}}, {"factors": "x" * 5000}])
async def test_data_that_is_not_valid_changes_nothing(
    knox: Knox, session_token: IssuedToken, engine: AsyncEngine, data: Any
) -> None:
    """Data that is no JSON object of at most 4 KB raises an error, and the old text stays valid."""
    before = await stored(engine)

    with pytest.raises(ValueError, match="data must"):
        await knox.strategy().reauthenticate(session_token, knox.user, data=data)

    assert await stored(engine) == before
    assert await knox.accepts(session_token)


# how long a session counts as recent


async def test_a_session_is_fresh_again(knox: Knox, session_token: IssuedToken) -> None:
    """`is_fresh` counts from the re-authentication, and a later rotation keeps that."""
    strategy = knox.strategy()
    new = await strategy.reauthenticate(session_token, knox.user)
    knox.clock.now += HOUR / 2
    rotated = await strategy.rotate_token(new, knox.user)

    record = await strategy.read_record(rotated)
    assert record is not None
    assert not strategy.is_fresh(session_token.record, HOUR)
    assert strategy.is_fresh(record, HOUR / 2)
    assert not strategy.is_fresh(record, HOUR / 2 - timedelta(milliseconds=1))


async def test_tokens_of_a_session_inherit_the_last_proof(knox: Knox, session_token: IssuedToken) -> None:
    """A token issued `by=` the session inherits its last proof; a token that was issued before keeps the earlier."""
    early = await knox.strategy(API).issue(knox.user, by=session_token.record, replace=False)
    new = await knox.strategy().reauthenticate(session_token, knox.user)

    late = await knox.strategy(API).issue(knox.user, by=new.record, replace=False)

    read = [await knox.strategy(API).read_record(token) for token in (early, late)]
    assert [record and record.authenticated_at for record in read] == [NOW, NOW + HOUR]


async def test_the_cap_stays(knox: Knox, session_token: IssuedToken) -> None:
    """A re-authentication does not move the cap of the refreshes, which counts from `created_at`."""
    new, strategy = session_token, knox.strategy(REFRESHING)
    for _ in range(4):
        knox.clock.now += 5 * HOUR
        await strategy.read_token(new, knox.user_manager)
        new = await strategy.reauthenticate(new, knox.user)
    assert new.record.expires_at == NOW + timedelta(days=1)
    knox.clock.now = NOW + timedelta(days=1)

    assert not await knox.accepts(new, REFRESHING)


async def test_the_kill_switch_stays(knox: Knox, session_token: IssuedToken) -> None:
    """A session from before `not_before` stays refused, however late it was re-authenticated."""
    new = await knox.strategy().reauthenticate(session_token, knox.user)

    assert not await knox.accepts(new, KnoxSettings(not_before=NOW + HOUR / 2))


# who may re-authenticate


async def test_a_token_with_scopes_cannot(knox: Knox, engine: AsyncEngine) -> None:
    """A token with scopes is no session, so it cannot be made fresh."""
    token = await knox.strategy().issue(knox.user, scopes={"reports:read"})
    before = await stored(engine)

    with pytest.raises(InvalidToken):
        await knox.strategy().reauthenticate(token, knox.user)

    assert await stored(engine) == before


@pytest.mark.parametrize("is_loaded", [True, False])
async def test_an_inactive_user_cannot(
    knox: Knox, session_token: IssuedToken, engine: AsyncEngine, *, is_loaded: bool
) -> None:
    """An inactive user gets the error of wrong credentials, whether or not the loaded user knows it already."""
    await change_user(engine, knox.user, is_active=False)
    if is_loaded:
        await knox.session.refresh(knox.user)
    before = await stored(engine)

    with pytest.raises(CredentialsChanged):
        await knox.strategy().reauthenticate(session_token, knox.user)

    assert await stored(engine) == before


async def test_a_user_whose_password_has_changed_cannot(
    knox: Knox, session_token: IssuedToken, engine: AsyncEngine
) -> None:
    """If the password has changed since the user was loaded, nothing changes, because the proof is outdated."""
    await change_user(engine, knox.user, hashed_password="another hash")
    before = await stored(engine)

    with pytest.raises(CredentialsChanged):
        await knox.strategy().reauthenticate(session_token, knox.user)

    assert await stored(engine) == before
    assert await knox.accepts(session_token)
    assert knox.published() == []


async def test_a_deleted_user_cannot(knox: Knox, session_token: IssuedToken, engine: AsyncEngine) -> None:
    """If the user has been deleted, the tokens are gone too."""
    async with engine.begin() as connection:
        await connection.execute(delete(KnoxToken))
        await connection.execute(delete(User))

    with pytest.raises(InvalidToken):
        await knox.strategy().reauthenticate(session_token, knox.user)

    assert knox.published() == []


async def test_a_script_may_do_it(knox: Knox, session_token: IssuedToken) -> None:
    """Without a request, a re-authentication works too."""
    strategy = KnoxStrategy(store_on(knox.session), request=None, clock=knox.clock)

    assert (await strategy.reauthenticate(session_token, knox.user)).record.authenticated_at == NOW + HOUR
