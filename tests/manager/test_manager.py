"""The user manager revokes tokens when a password changes and when a user is deactivated or deleted, on every store."""

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
    """A reset of the password, as FastAPI-Users does it, revokes every token, including the presented one."""
    await account.reset(account.manager())

    assert await account.alive() == []
    assert account.revoke_reasons() == ["password_reset"] * 3


async def test_a_change_spares_the_presented_token(account: Account) -> None:
    """A user who changes the password stays logged in with the presented token; all other tokens are revoked."""
    await account.manager().update(BaseUserUpdate(password="another password"), account.user, safe=True)

    assert await account.alive() == ["laptop"]
    assert account.revoke_reasons() == ["password_changed"] * 2


@pytest.mark.parametrize("presented", ["", "junk", "knox_" + "0" * 51])
async def test_a_change_by_another_ends_all(account: Account, presented: str) -> None:
    """A new password revokes every token of the user if the request presents no token of the user, as in a script."""
    manager = account.manager(presented=presented)

    await manager.update(BaseUserUpdate(password="another password"), account.user)

    assert await account.alive() == []


async def test_an_administrators_own_token_is_not_the_users(account: Account) -> None:
    """An administrator who changes a user's password revokes all of that user's tokens, and keeps their own tokens."""
    admin = Account(app=account.app, user=await create_user(account.app.session))
    await admin.log_in()

    await admin.manager().update(BaseUserUpdate(password="another password"), account.user)

    assert await account.alive() == []
    assert await admin.alive() == ["laptop", "phone", "script"]


async def test_a_token_beside_the_right_one_changes_nothing(account: Account) -> None:
    """Only the token that authenticated the request is kept; another token of the user in a cookie is revoked."""
    strategy = account.strategy(presented=account.tokens["laptop"])
    request = request_with(("Cookie", f"x={account.tokens['phone']}"))
    beside: Strategy = KnoxStrategy(account.app.store, API, request=request, user_db=None, clock=lambda: NOW)

    await account.manager(beside, strategy).update(BaseUserUpdate(password="another password"), account.user)

    assert await account.alive() == ["laptop"]


async def test_other_changes_end_nothing(account: Account) -> None:
    """A change of fields that do not concern tokens revokes no tokens."""
    await account.manager().update(BaseUserUpdate(is_verified=True), account.user)
    await account.manager().update(BaseUserUpdate(email="eve@example.org"), account.user)

    assert await account.alive() == ["laptop", "phone", "script"]
    assert account.revoke_reasons() == []


async def test_a_failing_hook_keeps_no_token_alive(account: Account) -> None:
    """A new password revokes the tokens, even if the application's hook raises afterwards."""
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
    """A change of the password after a reset keeps the presented token: the reset affects only its own call."""
    manager = account.manager()
    await account.reset(manager)
    await account.log_in()

    await account.manager().update(BaseUserUpdate(password="a third password"), account.user)

    assert await account.alive() == ["laptop"]


# deactivation and deletion


async def test_deactivation_ends_all_for_good(account: Account) -> None:
    """A deactivation revokes all tokens, and they stay revoked when the user is activated again."""
    await account.manager().update(BaseUserUpdate(is_active=False), account.user)
    reasons = account.revoke_reasons()
    await account.manager().update(BaseUserUpdate(is_active=True), account.user)

    assert reasons == ["deactivated"] * 3
    assert await account.alive() == []


async def test_deletion_revokes_and_publishes_all(account: Account) -> None:
    """A deletion revokes all tokens and publishes each once, even if the database has deleted the rows by itself."""
    manager, user_id = account.manager(account.strategy(WEB), account.strategy(API)), account.user.id

    await manager.delete(account.user)

    assert account.revoke_reasons() == ["deleted"] * 3
    assert await account.app.store.remove_all(user_id, audience=None, now=NOW) == []


async def test_a_refused_deletion_ends_nothing(account: Account) -> None:
    """A deletion that the hook refuses revokes no token."""
    manager = account.manager()
    manager.refuses_deletion = True

    with pytest.raises(HTTPException):
        await manager.delete(account.user)

    assert await account.alive() == ["laptop", "phone", "script"]


async def test_a_hook_that_fails_after_the_deletion_keeps_no_token(account: Account) -> None:
    """The tokens of a deleted user are revoked, even if the hook raises."""
    manager, user_id = account.manager(), account.user.id
    manager.fails_afterwards = True

    with pytest.raises(RuntimeError):
        await manager.delete(account.user)

    assert await account.app.store.remove_all(user_id, audience=None, now=NOW) == []


# options


class Lenient(Manager):
    """A user manager that revokes no tokens."""

    revoke_on_password_reset = False
    revoke_on_password_change = False
    revoke_on_deactivation = False
    revoke_on_deletion = False


async def test_all_can_be_switched_off(account: Account) -> None:
    """With all switches off, no change revokes tokens; the tokens of an inactive user are still refused."""
    manager = account.manager(kind=Lenient)
    await manager.update(BaseUserUpdate(password="another password"), account.user)
    await account.reset(manager)
    await manager.update(BaseUserUpdate(is_active=False), account.user)
    inactive = await account.alive()
    await manager.update(BaseUserUpdate(is_active=True), account.user)

    assert inactive == []
    assert await account.alive() == ["laptop", "phone", "script"]
    await manager.delete(account.user)
    assert account.revoke_reasons() == []


class Strict(Manager):
    """A user manager that revokes tokens when the e-mail address changes."""

    revoke_on_email_change = True


async def test_a_change_of_email_can_end_the_others(account: Account) -> None:
    """With `revoke_on_email_change`, a new e-mail address revokes all tokens except the presented one."""
    await account.manager(kind=Strict).update(BaseUserUpdate(email="eve@example.org"), account.user)

    assert await account.alive() == ["laptop"]
    assert account.revoke_reasons() == ["email_changed"] * 2


async def test_other_factors_end_the_others_by_one_call(account: Account) -> None:
    """`revoke_other_tokens`, called for example after a new second factor, revokes all but the presented token."""
    ended = await account.manager().revoke_other_tokens(account.user)

    assert ended == 2
    assert await account.alive() == ["laptop"]


async def test_several_strategies_over_one_store(account: Account) -> None:
    """With several strategies over one store, the presented token is kept, whatever its audience is."""
    presented = account.tokens["script"]
    strategies = [account.strategy(settings, presented) for settings in (WEB, API)]

    await account.manager(*strategies).update(BaseUserUpdate(password="another password"), account.user)

    assert await account.alive() == ["script"]
    assert account.revoke_reasons() == ["password_changed"] * 2


async def test_several_stores(account: Account, redis_7_server: Any) -> None:
    """A deactivation revokes the tokens in every store."""
    async with Redis.from_url(redis_7_server.url()) as redis:
        store: RedisTokenStore[User, uuid.UUID] = RedisTokenStore(redis, key_prefix="second:")
        second: Strategy = KnoxStrategy(store, request=None, user_db=None, clock=lambda: NOW)
        token = await second.issue(account.user)

        await account.manager(account.strategy(), second).update(BaseUserUpdate(is_active=False), account.user)

        assert await second.read_record(token) is None
        assert await account.alive() == []


@pytest.mark.parametrize("knox", [Depends(lambda: None), None, [], [None], "strategy"])
async def test_anything_else_than_a_strategy_is_refused(account: Account, knox: Any) -> None:
    """Anything but strategies as `knox=`, such as a `Depends` object from a script, is refused at construction."""
    with pytest.raises(TypeError, match="KnoxStrategy"):
        Manager(SQLAlchemyUserDatabase(account.app.session, User), knox=knox)


async def test_an_unavailable_store_is_noticed_before_the_change(account: Account, unavailable: Strategy) -> None:
    """If a store is unavailable, nothing is changed and nothing is revoked, so the request can be repeated."""
    manager = account.manager(unavailable)
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
    """A strategy whose store fails only after the check before the change."""

    async def revoke_all(self, *_: Any, **__: Any) -> list[TokenRecord[uuid.UUID]]:
        """Raise as if the store were unavailable."""
        raise StoreUnavailable


async def test_a_store_that_goes_away_saves_no_other_store(account: Account) -> None:
    """If one store fails after the change, the tokens in the other stores are revoked, and a retry revokes the rest."""
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
    assert account.revoke_reasons() == ["deactivated"] * 3


async def test_each_audience_has_its_own_listeners(account: Account) -> None:
    """Each revoked token is published to the listeners of the strategy that has its audience."""
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


async def test_a_deletion_publishes_no_expired_records(account: Account) -> None:
    """Records that have already expired are not published as revoked by the deletion."""
    late: Strategy = KnoxStrategy(
        account.app.store,
        WEB,
        request=None,
        user_db=None,
        listeners=[account.events.append],
        clock=lambda: NOW + timedelta(hours=11),
    )

    await account.manager(late).delete(account.user)

    assert account.revoke_reasons() == []
