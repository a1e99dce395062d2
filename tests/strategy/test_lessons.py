"""Defects of other systems, named by their reports, that this package does not repeat.

Many are tested with the part that they concern, such as the store, the routers or the table; the rest is here.
"""

import asyncio
from datetime import timedelta
from typing import Any
from uuid import UUID

import pytest
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession

from fastapi_users_knox import (
    Found,
    InvalidToken,
    IssuedToken,
    KnoxSettings,
    KnoxStrategy,
    PresentedToken,
    TokenLimitReached,
    UserSource,
)
from fastapi_users_knox.sqlalchemy import SQLAlchemyTokenStore
from tests.models import KnoxToken, User, store_on, user_manager_on
from tests.strategies import HOUR, MINUTE, SECOND, Knox, Strategy, sent_to, stored, verbs

REFRESHING = KnoxSettings(token_ttl=HOUR, auto_refresh=True)


class Overtaken(SQLAlchemyTokenStore[User, UUID]):
    """A store for which another session revokes or rotates each token right after it is read."""

    def __init__(self, session: AsyncSession, engine: AsyncEngine, verb: str) -> None:
        super().__init__(session, KnoxToken)
        self.engine, self.verb = engine, verb

    async def get(
        self,
        token: PresentedToken,
        *,
        audience: str,
        users: UserSource | None = None,
    ) -> Found[User, UUID] | None:
        """Read the token, then change its record on another session."""
        found = await super().get(token, audience=audience, users=users)
        assert found is not None
        async with AsyncSession(self.engine) as session:
            other, record, now = store_on(session), found.record, found.record.created_at
            match self.verb:
                case "logout":
                    await other.remove(record.user_id, record.id, audience=audience, now=now)
                case "logout-all":
                    await other.remove_all(record.user_id, audience=audience, now=now)
                case _:
                    await other.rotate(found, bytes(32), now=now)
        return found


@pytest.mark.parametrize("verb", ["logout", "logout-all", "rotate"])
async def test_a_refresh_does_not_restore_a_revoked_token(knox: Knox, engine: AsyncEngine, verb: str) -> None:
    """django-rest-knox PR #186, better-auth: a refresh neither fails nor restores a token revoked after a read."""
    token = await knox.strategy(REFRESHING).issue(knox.user)
    await knox.session.commit()
    knox.published()
    knox.clock.now += HOUR / 2
    store = Overtaken(knox.session, engine, verb)
    strategy: Strategy = KnoxStrategy(store, REFRESHING, listeners=[knox.events.append], clock=knox.clock, request=None)

    await strategy.read_token(token, knox.user_manager)

    assert not await knox.accepts(token)
    assert knox.published() == []
    assert [row.last_used_at for row in await stored(engine)] == ([None] if verb == "rotate" else [])


@pytest.mark.parametrize("verb", ["logout", "logout-all", "rotate"])
@pytest.mark.parametrize("call", ["rotate_token", "destroy_token"])
async def test_an_overtaken_call_raises(knox: Knox, engine: AsyncEngine, call: str, verb: str) -> None:
    """devise_token_auth PR #856: of two calls that revoke or rotate a token at once, the second raises."""
    token = await knox.strategy().issue(knox.user)
    knox.published()
    strategy: Strategy = KnoxStrategy(
        Overtaken(knox.session, engine, verb), listeners=[knox.events.append], clock=knox.clock, request=None
    )

    overtaken = getattr(strategy, call)(token, knox.user)

    if (call, verb) == ("destroy_token", "rotate"):  # A rotation keeps the record, so the logout still removes it.
        await overtaken
        assert await stored(engine) == []
    else:
        with pytest.raises(InvalidToken):
            await overtaken
        assert knox.published() == []


async def test_simultaneous_logins_keep_the_limit(knox: Knox, engine: AsyncEngine) -> None:
    """django-rest-knox #391, #334: simultaneous logins do not exceed the limit, whichever call issues the token."""
    settings = KnoxSettings(token_limit_per_user=3)

    async def log_in(number: int) -> bool:
        async with AsyncSession(engine) as session:
            strategy: Strategy = KnoxStrategy(store_on(session), settings, clock=knox.clock, request=None)
            try:
                await strategy.issue(knox.user, replace=bool(number % 2))
            except TokenLimitReached:
                return False
            return True

    succeeded = await asyncio.gather(*(log_in(number) for number in range(12)))

    assert sum(succeeded) == len(await stored(engine)) == 3


async def test_tokens_that_never_expire_count(knox: Knox) -> None:
    """Knox #217: a token that never expires counts towards the limit."""
    strategy = knox.strategy(KnoxSettings(token_limit_per_user=1))
    await strategy.issue(knox.user, token_ttl=None)

    with pytest.raises(TokenLimitReached):
        await strategy.issue(knox.user, token_ttl=MINUTE)


async def test_a_read_looks_at_one_token(knox: Knox, engine: AsyncEngine) -> None:
    """django-rest-knox: a request loads one token by one statement, even if the user has fifty."""
    tokens = [await knox.strategy().issue(knox.user) for _ in range(50)]

    with sent_to(engine) as statements:
        await knox.strategy().read_token(tokens[0], knox.user_manager)

    assert verbs(statements) == ["SELECT"]
    assert "digest = ?" in statements[0]


async def test_tokens_that_are_never_presented_are_purged(knox: Knox, engine: AsyncEngine) -> None:
    """django-rest-knox, FastAPI-Users: a purge deletes expired rows that nobody presents any more."""
    for _ in range(5):
        await knox.strategy().issue(knox.user, token_ttl=SECOND, replace=False)
    knox.clock.now += HOUR

    purged = await knox.strategy().purge()

    assert purged == 5
    assert await stored(engine) == []


async def test_each_strategy_has_its_own_settings(knox: Knox) -> None:
    """django-rest-knox: settings are not read at import; each strategy has its own."""
    lifetimes = (MINUTE, HOUR, None)

    tokens = [await knox.strategy(KnoxSettings(token_ttl=ttl)).issue(knox.user) for ttl in lifetimes]

    expected = [None if ttl is None else knox.clock.now + ttl for ttl in lifetimes]
    assert [token.record.expires_at for token in tokens] == expected


async def test_events_name_the_token(knox: Knox) -> None:
    """Knox #388: an event holds the record of the token that it is about."""
    token = await knox.strategy().issue(knox.user)

    await knox.strategy().destroy_token(token, knox.user)

    records = [event.record for event in knox.events if hasattr(event, "record")]
    assert records == [token.record, token.record]


async def test_a_lifetime_of_zero_is_not_for_ever(knox: Knox) -> None:
    """fastapi-users: a lifetime of zero is refused, and does not mean that the token never expires."""
    with pytest.raises(ValueError, match="more than 0"):
        KnoxSettings(token_ttl=timedelta(0))
    with pytest.raises(ValueError, match="more than 0"):
        await knox.strategy().issue(knox.user, token_ttl=timedelta(0))


@pytest.mark.parametrize("call", ["issue", "read_token", "rotate_token", "logout_all"])
async def test_a_commit_expires_no_user(engine: AsyncEngine, knox: Knox, call: str) -> None:
    """fastapi-users #1395: after every call the user's attributes can be read, even if sessions expire on commit."""
    async with AsyncSession(engine) as session:
        user = await session.get_one(User, knox.user.id)
        strategy: Strategy = KnoxStrategy(store_on(session), REFRESHING, clock=knox.clock, request=None)
        token = await strategy.issue(user)
        knox.clock.now += HOUR / 2
        calls: dict[str, Any] = {
            "issue": lambda: strategy.issue(user),
            "read_token": lambda: strategy.read_token(token, user_manager_on(session)),
            "rotate_token": lambda: strategy.rotate_token(token, user),
            "logout_all": lambda: strategy.logout_all(user),
        }

        await calls[call]()

        assert (user.id, user.email, user.is_active) == (knox.user.id, knox.user.email, True)


async def test_using_a_token_is_not_a_write_each_time(knox: Knox, engine: AsyncEngine) -> None:
    """Sanctum: by default `last_used_at` is not written at every request."""
    token = await knox.strategy().issue(knox.user)

    with sent_to(engine) as statements:
        for _ in range(60):
            knox.clock.now += SECOND
            await knox.strategy().read_token(token, knox.user_manager)

    assert set(verbs(statements)) == {"SELECT"}


async def test_a_list_gives_no_secret_away_and_is_enough_to_revoke(knox: Knox) -> None:
    """crudauth, better-auth #6940: a listed record holds no token, but its id suffices to revoke the session."""
    token: IssuedToken = await knox.strategy().issue(knox.user)

    [record] = await knox.strategy().list_records(knox.user)

    assert await knox.strategy().read_token(str(record.id), knox.user_manager) is None
    assert token not in repr(record)
    assert await knox.strategy().revoke(knox.user, record.id)
    assert not await knox.accepts(token)


async def test_a_token_stays_the_same_while_it_is_used(knox: Knox) -> None:
    """devise_token_auth PR #856: using a token never rotates it, so parallel requests all succeed."""
    token = await knox.strategy(REFRESHING).issue(knox.user)

    for _ in range(10):
        knox.clock.now += 2 * MINUTE
        assert await knox.strategy(REFRESHING).read_token(token, knox.user_manager) is not None

    assert knox.published() == [("TokenIssued",), *[("TokenRefreshed",)] * 10]
