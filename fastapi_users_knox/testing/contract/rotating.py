"""What `rotate` promises."""

from typing import Any

from fastapi_users_knox.testing.contract.base import (
    CALLERS,
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

__all__ = ["RotatePromises"]


class RotatePromises(Promises):
    """Storing a record under a new digest."""

    async def test_rotate_changes_only_the_digest(self, store: Store, user_id: Any) -> None:
        """`rotate` stores the unchanged record under the new digest instead of the old digest."""
        added = await add(store, new_record(user_id, last_used_at=NOW, device_id="phone"))
        digest = new_digest()

        rotated = await store.rotate(added, digest, now=NOW + SECOND, created_since=added.record.created_at)

        found = await find(store, added.record, digest)
        assert rotated
        assert found is not None
        assert found.record == added.record
        assert await find(store, added.record, added.digest) is None

    async def test_of_many_rotations_one_succeeds(self, open_store: OpenStore, user_id: Any) -> None:
        """Of many simultaneous calls of `rotate`, exactly one returns `True`, and the digest of that call is stored."""
        async with open_store() as store:
            added = await add(store, new_record(user_id))
        digests = iter([new_digest() for _ in range(CALLERS)])

        async def rotate(store: Store) -> bytes | None:
            digest = next(digests)
            return digest if await store.rotate(added, digest, now=NOW) else None

        stored = [digest for digest in await at_once(open_store, rotate) if digest]

        assert len(stored) == 1
        async with open_store() as store:
            assert await find(store, added.record, stored[0]) is not None

    async def test_rotate_refuses_a_record_that_is_not_live(self, store: Store, user_id: Any) -> None:
        """`rotate` returns `False` for a record that has expired, is too old or has been removed."""
        expired = await add(store, new_record(user_id, expires_at=NOW + SECOND))
        old = await add(store, new_record(user_id))
        removed = await add(store, new_record(user_id))
        await store.remove(user_id, removed.record.id, audience="web", now=NOW)

        assert not await store.rotate(expired, new_digest(), now=NOW + SECOND)
        assert not await store.rotate(old, new_digest(), now=NOW, created_since=NOW + SECOND)
        assert not await store.rotate(removed, new_digest(), now=NOW)
