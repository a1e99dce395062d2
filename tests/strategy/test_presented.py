"""Which tokens a login revokes: the tokens presented with the request, and the token of the same device."""

import pytest
from sqlalchemy.ext.asyncio import AsyncEngine

from fastapi_users_knox import CredentialsChanged, KnoxSettings
from tests.models import User
from tests.strategies import MILLISECOND, SECOND, Knox, change_user, flipped, request, stored, unknown_token


def bearing(token: str) -> tuple[str, str]:
    """Return the header with which an API client presents a token."""
    return ("Authorization", f"Bearer {token}")


def with_cookie(token: str) -> tuple[str, str]:
    """Return the Cookie header with which a browser presents a token, among other cookies."""
    return ("Cookie", f"theme=dark; session={token}; x=")


@pytest.mark.parametrize("present", [bearing, with_cookie, lambda token: ("Authorization", f"Token {token}")])
async def test_a_login_revokes_the_token_presented(knox: Knox, present: object) -> None:
    """A login revokes the token presented with the request, so no old session is left behind (ASVS 7.2.4)."""
    assert callable(present)
    old = await knox.strategy().issue(knox.user)
    kept = await knox.strategy().issue(knox.user)

    new = await knox.strategy(request=request(present(old))).issue(knox.user)

    assert [await knox.accepts(token) for token in (old, kept, new)] == [False, True, True]


async def test_all_presented_tokens_are_revoked(knox: Knox) -> None:
    """A login revokes every token presented with it, whether in a header or in one of several cookies."""
    old = [await knox.strategy().issue(knox.user) for _ in range(3)]
    presenting = request(bearing(old[0]), ("Cookie", f"a={old[1]}; b={old[2]}"))

    new = await knox.strategy(request=presenting).issue(knox.user)

    assert await knox.strategy().list_records(knox.user) == [new.record]


async def test_another_user_s_presented_token_stays(knox: Knox, other: User) -> None:
    """A login does not revoke a presented token that belongs to another user."""
    foreign = await knox.strategy().issue(other)

    await knox.strategy(request=request(bearing(foreign))).issue(knox.user)

    assert await knox.accepts(foreign)


async def test_another_audience_s_presented_token_stays(knox: Knox) -> None:
    """A login does not revoke a presented token that belongs to another audience."""
    api = KnoxSettings(audience="api")
    presented = await knox.strategy(api).issue(knox.user)

    await knox.strategy(request=request(bearing(presented))).issue(knox.user)

    assert await knox.accepts(presented, api)


async def test_presented_tokens_may_stay(knox: Knox) -> None:
    """With `end_presented=False` a login does not revoke the token presented with it."""
    old = await knox.strategy().issue(knox.user)

    await knox.strategy(KnoxSettings(end_presented=False), request=request(bearing(old))).issue(knox.user)

    assert await knox.accepts(old)


async def test_presented_junk_changes_nothing(knox: Knox) -> None:
    """A login succeeds and revokes nothing when its headers hold malformed tokens."""
    old = await knox.strategy().issue(knox.user)
    junk = request(bearing(flipped(old)), ("Cookie", f"{'a' * 10_000}; =; ;;; b={flipped(old)}; c=\xff\0"))

    await knox.strategy(request=junk).issue(knox.user)

    assert len(await knox.strategy().list_records(knox.user)) == 2


@pytest.mark.parametrize("name", ["Authorization", "Cookie", "X-Api-Key", "Sec-WebSocket-Protocol"])
async def test_decoys_hide_no_presented_token(knox: Knox, engine: AsyncEngine, name: str) -> None:
    """A live token is revoked in any header, even among a thousand made-up tokens."""
    old = await knox.strategy().issue(knox.user)
    decoys = [f"x={unknown_token(knox.user)}" for _ in range(500)]

    new = await knox.strategy(request=request((name, "; ".join([*decoys, f"y={old}", *decoys])))).issue(knox.user)

    assert await knox.strategy().list_records(knox.user) == [new.record]
    assert len(await stored(engine)) == 1


async def test_a_device_has_one_token(knox: Knox) -> None:
    """A login from a device replaces the token of that device and no other."""
    phone = request(("X-Device-Id", "phone"))
    old = await knox.strategy(request=phone).issue(knox.user)
    tablet = await knox.strategy(request=request(("X-Device-Id", "tablet"))).issue(knox.user)

    new = await knox.strategy(request=phone).issue(knox.user)

    assert [await knox.accepts(token) for token in (old, tablet, new)] == [False, True, True]


async def test_replace_false_revokes_nothing(knox: Knox) -> None:
    """With `replace=False`, the presented token and the device's token stay, even at the device's next login."""
    on_phone = (("X-Device-Id", "phone"),)
    session = await knox.strategy(request=request(*on_phone)).issue(knox.user)

    machine = await knox.strategy(request=request(bearing(session), *on_phone)).issue(knox.user, replace=False)

    assert [await knox.accepts(token) for token in (session, machine)] == [True, True]
    await knox.strategy(request=request(*on_phone)).issue(knox.user)
    assert [await knox.accepts(token) for token in (session, machine)] == [False, True]


async def test_a_failed_login_removes_nothing(knox: Knox, engine: AsyncEngine) -> None:
    """A failed login removes neither the token presented with it nor expired records."""
    old = await knox.strategy().issue(knox.user)
    await knox.strategy().issue(knox.user, token_ttl=MILLISECOND)
    await change_user(engine, knox.user, hashed_password="new")
    knox.clock.now += SECOND

    with pytest.raises(CredentialsChanged):
        await knox.strategy(request=request(bearing(old))).issue(knox.user)

    assert len(await stored(engine)) == 2
