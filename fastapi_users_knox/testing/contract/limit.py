"""What `add` promises about the limit of live records."""

from collections.abc import Sequence
from typing import Any

import pytest

from fastapi_users_knox.errors import TokenLimitReached
from fastapi_users_knox.records import LimitPolicy
from fastapi_users_knox.testing.contract.base import (
    CALLERS,
    HOUR,
    NOW,
    SECOND,
    OpenStore,
    Promises,
    Store,
    add,
    at_once,
    find,
    new_digest,
    new_record,
)

__all__ = ["LimitPromises"]


class LimitPromises(Promises):
    """Keeping the number of a user's live records within a limit."""

    async def test_the_limit_rejects(self, store: Store, user_ids: Sequence[Any]) -> None:
        """Under "reject", an `add` beyond the limit raises an error that contains the limit, and changes nothing."""
        kept = [await add(store, new_record(user_ids[0]), limit=2) for _ in range(2)]
        expired = await add(store, new_record(user_ids[0], created_at=NOW - HOUR, expires_at=NOW + SECOND))
        await add(store, new_record(user_ids[1]), limit=2)

        with pytest.raises(TokenLimitReached) as reached:
            await add(store, new_record(user_ids[0], created_at=NOW + SECOND), limit=2)

        assert reached.value.limit == 2
        records = await store.list(user_ids[0], audience="web", now=NOW + SECOND)
        assert {record.id for record in records} == {found.record.id for found in kept}
        assert await find(store, expired.record, expired.digest) is not None

    async def test_the_limit_counts_only_live_records_of_the_audience(self, store: Store, user_id: Any) -> None:
        """Expired records and those of other audiences do not count towards the limit; records that never expire do."""
        await add(store, new_record(user_id, expires_at=NOW + SECOND))
        await add(store, new_record(user_id, audience="api"))
        await add(store, new_record(user_id, created_at=NOW + SECOND, expires_at=None), limit=1)

        with pytest.raises(TokenLimitReached):
            await add(store, new_record(user_id, created_at=NOW + SECOND), limit=1)

    async def test_a_replaced_record_makes_room(self, store: Store, user_id: Any) -> None:
        """At the limit, a new record may take the place of a record that it replaces."""
        old = await add(store, new_record(user_id), limit=1)

        new = await add(store, new_record(user_id), limit=1, replaces=[old.digest])

        assert await store.list(user_id, audience="web", now=NOW) == [new.record]

    @pytest.mark.parametrize(("limit_policy", "evicted"), [("evict_oldest", 0), ("evict_least_recently_used", 1)])
    async def test_the_limit_evicts(self, store: Store, user_id: Any, limit_policy: LimitPolicy, evicted: int) -> None:
        """At the limit, `add` removes the record that was created first, or the record unused for the longest time."""
        now = NOW + 10 * SECOND
        old_but_used = new_record(user_id, last_used_at=NOW + 9 * SECOND)
        new_but_unused = new_record(user_id, created_at=NOW + SECOND)
        await add(store, old_but_used)
        await add(store, new_but_unused)
        new = new_record(user_id, created_at=now)

        removed = await store.add(new, new_digest(), now=now, limit=2, limit_policy=limit_policy)

        assert list(removed.evicted) == [(old_but_used, new_but_unused)[evicted]]
        assert len(await store.list(user_id, audience="web", now=now)) == 2

    async def test_a_lowered_limit_takes_effect_at_the_next_login(self, store: Store, user_id: Any) -> None:
        """If the limit was lowered, `add` removes as many records as necessary to stay within the new limit."""
        for second in range(5):
            await add(store, new_record(user_id, created_at=NOW + second * SECOND))

        new = await add(store, new_record(user_id, created_at=NOW + HOUR / 2), limit=2, limit_policy="evict_oldest")

        left = await store.list(user_id, audience="web", now=NOW + HOUR / 2)
        assert [record.created_at for record in left] == [new.record.created_at, NOW + 4 * SECOND]

    @pytest.mark.parametrize("limit_policy", ["reject", "evict_oldest", "evict_least_recently_used"])
    async def test_the_limit_is_exact_under_concurrency(
        self, open_store: OpenStore, user_id: Any, limit_policy: LimitPolicy
    ) -> None:
        """After many simultaneous calls of `add`, the number of live records is exactly the limit."""

        async def login(store: Store) -> bool:
            try:
                await add(store, new_record(user_id), limit=5, limit_policy=limit_policy)
            except TokenLimitReached:
                return False
            return True

        succeeded = await at_once(open_store, login)

        async with open_store() as store:
            assert len(await store.list(user_id, audience="web", now=NOW)) == 5
        assert sum(succeeded) == (5 if limit_policy == "reject" else CALLERS)
