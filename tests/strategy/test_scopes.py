"""Tokens with scopes: refused unless the caller names scopes, never the ground of another token, and rolled."""

from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy.ext.asyncio import AsyncEngine

from fastapi_users_knox import CredentialsChanged, InsufficientScope, InvalidToken, KnoxSettings
from fastapi_users_knox.transports.presented import CookieToken, note_authenticated
from tests.models import User
from tests.strategies import HOUR, MINUTE, NOW, Knox, change_user, request, stored

READ, WRITE = "reports:read", "reports:write"
API = KnoxSettings(audience="api", token_prefix="knox_pat_", auto_refresh=True)

Accept = Callable[..., Awaitable[object]]


async def authenticate(knox: Knox, token: str, **options: Any) -> object:
    """Call `authenticate`."""
    return await knox.strategy().authenticate(token, knox.user_manager, **options)


async def authenticate_record(knox: Knox, token: str, **options: Any) -> object:
    """Call `authenticate_record`."""
    return await knox.strategy().authenticate_record(token, **options)


async def read_record(knox: Knox, token: str, **options: Any) -> object:
    """Call `read_record`."""
    return await knox.strategy().read_record(token, **options)


each_way = pytest.mark.parametrize("accept", [authenticate, authenticate_record, read_record])


# default deny


@each_way
async def test_a_token_with_scopes_is_refused(knox: Knox, engine: AsyncEngine, accept: Accept) -> None:
    """Unless the caller names scopes, a token with scopes is like junk, and its use is not written."""
    token = await knox.strategy().issue(knox.user, scopes={READ})
    knox.clock.now += HOUR

    assert await accept(knox, token) is None
    assert await knox.strategy().read_token(token, knox.user_manager) is None
    assert [row.last_used_at for row in await stored(engine)] == [None]


async def test_a_record_with_no_scope_at_all_is_refused(knox: Knox) -> None:
    """A record whose set of scopes is empty, which another program may have stored, is no session."""
    token = await knox.strategy().issue(knox.user, scopes={READ})
    await _store_scopes(knox, "")

    assert await knox.strategy().read_token(token, knox.user_manager) is None
    with pytest.raises(InsufficientScope):
        await authenticate(knox, token, scopes=[READ])


async def _store_scopes(knox: Knox, text: str) -> None:
    connection = await knox.session.connection()
    await connection.exec_driver_sql("UPDATE knox_token SET scopes = ?", (text,))
    await knox.session.commit()


@each_way
@pytest.mark.parametrize("needed", [[READ], [READ, WRITE]])
async def test_a_token_with_the_scopes_is_accepted(knox: Knox, accept: Accept, needed: list[str]) -> None:
    """A token that has all scopes that the caller names is accepted."""
    token = await knox.strategy().issue(knox.user, scopes={READ, WRITE})

    assert await accept(knox, token, scopes=needed) is not None


@each_way
async def test_a_token_without_the_scopes_is_refused_aloud(knox: Knox, engine: AsyncEngine, accept: Accept) -> None:
    """A token that lacks one of the scopes raises an error that names all of them, and its use is not written."""
    token = await knox.strategy().issue(knox.user, scopes={READ})
    knox.clock.now += HOUR

    with pytest.raises(InsufficientScope) as refused:
        await accept(knox, token, scopes=[WRITE, READ])

    assert refused.value.scopes == {READ, WRITE}
    assert refused.value.headers == {"WWW-Authenticate": f'Bearer error="insufficient_scope", scope="{READ} {WRITE}"'}
    assert [row.last_used_at for row in await stored(engine)] == [None]


@each_way
async def test_a_session_needs_no_scopes(knox: Knox, accept: Accept) -> None:
    """A session may do all that its user may, whatever scopes the caller names."""
    token = await knox.strategy().issue(knox.user)

    assert await accept(knox, token, scopes=[READ]) is not None


@each_way
async def test_a_refused_user_has_no_scopes(knox: Knox, accept: Accept) -> None:
    """The token of an inactive user is refused like junk, even if it lacks a scope."""
    token = await knox.strategy().issue(knox.user, scopes={READ})
    knox.user.is_active = False
    await knox.session.commit()

    assert await accept(knox, token, scopes=[WRITE]) is None


async def test_a_refused_token_presents_nothing(knox: Knox) -> None:
    """A token that is refused because of its scopes is not the presented token, which a password change would keep."""
    token = await knox.strategy().issue(knox.user, scopes={READ})
    strategy = knox.strategy(request=request(("Authorization", f"Bearer {token}")))

    assert await strategy.read_token(token, knox.user_manager) is None
    assert strategy.presented_record(knox.user) is None


async def test_a_token_with_scopes_hides_no_session(knox: Knox) -> None:
    """If a cookie was sent twice, the session in it is found, although the token with scopes is newer."""
    session = await knox.strategy().issue(knox.user)
    knox.clock.now += MINUTE
    scoped = await knox.strategy().issue(knox.user, scopes={READ})

    found = await knox.strategy().authenticate(CookieToken(scoped, session), knox.user_manager)

    assert found is not None
    assert found[1].id == session.record.id


@pytest.mark.parametrize(
    "act",
    [
        lambda strategy, token, user: strategy.rotate_token(token, user),
        lambda strategy, token, user: strategy.reauthenticate(token, user),
    ],
    ids=["rotate", "reauthenticate"],
)
async def test_what_acts_on_a_session_finds_it_too(knox: Knox, act: Any) -> None:
    """If a cookie was sent twice, the session gets the new text, although the token with scopes is newer."""
    session = await knox.strategy().issue(knox.user)
    knox.clock.now += MINUTE
    scoped = await knox.strategy().issue(knox.user, scopes={READ})

    new = await act(knox.strategy(), CookieToken(scoped, session), knox.user)

    assert new.record.id == session.record.id
    assert await knox.strategy().read_record(scoped, scopes=[READ]) is not None


# issuing


@pytest.mark.parametrize("scopes", [[], ["two words"], ["a" * 1025], "text"])
async def test_invalid_scopes_store_nothing(knox: Knox, engine: AsyncEngine, scopes: Any) -> None:
    """Scopes that are not valid are refused before anything is stored."""
    with pytest.raises((ValueError, TypeError)):
        await knox.strategy().issue(knox.user, scopes=scopes)

    assert await stored(engine) == []


async def test_data_too_long_stores_nothing(knox: Knox, engine: AsyncEngine) -> None:
    """Data of more than 4 KB is refused before anything is stored."""
    with pytest.raises(ValueError, match="at most 4096 bytes"):
        await knox.strategy().issue(knox.user, data={"k": "x" * 4096})

    assert await stored(engine) == []


async def test_a_token_with_scopes_issues_nothing(knox: Knox, engine: AsyncEngine) -> None:
    """A token with scopes authorizes no other token, neither a session nor one with the same scopes."""
    scoped = await knox.strategy().issue(knox.user, scopes={READ})

    for scopes in (None, {READ}):
        with pytest.raises(InvalidToken):
            await knox.strategy(API).issue(knox.user, by=scoped.record, scopes=scopes)

    assert len(await stored(engine)) == 1


async def test_a_request_with_a_token_with_scopes_is_no_login(knox: Knox, engine: AsyncEngine, other: User) -> None:
    """Once a request is authenticated by a token with scopes, it issues nothing for that user without a session."""
    token = await knox.strategy().issue(knox.user, scopes={READ})
    strategy = knox.strategy(request=request(("Authorization", f"Bearer {token}")))
    await strategy.authenticate(token, knox.user_manager, scopes=[READ])
    note_authenticated(strategy._context.connection, None)  # noqa: SLF001 (as an optional dependency does)

    with pytest.raises(InvalidToken):
        await strategy.write_token(knox.user)
    with pytest.raises(InvalidToken):
        await strategy.issue(knox.user, scopes={READ})

    assert len(await stored(engine)) == 1
    assert await strategy.issue(other)


@pytest.mark.parametrize("scopes", [[], (), "", iter(()), filter(None, [])])
async def test_no_scopes_accept_sessions_only(knox: Knox, scopes: Any) -> None:
    """However a caller writes that it needs no scopes, a token with scopes is refused."""
    token = await knox.strategy().issue(knox.user, scopes={READ})

    assert await knox.strategy().authenticate(token, knox.user_manager, scopes=scopes) is None


@pytest.mark.parametrize("scopes", [READ, [None], ['a", error="'], ["ä"]])
async def test_needed_scopes_are_checked(knox: Knox, scopes: Any) -> None:
    """A needed scope that is not valid is an error, because it would be part of a response header."""
    token = await knox.strategy().issue(knox.user, scopes={READ})

    with pytest.raises((TypeError, ValueError)):
        await knox.strategy().authenticate(token, knox.user_manager, scopes=scopes)


async def test_a_rotation_keeps_scopes_and_prefix(knox: Knox) -> None:
    """Rotation keeps the scopes, and the new text has the prefix of the old one, whatever the setting is now."""
    token = await knox.strategy(API).issue(knox.user, scopes={READ})

    rotated = await knox.strategy(API.model_copy(update={"token_prefix": "new_"})).rotate_token(token, knox.user)

    assert rotated.record.scopes == frozenset({READ})
    assert rotated.startswith("knox_pat_")


# rolling


async def test_a_token_is_rolled(knox: Knox) -> None:
    """The successor has the name, scopes and data, and a new id; both texts are accepted until the overlap is over."""
    session = await knox.strategy().issue(knox.user)
    api = knox.strategy(API)
    old = await api.issue(knox.user, by=session.record, name="cron", scopes={READ}, data={"host": "a"}, replace=False)
    knox.clock.now += HOUR

    new = await api.roll_token(old.record, knox.user, by=session.record, overlap=MINUTE)

    record = new.record
    assert (record.name, record.scopes, record.data) == ("cron", frozenset({READ}), {"host": "a"})
    assert record.id != old.record.id
    assert (record.created_at, record.authenticated_at) == (NOW + HOUR, NOW)
    assert [await _may_read(knox, token) for token in (old, new)] == [True, True]
    knox.clock.now += MINUTE
    assert [await _may_read(knox, token) for token in (old, new)] == [False, True]


async def _may_read(knox: Knox, token: str) -> bool:
    return await knox.strategy(API).authenticate(token, knox.user_manager, scopes=[READ]) is not None


async def test_a_rolled_token_is_not_refreshed(knox: Knox) -> None:
    """Use does not extend the overlap, although `auto_refresh` is on."""
    session = await knox.strategy().issue(knox.user)
    old = await knox.strategy(API).issue(knox.user, by=session.record, scopes={READ}, replace=False)
    await knox.strategy(API).roll_token(old.record, knox.user, by=session.record, overlap=HOUR)

    knox.clock.now += HOUR / 2
    accepted = [await _may_read(knox, old)]
    knox.clock.now += HOUR / 2
    accepted.append(await _may_read(knox, old))

    assert accepted == [True, False]


async def test_a_roll_without_overlap_revokes(knox: Knox) -> None:
    """Without an overlap the old token is revoked at once, and an event says that it was replaced."""
    session = await knox.strategy().issue(knox.user)
    old = await knox.strategy(API).issue(knox.user, by=session.record, scopes={READ}, replace=False)
    knox.published()

    await knox.strategy(API).roll_token(old.record, knox.user, by=session.record, overlap=timedelta(0))

    assert not await _may_read(knox, old)
    assert knox.published() == [("TokenRevoked", "replaced"), ("TokenIssued",)]


async def test_a_session_is_not_rolled(knox: Knox) -> None:
    """A session cannot take over another one of its user, with its data, by a roll."""
    session, other = await knox.strategy().issue(knox.user), await knox.strategy().issue(knox.user, replace=False)

    with pytest.raises(InvalidToken):
        await knox.strategy().roll_token(other.record, knox.user, by=session.record, overlap=MINUTE)

    assert {record.id for record in await knox.strategy().list_records(knox.user)} == {
        session.record.id,
        other.record.id,
    }


@pytest.mark.parametrize(("issued", "rolled"), [(MINUTE, MINUTE), (None, None), (..., API.token_ttl)])
async def test_a_successor_lives_as_long(knox: Knox, issued: Any, rolled: timedelta | None) -> None:
    """By default, the successor has the lifetime of the old token."""
    session, api = await knox.strategy().issue(knox.user), knox.strategy(API)
    old = await api.issue(knox.user, by=session.record, scopes={READ}, token_ttl=issued, replace=False)

    new = await api.roll_token(old.record, knox.user, by=session.record, overlap=timedelta(0))

    assert new.record.expires_at == (None if rolled is None else NOW + rolled)


async def test_a_user_who_has_changed_rolls_nothing(knox: Knox, engine: AsyncEngine) -> None:
    """If the password has changed since the user was loaded, the old token stays as it is."""
    session, api = await knox.strategy().issue(knox.user), knox.strategy(API)
    old = await api.issue(knox.user, by=session.record, scopes={READ}, replace=False)
    await change_user(engine, knox.user, hashed_password="another hash")

    with pytest.raises(CredentialsChanged):
        await api.roll_token(old.record, knox.user, by=session.record, overlap=timedelta(0))

    assert await api.list_records(knox.user) == [old.record]


async def test_a_roll_needs_both_records(knox: Knox, other: User) -> None:
    """A roll is refused if the session was revoked, the token was already rolled, or either belongs to another user."""
    session, api = await knox.strategy().issue(knox.user), knox.strategy(API)
    old = (await api.issue(knox.user, by=session.record, scopes={READ}, replace=False)).record
    foreign = (await knox.strategy().issue(other)).record
    await api.roll_token(old, knox.user, by=session.record, overlap=MINUTE)

    for record, by in ((old, session.record), (old, foreign), (foreign, session.record), (session.record, old)):
        with pytest.raises(InvalidToken):
            await api.roll_token(record, knox.user, by=by, overlap=MINUTE)
    [newest, _] = await api.list_records(knox.user)
    await knox.strategy().logout_all(knox.user)
    with pytest.raises(InvalidToken):
        await api.roll_token(newest, knox.user, by=session.record, overlap=MINUTE)

    assert len(await api.list_records(knox.user)) == 2
