"""The settings on the pages have the effects that the pages describe."""

import subprocess
import sys
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from fastapi_users_db_sqlalchemy import SQLAlchemyUserDatabase
from pydantic import SecretStr
from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession

from fastapi_users_knox import KnoxSettings, KnoxStrategy
from fastapi_users_knox.sqlalchemy import SQLAlchemyTokenStore
from tests.docs.folder import SRC, load

OLD_KEY, NEW_KEY = "o" * 43, "n" * 43
NOW = datetime(2030, 1, 1, 12, tzinfo=UTC)
MINUTE = timedelta(minutes=1)
PATIENCE = 180.0  # seconds for a command to finish


class Person:
    """A user of the tutorial's application, with strategies of any settings at any time."""

    def __init__(self, session: AsyncSession, user: Any) -> None:
        """Take the session and the user that it has loaded."""
        self.session = session
        self.user = user

    def strategy(self, settings: KnoxSettings, now: datetime) -> KnoxStrategy[Any, Any]:
        """Return a strategy with these settings, at this time."""
        store = SQLAlchemyTokenStore[Any, Any](self.session, load("db").KnoxToken)
        return KnoxStrategy(store, settings, clock=lambda: now, request=None)

    async def issue(self, settings: KnoxSettings, now: datetime) -> str:
        """Issue a token with these settings, at this time."""
        return await self.strategy(settings, now).issue(self.user)

    async def is_accepted(self, token: str, settings: KnoxSettings, now: datetime) -> bool:
        """Return whether a token is accepted with these settings, at this time."""
        strategy = self.strategy(settings, now)
        user_db = SQLAlchemyUserDatabase[Any, Any](self.session, load("db").User)
        return await strategy.read_token(token, load("users").UserManager(user_db, knox=strategy)) is not None


@pytest.fixture
async def person(jane: str) -> AsyncIterator[Person]:  # noqa: ARG001 (it registers her)
    """Return the registered user."""
    db = load("db")
    async with db.async_session_maker() as session:
        yield Person(session, (await session.execute(select(db.User))).scalar_one())


def settings_in(name: str) -> KnoxSettings:
    """Load the settings of a documented file again."""
    sys.modules.pop(name, None)
    settings: KnoxSettings = load(name).settings
    return settings


async def test_the_limit_evicts_the_least_recently_used(person: Person) -> None:
    """A sixth login revokes the token that was used longest ago, not the oldest."""
    settings = settings_in("token_limit")
    issued = [await person.issue(settings, NOW + turn * MINUTE) for turn in range(5)]
    assert await person.is_accepted(issued[0], settings, NOW + 10 * MINUTE)

    issued.append(await person.issue(settings, NOW + 11 * MINUTE))

    live = [await person.is_accepted(token, settings, NOW + 12 * MINUTE) for token in issued]
    assert live == [True, False, True, True, True, True]


async def test_the_idle_are_logged_out_and_all_at_the_cap(person: Person) -> None:
    """A token in use stays valid until the cap, and an unused token expires after half an hour."""
    settings = settings_in("auto_refresh")
    used, idle = await person.issue(settings, NOW), await person.issue(settings, NOW)

    uses = [await person.is_accepted(used, settings, NOW + turn * 20 * MINUTE) for turn in range(37)]

    assert uses == [True] * 36 + [False]
    assert not await person.is_accepted(idle, settings, NOW + 30 * MINUTE)


async def test_a_digest_key_is_rotated_as_described(person: Person, monkeypatch: pytest.MonkeyPatch) -> None:
    """Tokens from before each step of a key rotation survive it if they are used."""
    before = await person.issue(KnoxSettings(token_ttl=None), NOW)
    settings, issued = [], []
    for keys in ((OLD_KEY,), (OLD_KEY, NEW_KEY), (NEW_KEY, OLD_KEY), (NEW_KEY,)):
        monkeypatch.setenv("KNOX_DIGEST_KEYS", ",".join(keys))
        settings.append(settings_in("digest_keys").model_copy(update={"accept_unkeyed_until": NOW + 9 * MINUTE}))
        issued.append(await person.issue(settings[-1], NOW))
    unused = await person.issue(settings[0], NOW)

    for turn, step in enumerate(settings):
        for token in (before, *issued[: turn + 1]):
            assert await person.is_accepted(token, step, NOW + (turn + 1) * 2 * MINUTE)
    assert not await person.is_accepted(unused, settings[-1], NOW + 9 * MINUTE)


async def test_the_kill_switch_refuses_earlier_logins(person: Person) -> None:
    """Tokens from before `not_before` are refused, and later tokens are accepted."""
    settings = settings_in("kill_switch")
    assert settings.not_before
    earlier = await person.issue(KnoxSettings(), settings.not_before - MINUTE)
    later = await person.issue(settings, settings.not_before)

    assert not await person.is_accepted(earlier, settings, settings.not_before + MINUTE)
    assert await person.is_accepted(later, settings, settings.not_before + MINUTE)


def test_a_key_made_as_shown_is_long_enough() -> None:
    """The commands shown print a valid digest key."""
    made = subprocess.run(["bash", SRC / "new_key.sh"], capture_output=True, check=True, text=True, timeout=PATIENCE)

    assert KnoxSettings(digest_keys=(SecretStr(made.stdout.strip()),)).digest_keys
