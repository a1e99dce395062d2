"""A strategy over Redis, for users that are not in SQL."""

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Generic
from uuid import UUID

from fastapi_users.models import ID
from redis.asyncio import Redis, RedisCluster

from fastapi_users_knox import KnoxEvent, KnoxSettings, KnoxStrategy
from fastapi_users_knox.redis import RedisTokenStore
from tests.backends import DEFAULTS, NOW
from tests.redis.people import MemoryUserDatabase, Person, PersonManager


@dataclass(kw_only=True)
class Knox(Generic[ID]):
    """A user, and strategies at any time that tell one log of events."""

    redis: Redis | RedisCluster
    users: MemoryUserDatabase[ID]
    user: Person[ID]
    parse_id: Callable[[str], Any] = UUID
    users_name: str = ""
    key_prefix: str = "knox:"
    events: list[KnoxEvent[ID]] = field(default_factory=list)

    @property
    def store(self) -> RedisTokenStore[Person[ID], ID]:
        """Make the store."""
        return RedisTokenStore(self.redis, parse_id=self.parse_id, users=self.users_name, key_prefix=self.key_prefix)

    @property
    def user_manager(self) -> PersonManager:
        """Make the user manager."""
        return PersonManager(self.users)

    def strategy(self, settings: KnoxSettings = DEFAULTS, *, now: datetime = NOW) -> KnoxStrategy[Person[ID], ID]:
        """Make a strategy."""
        return KnoxStrategy(
            self.store,
            settings,
            request=None,
            user_db=self.users,
            listeners=[self.events.append],
            clock=lambda: now,
        )

    async def accepts(self, token: str, *, now: datetime = NOW) -> bool:
        """Tell whether a token is accepted, without using it."""
        return await self.strategy(now=now).authenticate(token, self.user_manager, touch=False) is not None

    async def keys(self) -> list[str]:
        """Return all keys of this store."""
        return sorted([key async for key in self.redis.scan_iter(match="*")])
