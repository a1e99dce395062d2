"""What `list` promises."""

from collections.abc import Sequence
from typing import Any

from fastapi_users_knox.testing.contract.base import NOW, SECOND, Promises, Store, add, new_record

__all__ = ["ListPromises"]


class ListPromises(Promises):
    """Listing the live records of a user."""

    async def test_list_returns_the_live_records_newest_first(self, store: Store, user_ids: Sequence[Any]) -> None:
        """`list` returns the live records of the user and audience, newest first, and no other records."""
        first = await add(store, new_record(user_ids[0], created_at=NOW))
        second = await add(store, new_record(user_ids[0], created_at=NOW + SECOND))
        await add(store, new_record(user_ids[0], created_at=NOW - SECOND))
        await add(store, new_record(user_ids[0], created_at=NOW + SECOND, audience="api"))
        await add(store, new_record(user_ids[1], created_at=NOW + SECOND))
        await add(store, new_record(user_ids[0], created_at=NOW + SECOND, expires_at=NOW + 2 * SECOND))

        listed = await store.list(user_ids[0], audience="web", now=NOW + 2 * SECOND, created_since=NOW)

        assert list(listed) == [second.record, first.record]
