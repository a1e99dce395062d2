"""What `remove` and `remove_all` promise."""

from collections.abc import Sequence
from typing import Any
from uuid import uuid4

import pytest

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

__all__ = ["RemoveAllPromises", "RemovePromises"]


class RemovePromises(Promises):
    """Removing one record of a user."""

    async def test_remove_removes_one_record(self, store: Store, user_id: Any) -> None:
        """`remove` removes and returns the record with the id, and keeps all other records."""
        gone, kept = await add(store, new_record(user_id)), await add(store, new_record(user_id))

        removed = await store.remove(user_id, gone.record.id, audience="web", now=NOW)

        assert removed == gone.record
        assert await find(store, gone.record, gone.digest) is None
        assert await find(store, kept.record, kept.digest) is not None

    async def test_remove_keeps_other_users_and_audiences(self, store: Store, user_ids: Sequence[Any]) -> None:
        """`remove` returns `None` and removes nothing for another user's id, another audience or an unknown id."""
        added = await add(store, new_record(user_ids[0]))

        assert await store.remove(user_ids[1], added.record.id, audience="web", now=NOW) is None
        assert await store.remove(user_ids[0], added.record.id, audience="api", now=NOW) is None
        assert await store.remove(user_ids[0], uuid4(), audience="web", now=NOW) is None
        assert await find(store, added.record, added.digest) is not None

    async def test_remove_returns_only_a_live_record(self, store: Store, user_id: Any) -> None:
        """`remove` removes a record even if it has expired or is too old, but returns `None` for such a record."""
        expired = await add(store, new_record(user_id, expires_at=NOW + SECOND))
        old = await add(store, new_record(user_id))

        removed = [
            await store.remove(user_id, expired.record.id, audience="web", now=NOW + SECOND),
            await store.remove(user_id, old.record.id, audience="web", now=NOW, created_since=NOW + SECOND),
        ]

        assert removed == [None, None]
        for gone in (expired, old):
            assert await find(store, gone.record, gone.digest) is None

    async def test_of_many_removals_one_returns_the_record(self, open_store: OpenStore, user_id: Any) -> None:
        """Of many simultaneous calls of `remove`, exactly one returns the record."""
        async with open_store() as store:
            added = await add(store, new_record(user_id))

        removed = await at_once(
            open_store, lambda store: store.remove(user_id, added.record.id, audience="web", now=NOW)
        )

        assert [record for record in removed if record] == [added.record]


class RemoveAllPromises(Promises):
    """Removing every record of a user."""

    async def test_remove_all_removes_all_of_the_user_and_audience(self, store: Store, user_ids: Sequence[Any]) -> None:
        """`remove_all` removes every record of the user and audience, live or not, and returns the live records."""
        live = [await add(store, new_record(user_ids[0])) for _ in range(3)]
        expired = await add(store, new_record(user_ids[0], expires_at=NOW + SECOND))
        old = await add(store, new_record(user_ids[0], created_at=NOW - SECOND))
        foreign = await add(store, new_record(user_ids[1]))
        other = await add(store, new_record(user_ids[0], audience="api"))

        removed = await store.remove_all(user_ids[0], audience="web", now=NOW + SECOND, created_since=NOW)

        assert {record.id for record in removed} == {found.record.id for found in live}
        for gone in (*live, expired, old):
            assert await find(store, gone.record, gone.digest) is None
        for kept in (foreign, other):
            assert await find(store, kept.record, kept.digest) is not None

    async def test_remove_all_keeps_the_one_to_keep(self, store: Store, user_id: Any) -> None:
        """`remove_all` keeps the record with the id `keep`, and does not return it."""
        kept, gone = await add(store, new_record(user_id)), await add(store, new_record(user_id))

        removed = await store.remove_all(user_id, audience="web", now=NOW, keep=kept.record.id)

        assert list(removed) == [gone.record]
        assert await find(store, kept.record, kept.digest) is not None

    async def test_remove_all_may_keep_records_with_scopes(self, store: Store, user_id: Any) -> None:
        """With `keep_scoped`, `remove_all` keeps each record whose scopes are not `None`, in every audience."""
        scopes = (None, frozenset[str](), frozenset({"reports:read"}))
        added = [
            await add(store, new_record(user_id, audience=audience, scopes=each))
            for audience in ("web", "api")
            for each in scopes
        ]
        kept = await add(store, new_record(user_id))

        removed = await store.remove_all(user_id, audience=None, now=NOW, keep=kept.record.id, keep_scoped=True)

        sessions = [found.record.id for found in added if found.record.scopes is None]
        assert sorted(record.id for record in removed) == sorted(sessions)
        for found in (*added, kept):
            assert (await find(store, found.record, found.digest) is None) == (found.record.id in sessions)

    async def test_remove_all_keeps_records_with_scopes_in_every_audience_only(
        self, store: Store, user_id: Any
    ) -> None:
        """`keep_scoped` with an audience is an error, and removes nothing."""
        added = await add(store, new_record(user_id))

        with pytest.raises(ValueError, match="keep_scoped"):
            await store.remove_all(user_id, audience="web", now=NOW, keep_scoped=True)

        assert await find(store, added.record, added.digest) is not None

    async def test_remove_all_removes_every_audience(self, store: Store, user_ids: Sequence[Any]) -> None:
        """If the audience is `None`, `remove_all` removes the records of every audience."""
        added = [await add(store, new_record(user_ids[0], audience=audience)) for audience in ("", "web", "api")]
        foreign = await add(store, new_record(user_ids[1]))

        removed = await store.remove_all(user_ids[0], audience=None, now=NOW)

        assert {record.id for record in removed} == {found.record.id for found in added}
        for gone in added:
            assert await find(store, gone.record, gone.digest) is None
        assert await find(store, foreign.record, foreign.digest) is not None

    async def test_remove_all_meets_renewals_and_rotations(self, open_store: OpenStore, user_id: Any) -> None:
        """`remove_all` also removes a record that is renewed or rotated at the same time."""
        async with open_store() as store:
            added = [await add(store, new_record(user_id)) for _ in range(CALLERS)]
        turns, now = iter(range(CALLERS)), NOW + HOUR / 2

        async def touch(store: Store) -> None:
            turn = next(turns)
            if turn == CALLERS // 2:
                await store.remove_all(user_id, audience="web", now=now)
            elif turn % 2:
                await store.rotate(added[turn], new_digest(), now=now)
            else:
                await store.renew(added[turn], now=now, unused_since=now - SECOND, expires_at=now + HOUR)

        await at_once(open_store, touch)

        async with open_store() as store:
            assert not await store.list(user_id, audience="web", now=NOW)
