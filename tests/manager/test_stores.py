"""Tokens of all audiences are revoked in one transaction of each store, and each is published once, by its strategy."""

import asyncio
import uuid
from typing import Any

import pytest
from fastapi_users.schemas import BaseUserUpdate
from redis.asyncio import Redis

from fastapi_users_knox import KnoxSettings, KnoxStrategy, StoreUnavailable, TokenRecord, TokenRevoked
from fastapi_users_knox.redis import RedisTokenStore
from fastapi_users_knox.sqlalchemy import SQLAlchemyTokenStore
from tests.backends import NOW
from tests.manager.account import API, WEB, Account, Strategy
from tests.models import KnoxToken, User
from tests.redis_servers import RedisServer
from tests.strategies import sent_to

pytestmark = pytest.mark.anyio

INACTIVE = BaseUserUpdate(is_active=False)
PASSWORD = BaseUserUpdate(password="another password")


class Counting(KnoxStrategy[User, uuid.UUID]):
    """A strategy that counts its calls of `revoke_all`."""

    calls = 0

    async def revoke_all(self, *args: Any, **kwargs: Any) -> list[TokenRecord[uuid.UUID]]:
        """Count the call, and revoke."""
        self.calls += 1
        return await super().revoke_all(*args, **kwargs)


async def test_every_audience_of_a_store_ends_at_once(account: Account) -> None:
    """Two strategies over one store revoke all tokens with one call, so in one transaction."""
    strategies = [
        Counting(account.app.store, settings, request=None, user_db=None, clock=lambda: NOW) for settings in (WEB, API)
    ]

    await account.manager(*strategies).update(INACTIVE, account.user)

    assert [strategy.calls for strategy in strategies] == [1, 0]
    assert await account.alive() == []


@pytest.mark.parametrize("open_app", ["sqlite", "postgresql-asyncpg"], indirect=True)
async def test_it_takes_one_statement(account: Account) -> None:
    """Over SQL, the tokens of all audiences are revoked with one DELETE."""
    manager = account.manager(account.strategy(WEB), account.strategy(API))
    engine: Any = account.app.session.bind

    with sent_to(engine) as statements:
        await manager.update(PASSWORD, account.user)

    assert len([statement for statement in statements if statement.startswith("DELETE FROM knox_token")]) == 1


@pytest.mark.parametrize("change", [INACTIVE, PASSWORD])
async def test_each_is_published_once_to_its_own_audience(account: Account, change: BaseUserUpdate) -> None:
    """Each revoked token is published by the strategy of its audience, or by the first if no strategy has it."""
    heard: dict[str, list[tuple[str, str]]] = {"web": [], "api": [], "other": []}

    def strategy(audience: str) -> Strategy:
        def listen(event: TokenRevoked[uuid.UUID]) -> None:
            heard[audience].append((event.record.audience, event.reason))

        settings = WEB.model_copy(update={"audience": audience})
        return KnoxStrategy(
            account.app.store, settings, request=None, user_db=None, listeners=[listen], clock=lambda: NOW
        )

    await account.manager(strategy("other"), strategy("web")).update(change, account.user)

    reason = "deactivated" if change is INACTIVE else "password_changed"
    assert heard == {"other": [("api", reason)], "web": [("web", reason)] * 2, "api": []}


@pytest.mark.parametrize("open_app", ["sqlite", "postgresql-asyncpg"], indirect=True)
async def test_two_stores_over_one_table_publish_once(account: Account) -> None:
    """If each strategy has its own store object over one table, each token is still published once, by its strategy."""
    heard: dict[str, list[str]] = {"web": [], "api": []}

    def strategy(settings: KnoxSettings) -> Strategy:
        def listen(event: TokenRevoked[uuid.UUID]) -> None:
            heard[settings.audience].append(event.record.audience)

        store: SQLAlchemyTokenStore[User, uuid.UUID] = SQLAlchemyTokenStore(account.app.session, KnoxToken)
        return KnoxStrategy(store, settings, request=None, user_db=None, listeners=[listen], clock=lambda: NOW)

    await account.manager(strategy(WEB), strategy(API)).delete(account.user)

    assert heard == {"web": ["web", "web"], "api": ["api"]}


async def test_a_cancelled_listener_keeps_no_other_store(account: Account, redis_7_server: RedisServer) -> None:
    """A listener of the first store that raises `CancelledError` does not keep the tokens of the next store valid."""

    async def listen(_event: object) -> None:
        raise asyncio.CancelledError

    first: Strategy = KnoxStrategy(
        account.app.store, WEB, request=None, user_db=None, listeners=[listen], clock=lambda: NOW
    )
    async with Redis.from_url(redis_7_server.url()) as redis:
        store: RedisTokenStore[User, uuid.UUID] = RedisTokenStore(redis, key_prefix="second:")
        second: Strategy = KnoxStrategy(store, request=None, user_db=None, clock=lambda: NOW)
        token = await second.issue(account.user)

        with pytest.raises(StoreUnavailable):
            await account.manager(first, second).update(INACTIVE, account.user)

        assert await second.read_record(token) is None
        assert await account.alive() == []
