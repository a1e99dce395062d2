"""The life of a token on every database, with both kinds of session; the details are tested in `tests/strategy`."""

from collections.abc import AsyncIterator

import pytest
from pydantic import SecretStr
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession, async_sessionmaker

from fastapi_users_knox import InvalidToken, KnoxSettings, TokenLimitReached
from tests.backends import MEMORY, SERVERS, SQLITE
from tests.models import User, create_user
from tests.strategies import HOUR, MINUTE, NOW, Knox, change_user, request

# Sessions that expire objects on commit are the harder case, so they run on every database. Sessions that keep them
# run on one database of each kind, and on both drivers of PostgreSQL.
EXPIRING = [(name, True) for name in (*SQLITE, *MEMORY, *SERVERS)]
KEEPING = [(name, False) for name in ("sqlite", "postgresql-asyncpg", "postgresql-psycopg", "mariadb")]
pytestmark = pytest.mark.parametrize(
    ("any_backend", "sessions"),
    EXPIRING + KEEPING,
    ids=[f"{name}-{'expiring' if expires else 'keeping'}" for name, expires in EXPIRING + KEEPING],
    indirect=True,
)

REFRESHING = KnoxSettings(token_ttl=2 * HOUR, auto_refresh=True, auto_refresh_max_ttl=3 * HOUR)


@pytest.fixture
async def knox(sessions: async_sessionmaker[AsyncSession]) -> AsyncIterator[Knox]:
    """Return a helper with a user that the session has already loaded."""
    async with sessions() as session:
        user_id = (await create_user(session)).id
    async with sessions() as session:
        yield Knox(session=session, user=await session.get_one(User, user_id))


async def test_a_token_s_life(knox: Knox) -> None:
    """A token is issued, used, refreshed, rotated and expires at its cap, and each step publishes its event."""
    strategy, manager = knox.strategy(REFRESHING), knox.user_manager
    old = await strategy.write_token(knox.user)
    assert await strategy.read_token(old, manager) is knox.user
    knox.clock.now = NOW + HOUR
    await knox.session.commit()
    user = await strategy.read_token(old, manager)
    assert user is not None
    new = await strategy.rotate_token(old, user)
    assert await strategy.read_token(old, manager) is None

    [record] = await strategy.list_records(user)

    assert record == new.record
    assert (record.expires_at, record.last_used_at) == (NOW + 3 * HOUR, NOW + HOUR)
    knox.clock.now = NOW + 3 * HOUR
    await knox.session.commit()
    assert await strategy.read_token(new, manager) is None
    assert await strategy.list_records(user) == []
    assert knox.published() == [("TokenIssued",), ("TokenRefreshed",), ("TokenRotated",), ("TokenExpired",)]


async def test_a_user_s_tokens(knox: Knox) -> None:
    """A user can log in up to the limit, log out on one device or on all other devices, and revoke a session by id."""
    settings = KnoxSettings(token_limit_per_user=3)
    strategy = knox.strategy(settings)
    one, two, three = [await strategy.issue(knox.user) for _ in range(3)]
    with pytest.raises(TokenLimitReached):
        await strategy.issue(knox.user)
    four = await knox.strategy(settings, request=request(("Authorization", f"Bearer {one}"))).issue(knox.user)
    await strategy.destroy_token(two, knox.user)
    with pytest.raises(InvalidToken):
        await strategy.destroy_token(two, knox.user)

    ended = await strategy.logout_all(knox.user, keep=four)

    assert ended == 1
    assert [await knox.accepts(token) for token in (one, two, three, four)] == [False, False, False, True]
    assert await strategy.revoke(knox.user, four.record.id)
    assert knox.published()[3:] == [
        ("TokenLimitHit",),
        ("TokenRevoked", "replaced"),
        ("TokenIssued",),
        ("TokenRevoked", "logout"),
        ("TokenRevoked", "logout_others"),
        ("TokenRevoked", "session_revoked"),
    ]


async def test_keys_are_introduced_without_a_logout(knox: Knox) -> None:
    """A token from before `digest_keys` is re-keyed when it is used, and so outlives `accept_unkeyed_until`."""
    keys = (SecretStr("a key of 32 bytes and a few more"),)
    token = await knox.strategy().issue(knox.user)
    knox.clock.now += HOUR
    await knox.session.commit()

    await knox.strategy(KnoxSettings(digest_keys=keys, accept_unkeyed_until=NOW + 2 * HOUR)).read_token(
        token, knox.user_manager
    )

    await knox.session.commit()
    assert await knox.accepts(token, KnoxSettings(digest_keys=keys))
    assert not await knox.accepts(token)


async def test_the_inactive_are_refused(knox: Knox, engine: AsyncEngine) -> None:
    """A deactivated user is refused even if the session still holds an object that says active."""
    token = await knox.strategy().issue(knox.user)
    await change_user(engine, knox.user, is_active=False)

    assert await knox.strategy().read_token(token, knox.user_manager) is None
    assert await knox.strategy().read_record(token) is None


async def test_a_device_keeps_one_token(knox: Knox) -> None:
    """A login replaces the record of the same device, whose name may hold letters outside of ASCII."""
    on_phone = request(("X-Device-Id", "17"), ("X-Device-Name", "K\u00e4the"), ("User-Agent", "x" * 1000))
    await knox.strategy(request=on_phone).issue(knox.user)
    knox.clock.now += MINUTE

    token = await knox.strategy(request=on_phone).issue(knox.user)

    [record] = await knox.strategy().list_records(knox.user)
    assert record == token.record
    assert (record.name, record.user_agent) == ("K\u00e4the", "x" * 256)
