"""A user who is not in SQL, and strategies over Redis."""

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
    """A user, and strategies whose clocks stand at any time and which publish to one list of events."""

    redis: Redis | RedisCluster
    users: MemoryUserDatabase[ID]
    user: Person[ID]
    parse_id: Callable[[str], Any] = UUID
    users_name: str = ""
    key_prefix: str = "knox:"
    events: list[KnoxEvent[ID]] = field(default_factory=list)

    @property
    def store(self) -> RedisTokenStore[Person[ID], ID]:
        """A store on the client."""
        return RedisTokenStore(self.redis, parse_id=self.parse_id, users=self.users_name, key_prefix=self.key_prefix)

    @property
    def user_manager(self) -> PersonManager:
        """A user manager on the users."""
        return PersonManager(self.users)

    def strategy(self, settings: KnoxSettings = DEFAULTS, *, now: datetime = NOW) -> KnoxStrategy[Person[ID], ID]:
        """Return a strategy whose clock stands still."""
        return KnoxStrategy(
            self.store,
            settings,
            request=None,
            user_db=self.users,
            listeners=[self.events.append],
            clock=lambda: now,
        )

    async def accepts(self, token: str, *, now: datetime = NOW) -> bool:
        """Return whether a token is accepted, by a passive read."""
        return await self.strategy(now=now).authenticate(token, self.user_manager, touch=False) is not None

    async def keys(self) -> list[str]:
        """Return all keys of the server."""
        return sorted([key async for key in self.redis.scan_iter(match="*")])
