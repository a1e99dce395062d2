"""The number of commands that each act sends to Redis."""

import uuid
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import timedelta
from typing import Any

import pytest
from redis.asyncio import Redis

from fastapi_users_knox import IssuedToken, KnoxSettings
from tests.backends import NOW
from tests.proxy import Proxy
from tests.redis.knox import Knox
from tests.redis_servers import RedisServer

pytestmark = pytest.mark.anyio

SETTINGS = KnoxSettings(auto_refresh=True)
LATER = NOW + timedelta(hours=1)

Act = Callable[[Knox[uuid.UUID], IssuedToken], Awaitable[Any]]
# Each act with its number of commands. A logout, for example, reads the record, removes it, and deletes the answer
# that Redis keeps for a retry.
TRIPS: dict[str, tuple[Act, int]] = {
    "a read": (lambda knox, token: knox.strategy(SETTINGS).read_token(token, knox.user_manager), 1),
    "a read that refreshes": (
        lambda knox, token: knox.strategy(SETTINGS, now=LATER).read_token(token, knox.user_manager),
        2,
    ),
    "a passive read": (
        lambda knox, token: knox.strategy(SETTINGS, now=LATER).authenticate(token, knox.user_manager, touch=False),
        1,
    ),
    "junk": (lambda knox, token: knox.strategy(SETTINGS).read_token(token[:-1] + "!", knox.user_manager), 0),
    "a login": (lambda knox, _token: knox.strategy(SETTINGS).write_token(knox.user), 2),
    "a rotation": (lambda knox, token: knox.strategy(SETTINGS).rotate_token(token, knox.user), 2),
    "a re-authentication": (lambda knox, token: knox.strategy(SETTINGS).reauthenticate(token, knox.user), 2),
    "a logout": (lambda knox, token: knox.strategy(SETTINGS).destroy_token(token, knox.user), 3),
    "a logout-all": (lambda knox, _token: knox.strategy(SETTINGS).logout_all(knox.user), 2),
    "a list": (lambda knox, _token: knox.strategy(SETTINGS).list_records(knox.user), 1),
}


@pytest.fixture
async def proxy(server: RedisServer) -> AsyncIterator[Proxy]:
    """Run a proxy that counts the commands."""
    async with Proxy("127.0.0.1", server.port) as proxy:
        yield proxy


@pytest.mark.parametrize("what", TRIPS)
async def test_a_verb_is_one_round_trip(proxy: Proxy, knox: Knox[uuid.UUID], what: str) -> None:
    """Each act takes one command, plus one each to read the record first, to confirm it, or to delete a kept answer."""
    act, trips = TRIPS[what]
    tokens = [await knox.strategy(SETTINGS).write_token(knox.user) for _ in range(2)]
    await act(knox, tokens[0])  # Now the server has the scripts.
    async with Redis.from_url(proxy.url()) as client:
        knox.redis = client
        token = await knox.strategy(SETTINGS).write_token(knox.user)
        proxy.drop(0)

        await act(knox, token)

    assert proxy.commands == trips
