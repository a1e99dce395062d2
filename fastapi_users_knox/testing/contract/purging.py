"""What `purge` promises."""

from collections.abc import Sequence
from typing import Any

import pytest

from fastapi_users_knox.testing.contract.base import HOUR, NOW, SECOND, Promises, Store, add, find, new_record

__all__ = ["PurgePromises"]


class PurgePromises(Promises):
    """Removing records that have expired."""

    async def test_purge_removes_expired_records(self, store: Store, user_ids: Sequence[Any]) -> None:
        """`purge` removes the expired records of every audience, in several batches, and returns how many."""
        for user_id in user_ids:
            for audience in ("web", "api"):
                await add(store, new_record(user_id, audience=audience, expires_at=NOW + SECOND))
        live = [await add(store, new_record(user_ids[0], expires_at=end)) for end in (NOW + HOUR, None)]

        purged = await store.purge(audience="web", now=NOW + SECOND, batch_size=3)

        assert purged == 2 * len(user_ids)
        assert await store.purge(audience="web", now=NOW + SECOND) == 0
        for kept in live:
            assert await find(store, kept.record, kept.digest) is not None

    async def test_purge_removes_records_that_are_too_old(self, store: Store, user_id: Any) -> None:
        """`purge` removes records that were created before `created_since`, but only those of this audience."""
        old = await add(store, new_record(user_id, expires_at=None))
        new = await add(store, new_record(user_id, created_at=NOW + SECOND, expires_at=None))
        other = await add(store, new_record(user_id, expires_at=None, audience="api"))

        purged = await store.purge(audience="web", now=NOW + SECOND, created_since=NOW + SECOND)

        assert purged == 1
        assert await find(store, old.record, old.digest) is None
        for kept in (new, other):
            assert await find(store, kept.record, kept.digest) is not None

    async def test_purge_of_one_record_considers_no_other(self, store: Store, user_id: Any) -> None:
        """With `seen`, `purge` removes only the record that was seen, if that record has expired."""
        seen = await add(store, new_record(user_id, expires_at=NOW + SECOND))
        other = await add(store, new_record(user_id, expires_at=NOW + SECOND))
        now = NOW + SECOND

        purged = [await store.purge(audience="web", now=now, seen=seen, tried_since=now - SECOND) for _ in range(2)]

        assert purged == [1, 0]
        assert await find(store, seen.record, seen.digest) is None
        assert await find(store, other.record, other.digest) is not None

    async def test_purge_of_one_record_checks_the_expiry_again(self, store: Store, user_id: Any) -> None:
        """With `seen`, `purge` keeps the record if its expiry has moved since the record was read."""
        added = await add(store, new_record(user_id, expires_at=NOW + SECOND))
        await store.renew(added, now=NOW + SECOND / 2, unused_since=NOW + SECOND / 4, expires_at=NOW + HOUR)

        purged = await store.purge(audience="web", now=NOW + SECOND, seen=added, tried_since=NOW + SECOND)

        assert purged == 0
        assert await find(store, added.record, added.digest) is not None

    @pytest.mark.parametrize("batch_size", [0, -1, 10_001])
    async def test_purge_refuses_a_wrong_batch_size(self, store: Store, batch_size: int) -> None:
        """`purge` raises `ValueError` for a batch size of less than 1 or more than 10,000."""
        with pytest.raises(ValueError, match="batch_size"):
            await store.purge(audience="web", now=NOW, batch_size=batch_size)
