"""What an operator does with tokens in Redis besides the verbs of the store."""

from collections.abc import AsyncIterator, Callable, Sequence
from datetime import datetime
from typing import Any

from fastapi_users_knox.errors import KnoxError
from fastapi_users_knox.records.finding import Finding
from fastapi_users_knox.records.statistics import Liveness, Statistics
from fastapi_users_knox.redis.checks import check_servers
from fastapi_users_knox.redis.keys import user_id_in
from fastapi_users_knox.redis.purging import purge_each
from fastapi_users_knox.redis.records import milliseconds
from fastapi_users_knox.redis.searching import find_records, find_users
from fastapi_users_knox.redis.statistics import count_records
from fastapi_users_knox.redis.store import RedisTokenStore

__all__ = ["RedisOperations"]


class RedisOperations:
    """The operations of a store in Redis."""

    counts_cheaply = False

    def __init__(self, store: RedisTokenStore[Any, Any]) -> None:
        """Use the client and the keys of the store."""
        self._client = store._redis  # noqa: SLF001 (of the same part of the package)
        self._keys = store._keys  # noqa: SLF001
        self._step = store._step  # noqa: SLF001
        self._parse_id = store._parse_id  # noqa: SLF001

    def parse_id(self, text: str) -> object:
        """Return the user id that is written as this text."""
        user_id: object = self._parse_id(text)
        return user_id

    async def find_users(self, email: str) -> Sequence[object] | None:  # noqa: ARG002 (the store does not see the users)
        """Return `None`, because the users are not in Redis."""
        return None

    async def has_user(self, user_id: object) -> bool | None:  # noqa: ARG002 (as above)
        """Return `None`, because the users are not in Redis."""
        return None

    async def count_expired(self, liveness: Liveness) -> int:
        """Return how many records `purge` would remove. Redis has already deleted most of those that have expired."""
        count = 0
        async for _, records in find_records(self._client, self._keys):
            count += sum(not liveness.is_live(record) for record in records)
        return count

    async def purge(self, liveness: Liveness, *, batch_size: int) -> AsyncIterator[int]:
        """Remove the records of one user after the other, and yield how many records of each user were removed."""
        times = {"now": milliseconds(liveness.now), "created_since": milliseconds(liveness.created_since)}
        arguments = {"audience": liveness.audience, "step": self._step, **times}
        async for removed in purge_each(self._client, self._keys, arguments, batch_size=batch_size):
            yield removed

    async def count(self, liveness: Liveness, *, top: int) -> Statistics:
        """Read all records once, those of a hundred users at a time."""
        return await count_records(self._client, self._keys, liveness, top=top)

    async def count_users(self) -> int | None:
        """Return `None`, because Redis has to find the users in order to count them."""
        return None

    async def users_with_tokens(self, *, before: datetime | None, keep_scoped: bool) -> AsyncIterator[Sequence[object]]:
        """Find the users by SCAN, which returns every key that exists during the whole iteration, some of them twice.

        Without `before`, no record is read, so that none can escape by a rotation, which moves its key.

        Raises:
            KnoxError: A key contains an id that `parse_id` refuses.
        """
        if before is None:
            async for indexes in find_users(self._client, self._keys):
                yield [self._id_in_key(user_id_in(index)) for index in indexes]
            return
        async for user_id, records in find_records(self._client, self._keys):
            counted = [record for record in records if not (keep_scoped and record.scopes is not None)]
            if any(min(record.created_at, record.authenticated_at) < before for record in counted):
                yield [self._id_in_key(user_id)]

    async def check(
        self,
        clock: Callable[[], datetime],
        *,
        is_application: bool,  # noqa: ARG002 (the servers are the same for every client)
    ) -> Sequence[Finding]:
        """Check persistence, eviction, replicas and clocks."""
        return await check_servers(self._client, clock)

    def _id_in_key(self, text: str) -> object:
        try:
            return self.parse_id(text)
        except Exception:  # noqa: BLE001 (the application's own function may raise anything)
            raise KnoxError(
                f"a key of Redis has the user id {text}, which parse_id refuses: check users, key_prefix and the type "
                "of the ids"
            ) from None
