"""What a login ends: the tokens presented with it, and its device's record."""

import pytest
from sqlalchemy.ext.asyncio import AsyncEngine

from fastapi_users_knox import CredentialsChanged, KnoxSettings
from tests.models import User
from tests.strategies import MILLISECOND, SECOND, Knox, change_user, flipped, request, stored, unknown_token


def bearing(token: str) -> tuple[str, str]:
    """Present a token as a client with a header does."""
    return ("Authorization", f"Bearer {token}")


def with_cookie(token: str) -> tuple[str, str]:
    """Present a token as a browser does, beside other cookies."""
    return ("Cookie", f"theme=dark; session={token}; x=")


@pytest.mark.parametrize("present", [bearing, with_cookie, lambda token: ("Authorization", f"Token {token}")])
async def test_a_login_ends_the_token_presented(knox: Knox, present: object) -> None:
    """A new login leaves no old session behind (ASVS 7.2.4)."""
    assert callable(present)
    old = await knox.strategy().issue(knox.user)
    kept = await knox.strategy().issue(knox.user)

    new = await knox.strategy(request=request(present(old))).issue(knox.user)

    assert [await knox.accepts(token) for token in (old, kept, new)] == [False, True, True]


async def test_all_presented_tokens_end(knox: Knox) -> None:
    """A header and several cookies may each hold one."""
    old = [await knox.strategy().issue(knox.user) for _ in range(3)]
    presenting = request(bearing(old[0]), ("Cookie", f"a={old[1]}; b={old[2]}"))

    new = await knox.strategy(request=presenting).issue(knox.user)

    assert await knox.strategy().list_records(knox.user) == [new.record]


async def test_another_user_s_presented_token_stays(knox: Knox, other: User) -> None:
    """A login ends tokens of its own user alone."""
    foreign = await knox.strategy().issue(other)

    await knox.strategy(request=request(bearing(foreign))).issue(knox.user)

    assert await knox.accepts(foreign)


async def test_another_audience_s_presented_token_stays(knox: Knox) -> None:
    """A login ends tokens of its own audience alone."""
    api = KnoxSettings(audience="api")
    presented = await knox.strategy(api).issue(knox.user)

    await knox.strategy(request=request(bearing(presented))).issue(knox.user)

    assert await knox.accepts(presented, api)


async def test_presented_tokens_may_stay(knox: Knox) -> None:
    """With `end_presented=False` the token presented stays."""
    old = await knox.strategy().issue(knox.user)

    await knox.strategy(KnoxSettings(end_presented=False), request=request(bearing(old))).issue(knox.user)

    assert await knox.accepts(old)


async def test_presented_junk_changes_nothing(knox: Knox) -> None:
    """A login succeeds whatever stands in its headers."""
    old = await knox.strategy().issue(knox.user)
    junk = request(bearing(flipped(old)), ("Cookie", f"{'a' * 10_000}; =; ;;; b={flipped(old)}; c=\xff\0"))

    await knox.strategy(request=junk).issue(knox.user)

    assert len(await knox.strategy().list_records(knox.user)) == 2


@pytest.mark.parametrize("name", ["Authorization", "Cookie", "X-Api-Key", "Sec-WebSocket-Protocol"])
async def test_decoys_hide_no_presented_token(knox: Knox, engine: AsyncEngine, name: str) -> None:
    """However many made-up tokens stand before and behind it, and under whichever name, the live one ends."""
    old = await knox.strategy().issue(knox.user)
    decoys = [f"x={unknown_token(knox.user)}" for _ in range(500)]

    new = await knox.strategy(request=request((name, "; ".join([*decoys, f"y={old}", *decoys])))).issue(knox.user)

    assert await knox.strategy().list_records(knox.user) == [new.record]
    assert len(await stored(engine)) == 1


async def test_a_device_has_one_token(knox: Knox) -> None:
    """A login from a device takes the place of that device's record."""
    phone = request(("X-Device-Id", "phone"))
    old = await knox.strategy(request=phone).issue(knox.user)
    tablet = await knox.strategy(request=request(("X-Device-Id", "tablet"))).issue(knox.user)

    new = await knox.strategy(request=phone).issue(knox.user)

    assert [await knox.accepts(token) for token in (old, tablet, new)] == [False, True, True]


async def test_a_machine_s_token_stands_beside(knox: Knox) -> None:
    """With `replace=False` neither the token presented nor the device's ends, now or at the device's next login."""
    on_phone = (("X-Device-Id", "phone"),)
    session = await knox.strategy(request=request(*on_phone)).issue(knox.user)

    machine = await knox.strategy(request=request(bearing(session), *on_phone)).issue(knox.user, replace=False)

    assert [await knox.accepts(token) for token in (session, machine)] == [True, True]
    await knox.strategy(request=request(*on_phone)).issue(knox.user)
    assert [await knox.accepts(token) for token in (session, machine)] == [False, True]


async def test_a_failed_login_ends_nothing(knox: Knox, engine: AsyncEngine) -> None:
    """The token presented with a login that fails stays, as do expired ones."""
    old = await knox.strategy().issue(knox.user)
    await knox.strategy().issue(knox.user, token_ttl=MILLISECOND)
    await change_user(engine, knox.user, hashed_password="new")
    knox.clock.now += SECOND

    with pytest.raises(CredentialsChanged):
        await knox.strategy(request=request(bearing(old))).issue(knox.user)

    assert len(await stored(engine)) == 2
