"""The user manager that ends tokens when the password, the activity or the user changes, on every kind of store."""

import uuid
from datetime import timedelta
from typing import Any

import pytest
from fastapi import Depends, HTTPException
from fastapi_users.schemas import BaseUserUpdate
from fastapi_users_db_sqlalchemy import SQLAlchemyUserDatabase
from redis.asyncio import Redis

from fastapi_users_knox import KnoxEvent, KnoxStrategy, StoreUnavailable, TokenRecord, TokenRevoked
from fastapi_users_knox.redis import RedisTokenStore
from tests.backends import NOW
from tests.manager.account import API, WEB, Account, Manager, Strategy
from tests.models import User, create_user
from tests.strategies import request as request_with

pytestmark = pytest.mark.anyio


# the password


async def test_a_reset_ends_all(account: Account) -> None:
    """fastapi-users: a reset of the password ends every token, the presented one too."""
    await account.reset(account.manager())

    assert await account.alive() == []
    assert account.told() == ["password_reset"] * 3


async def test_a_change_spares_the_presented_token(account: Account) -> None:
    """Who changes the password stays logged in, here alone."""
    await account.manager().update(BaseUserUpdate(password="another password"), account.user, safe=True)

    assert await account.alive() == ["laptop"]
    assert account.told() == ["password_changed"] * 2


@pytest.mark.parametrize("presented", ["", "junk", "knox_" + "0" * 51])
async def test_a_change_by_another_ends_all(account: Account, presented: str) -> None:
    """A change by an administrator, whose token is not the user's, or by a script, ends every token."""
    manager = account.manager(presented=presented)

    await manager.update(BaseUserUpdate(password="another password"), account.user)

    assert await account.alive() == []


async def test_an_administrators_own_token_is_not_the_users(account: Account) -> None:
    """An administrator who changes another's password presents a token, and neither saves one by it nor loses it."""
    admin = Account(app=account.app, user=await create_user(account.app.session))
    await admin.log_in()

    await admin.manager().update(BaseUserUpdate(password="another password"), account.user)

    assert await account.alive() == []
    assert await admin.alive() == ["laptop", "phone", "script"]


async def test_a_token_beside_the_right_one_changes_nothing(account: Account) -> None:
    """A token that was planted in a cookie ends, and the one that authenticated the request stays."""
    strategy = account.strategy(presented=account.tokens["laptop"])
    request = request_with(("Cookie", f"x={account.tokens['phone']}"))
    beside: Strategy = KnoxStrategy(account.app.store, API, request=request, user_db=None, clock=lambda: NOW)

    await account.manager(beside, strategy).update(BaseUserUpdate(password="another password"), account.user)

    assert await account.alive() == ["laptop"]


async def test_other_changes_end_nothing(account: Account) -> None:
    """A change of what no token depends on ends none."""
    await account.manager().update(BaseUserUpdate(is_verified=True), account.user)
    await account.manager().update(BaseUserUpdate(email="eve@example.org"), account.user)

    assert await account.alive() == ["laptop", "phone", "script"]
    assert account.told() == []


async def test_a_failing_hook_keeps_no_token_alive(account: Account) -> None:
    """An application's hook that raises once the password is stored does not save the tokens."""
    manager = account.manager()
    manager.fails_afterwards = True

    with pytest.raises(RuntimeError):
        await manager.update(BaseUserUpdate(password="another password"), account.user)
    after_change = await account.alive()
    with pytest.raises(RuntimeError):
        await account.reset(manager)

    assert after_change == ["laptop"]
    assert await account.alive() == []


async def test_a_change_after_a_reset_is_a_change(account: Account) -> None:
    """What is a reset is known of each call by itself."""
    manager = account.manager()
    await account.reset(manager)
    await account.log_in()

    await account.manager().update(BaseUserUpdate(password="a third password"), account.user)

    assert await account.alive() == ["laptop"]


# the activity and the user


async def test_deactivation_ends_all_for_good(account: Account) -> None:
    """Tokens that end as the user is made inactive do not revive when the user is active again."""
    await account.manager().update(BaseUserUpdate(is_active=False), account.user)
    told = account.told()
    await account.manager().update(BaseUserUpdate(is_active=True), account.user)

    assert told == ["deactivated"] * 3
    assert await account.alive() == []


async def test_deletion_ends_all_and_tells(account: Account) -> None:
    """With the user all tokens go, and each is told of once, though the database may have deleted it by itself."""
    manager, user_id = account.manager(account.strategy(WEB), account.strategy(API)), account.user.id

    await manager.delete(account.user)

    assert account.told() == ["deleted"] * 3
    assert await account.app.store.remove_all(user_id, audience=None, now=NOW) == []


async def test_a_refused_deletion_ends_nothing(account: Account) -> None:
    """A hook that refuses the deletion leaves the user logged in."""
    manager = account.manager()
    manager.refuses_deletion = True

    with pytest.raises(HTTPException):
        await manager.delete(account.user)

    assert await account.alive() == ["laptop", "phone", "script"]


async def test_a_hook_that_fails_after_the_deletion_keeps_no_token(account: Account) -> None:
    """Once the user is deleted the tokens end, whatever the hook does."""
    manager, user_id = account.manager(), account.user.id
    manager.fails_afterwards = True

    with pytest.raises(RuntimeError):
        await manager.delete(account.user)

    assert await account.app.store.remove_all(user_id, audience=None, now=NOW) == []


# what an application chooses


class Lenient(Manager):
    """A user manager that ends nothing."""

    revoke_on_password_reset = False
    revoke_on_password_change = False
    revoke_on_deactivation = False
    revoke_on_deletion = False


async def test_all_can_be_switched_off(account: Account) -> None:
    """Each kind of change can be told to end nothing; an inactive user is refused all the same."""
    manager = account.manager(kind=Lenient)
    await manager.update(BaseUserUpdate(password="another password"), account.user)
    await account.reset(manager)
    await manager.update(BaseUserUpdate(is_active=False), account.user)
    inactive = await account.alive()
    await manager.update(BaseUserUpdate(is_active=True), account.user)

    assert inactive == []
    assert await account.alive() == ["laptop", "phone", "script"]
    await manager.delete(account.user)
    assert account.told() == []


class Strict(Manager):
    """A user manager to whom the e-mail address matters."""

    revoke_on_email_change = True


async def test_a_change_of_email_can_end_the_others(account: Account) -> None:
    """Where it is switched on, a change of the e-mail address ends all but the presented token."""
    await account.manager(kind=Strict).update(BaseUserUpdate(email="eve@example.org"), account.user)

    assert await account.alive() == ["laptop"]
    assert account.told() == ["email_changed"] * 2


async def test_other_factors_end_the_others_by_one_call(account: Account) -> None:
    """A new second factor, of which FastAPI-Users knows nothing, ends all but the presented token."""
    ended = await account.manager().revoke_other_tokens(account.user)

    assert ended == 2
    assert await account.alive() == ["laptop"]


async def test_several_strategies_over_one_store(account: Account) -> None:
    """The presented token is spared by all of them, whichever audience it is of."""
    presented = account.tokens["script"]
    strategies = [account.strategy(settings, presented) for settings in (WEB, API)]

    await account.manager(*strategies).update(BaseUserUpdate(password="another password"), account.user)

    assert await account.alive() == ["script"]
    assert account.told() == ["password_changed"] * 2


async def test_several_stores(account: Account, redis_7_server: Any) -> None:
    """Tokens in a second store end too."""
    async with Redis.from_url(redis_7_server.url()) as redis:
        store: RedisTokenStore[User, uuid.UUID] = RedisTokenStore(redis, key_prefix="second:")
        second: Strategy = KnoxStrategy(store, request=None, user_db=None, clock=lambda: NOW)
        token = await second.issue(account.user)

        await account.manager(account.strategy(), second).update(BaseUserUpdate(is_active=False), account.user)

        assert await second.read_record(token) is None
        assert await account.alive() == []


@pytest.mark.parametrize("knox", [Depends(lambda: None), None, [], [None], "strategy"])
async def test_anything_else_than_a_strategy_is_refused(account: Account, knox: Any) -> None:
    """A `Depends` object, which a script may pass by mistake, shows at construction."""
    with pytest.raises(TypeError, match="KnoxStrategy"):
        Manager(SQLAlchemyUserDatabase(account.app.session, User), knox=knox)


async def test_a_store_that_is_away_is_found_out_before(account: Account, away: Strategy) -> None:
    """Where the tokens could not be ended nothing is changed, so every request can be repeated."""
    manager = account.manager(away)
    user_id, password = account.user.id, account.user.hashed_password

    with pytest.raises(StoreUnavailable):
        await manager.update(BaseUserUpdate(is_active=False), account.user)
    with pytest.raises(StoreUnavailable):
        await manager.update(BaseUserUpdate(password="another password"), account.user)
    with pytest.raises(StoreUnavailable):
        await account.reset(manager)
    with pytest.raises(StoreUnavailable):
        await manager.delete(account.user)

    stored = await manager.get(user_id)
    assert (stored.is_active, stored.hashed_password) == (True, password)
    assert await account.alive() == ["laptop", "phone", "script"]


class Vanishing(KnoxStrategy[User, uuid.UUID]):
    """A strategy whose store goes away after it was looked at."""

    async def revoke_all(self, *_: Any, **__: Any) -> list[TokenRecord[uuid.UUID]]:
        """Fail as a store that is away does."""
        raise StoreUnavailable


async def test_a_store_that_goes_away_saves_no_other_store(account: Account) -> None:
    """The tokens in the stores that are left end, the answer is 503, and a deactivation can be repeated."""
    vanishing = Vanishing(account.app.store, WEB, request=None, user_db=None, clock=lambda: NOW)
    manager = account.manager(vanishing, account.strategy())

    with pytest.raises(StoreUnavailable):
        await manager.update(BaseUserUpdate(is_active=False), account.user)
    await account.manager().update(BaseUserUpdate(is_active=True), account.user)
    alive = await account.alive()
    await account.log_in()
    with pytest.raises(StoreUnavailable):
        await account.manager(vanishing).update(BaseUserUpdate(is_active=False), account.user)
    await account.manager().update(BaseUserUpdate(is_active=False), account.user)

    assert alive == []
    assert account.told() == ["deactivated"] * 3


async def test_each_audience_has_its_own_listeners(account: Account) -> None:
    """Each token is told of to the listeners of its own audience's strategy."""
    heard: dict[str, list[KnoxEvent[uuid.UUID]]] = {"web": [], "api": []}
    strategies: list[Strategy] = [
        KnoxStrategy(
            account.app.store,
            settings,
            request=None,
            user_db=None,
            listeners=[heard[settings.audience].append],
            clock=lambda: NOW,
        )
        for settings in (WEB, API)
    ]

    await account.manager(*strategies).update(BaseUserUpdate(is_active=False), account.user)

    audiences = {
        to: [event.record.audience for event in events if isinstance(event, TokenRevoked)]
        for to, events in heard.items()
    }
    assert audiences == {"web": ["web", "web"], "api": ["api"]}


async def test_a_deletion_is_told_within_the_grace(account: Account) -> None:
    """Records that have expired are not told of as ended by the deletion."""
    late: Strategy = KnoxStrategy(
        account.app.store,
        WEB,
        request=None,
        user_db=None,
        listeners=[account.events.append],
        clock=lambda: NOW + timedelta(hours=11),
    )

    await account.manager(late).delete(account.user)

    assert account.told() == []
