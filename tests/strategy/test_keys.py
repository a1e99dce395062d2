"""Digest keys: they are introduced, changed and withdrawn without logging anybody out early."""

import base64
import uuid

import pytest
from pydantic import SecretStr
from sqlalchemy import insert
from sqlalchemy.ext.asyncio import AsyncEngine

from fastapi_users_knox import InvalidToken, KnoxSettings, tokens
from tests.models import KnoxToken, User
from tests.strategies import DAY, HOUR, MILLISECOND, MINUTE, NOW, Knox, request, stored, unknown_token

OLD, NEW = SecretStr("the old key, of 32 bytes and more"), SecretStr("the new key, of 32 bytes and more")
UNKEYED = KnoxSettings()
ON_OLD = KnoxSettings(digest_keys=(OLD,))
NEW_LAST = KnoxSettings(digest_keys=(OLD, NEW))
NEW_FIRST = KnoxSettings(digest_keys=(NEW, OLD))
ON_NEW = KnoxSettings(digest_keys=(NEW,))
INTRODUCING = KnoxSettings(digest_keys=(OLD,), accept_unkeyed_until=NOW + DAY)


async def digest_in(engine: AsyncEngine) -> bytes:
    """Return the only stored digest."""
    [row] = await stored(engine)
    digest: bytes = row.digest
    return digest


async def test_the_first_key_signs(knox: Knox, engine: AsyncEngine) -> None:
    """The stored digest is the HMAC under the first key, and only that key verifies it."""
    token = await knox.strategy(NEW_FIRST).issue(knox.user)

    assert await digest_in(engine) == tokens.digest(token, key=NEW.get_secret_value().encode())
    assert await knox.accepts(token, ON_NEW)
    assert not await knox.accepts(token, ON_OLD)
    assert not await knox.accepts(token, UNKEYED)


async def insert_copy(engine: AsyncEngine, **values: object) -> None:
    """Insert a copy of the first row with other values, as an attacker who can insert rows would."""
    row = (await stored(engine))[0]._asdict()
    async with engine.begin() as connection:
        await connection.execute(insert(KnoxToken), row | {"id": uuid.uuid4()} | values)


@pytest.mark.parametrize("key", [None, NEW.get_secret_value().encode(), b""], ids=["none", "another", "empty"])
async def test_a_row_that_was_inserted_blindly_is_no_login(knox: Knox, engine: AsyncEngine, key: bytes | None) -> None:
    """With `digest_keys`, an inserted row is not accepted if its digest was computed without the key."""
    forged = unknown_token(knox.user)
    await knox.strategy(ON_OLD).issue(knox.user)

    await insert_copy(engine, digest=tokens.digest(forged, key=key))

    assert len(await stored(engine)) == 2
    assert not await knox.accepts(forged, ON_OLD)


@pytest.mark.parametrize("settings", [UNKEYED, ON_OLD, INTRODUCING], ids=["unkeyed", "keyed", "introducing"])
async def test_a_stolen_table_opens_nothing(knox: Knox, engine: AsyncEngine, settings: KnoxSettings) -> None:
    """A stored digest is not accepted as a token, however it is encoded."""
    await knox.strategy(settings).issue(knox.user)
    digest = await digest_in(engine)

    texts = [digest.hex(), digest.decode("latin-1"), base64.b64encode(digest).decode(), f"knox_{digest.hex()}"]

    assert [await knox.accepts(text, settings) for text in texts] == [False] * 4


async def test_a_copied_digest_gives_access_to_another_user(knox: Knox, other: User, engine: AsyncEngine) -> None:
    """Whoever reads and inserts rows can copy the digest of their own token to another user, despite `digest_keys`."""
    token = await knox.strategy(ON_OLD).issue(knox.user)
    digest = await digest_in(engine)
    await knox.strategy(ON_OLD).destroy_token(token, knox.user)
    await knox.strategy(ON_OLD).issue(knox.user)

    await insert_copy(engine, user_id=other.id, digest=digest)

    found = await knox.strategy(ON_OLD).read_token(token, knox.user_manager)
    assert found is not None
    assert found.id == other.id


@pytest.mark.parametrize("is_used", [True, False])
async def test_a_row_that_was_inserted_while_keys_are_introduced(
    knox: Knox, engine: AsyncEngine, *, is_used: bool
) -> None:
    """Until `accept_unkeyed_until` an inserted plain digest is accepted, and it stays accepted if used by then."""
    forged = unknown_token(knox.user)
    await knox.strategy(INTRODUCING).issue(knox.user)
    await insert_copy(engine, digest=tokens.digest(forged), expires_at=NOW + 30 * DAY)
    assert await knox.accepts(forged, INTRODUCING)

    knox.clock.now += HOUR
    if is_used:
        await knox.strategy(INTRODUCING).read_token(forged, knox.user_manager)
    knox.clock.now += DAY

    assert await knox.accepts(forged, INTRODUCING) == is_used
    assert await knox.accepts(forged, ON_OLD) == is_used


@pytest.mark.parametrize("settings", [NEW_LAST, NEW_FIRST])
async def test_all_keys_verify(knox: Knox, settings: KnoxSettings) -> None:
    """While a key is being changed, servers with either order of keys accept the tokens of all servers."""
    issued = [await knox.strategy(other).issue(knox.user) for other in (ON_OLD, NEW_LAST, NEW_FIRST, ON_NEW)]

    assert [await knox.accepts(token, settings) for token in issued] == [True] * 4


@pytest.mark.parametrize(
    ("before", "during", "after"), [(ON_OLD, NEW_FIRST, ON_NEW), (UNKEYED, INTRODUCING, ON_OLD)], ids=["old", "unkeyed"]
)
async def test_a_use_brings_a_record_under_the_first_key(
    knox: Knox, before: KnoxSettings, during: KnoxSettings, after: KnoxSettings
) -> None:
    """A token used after the interval is re-keyed to the first key, and its expiry does not change."""
    token = await knox.strategy(before).issue(knox.user)
    knox.clock.now += MINUTE + MILLISECOND

    await knox.strategy(during).read_token(token, knox.user_manager)

    [record] = await knox.strategy(after).list_records(knox.user)
    assert await knox.accepts(token, after)
    assert not await knox.accepts(token, before)
    assert (record.id, record.expires_at) == (token.record.id, token.record.expires_at)
    assert knox.published() == [("TokenIssued",)]


@pytest.mark.parametrize("touch", [True, False])
async def test_within_the_interval_no_record_is_re_keyed(knox: Knox, engine: AsyncEngine, *, touch: bool) -> None:
    """A record is not re-keyed within `min_refresh_interval`, nor by a passive read."""
    token = await knox.strategy(ON_OLD).issue(knox.user)
    digest = await digest_in(engine)
    knox.clock.now += MINUTE if touch else HOUR

    await knox.strategy(NEW_FIRST).authenticate(token, knox.user_manager, touch=touch)

    assert await digest_in(engine) == digest


async def test_a_key_that_is_deployed_last_re_keys_nothing(knox: Knox, engine: AsyncEngine) -> None:
    """A key in last place re-keys nothing, so servers that do not have it yet can still verify all tokens."""
    token = await knox.strategy(ON_OLD).issue(knox.user)
    knox.clock.now += HOUR

    await knox.strategy(NEW_LAST).read_token(token, knox.user_manager)

    assert await digest_in(engine) == tokens.digest(token, key=OLD.get_secret_value().encode())


async def test_a_withdrawn_key_is_refused(knox: Knox) -> None:
    """A token stored under a withdrawn key is refused."""
    token = await knox.strategy(ON_OLD).issue(knox.user)

    assert not await knox.accepts(token, ON_NEW)


async def test_unkeyed_records_are_accepted_until_then(knox: Knox) -> None:
    """Unkeyed records are accepted until `accept_unkeyed_until`, and not at all if it is not set."""
    token = await knox.strategy(UNKEYED).issue(knox.user, token_ttl=None)

    assert not await knox.accepts(token, ON_OLD)
    knox.clock.now = NOW + DAY - MILLISECOND
    assert await knox.accepts(token, INTRODUCING)
    knox.clock.now = NOW + DAY
    assert not await knox.accepts(token, INTRODUCING)


async def test_a_rotation_stores_under_the_first_key(knox: Knox, engine: AsyncEngine) -> None:
    """The digest that a rotation stores is made with the first key."""
    old = await knox.strategy(ON_OLD).issue(knox.user)

    new = await knox.strategy(NEW_FIRST).rotate_token(old, knox.user)

    assert await digest_in(engine) == tokens.digest(new, key=NEW.get_secret_value().encode())


@pytest.mark.parametrize("before", [ON_OLD, UNKEYED])
async def test_a_presented_token_is_revoked_under_any_key(
    knox: Knox, engine: AsyncEngine, before: KnoxSettings
) -> None:
    """A login revokes the token presented even if it is stored under a later key or unkeyed."""
    during = KnoxSettings(digest_keys=(NEW, OLD), accept_unkeyed_until=NOW + DAY)
    old = await knox.strategy(before).issue(knox.user)

    await knox.strategy(during, request=request(("Authorization", f"Bearer {old}"))).issue(knox.user)

    assert len(await stored(engine)) == 1


async def test_a_token_under_a_later_key_can_be_logged_out(knox: Knox, engine: AsyncEngine) -> None:
    """Logging out works for a token stored under any current key, and raises for one under a withdrawn key."""
    token = await knox.strategy(ON_OLD).issue(knox.user)

    with pytest.raises(InvalidToken):
        await knox.strategy(ON_NEW).destroy_token(token, knox.user)
    await knox.strategy(NEW_FIRST).destroy_token(token, knox.user)

    assert await stored(engine) == []
