"""What `renew` promises."""

from dataclasses import replace
from datetime import datetime
from typing import Any

import pytest

from fastapi_users_knox.testing.contract.base import (
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
    presented,
)

__all__ = ["RenewPromises"]


class RenewPromises(Promises):
    """Recording that a token was used."""

    async def test_renew_writes_the_use_the_expiry_and_the_digest(self, store: Store, user_id: Any) -> None:
        """`renew` sets `last_used_at`, the expiry and the digest in one step, and nothing else."""
        added = await add(store, new_record(user_id))
        now, digest = NOW + HOUR / 2, new_digest()

        renewed = await store.renew(added, now=now, unused_since=now - SECOND, expires_at=now + HOUR, digest=digest)

        assert renewed
        assert await find(store, added.record, added.digest) is None
        found = await find(store, added.record, digest)
        assert found is not None
        assert found.record == replace(added.record, expires_at=now + HOUR, last_used_at=now)

    async def test_renew_writes_only_the_use_by_default(self, store: Store, user_id: Any) -> None:
        """`renew` changes neither the expiry nor the digest if no new expiry and no new digest is passed."""
        added = await add(store, new_record(user_id, expires_at=None))

        renewed = await store.renew(added, now=NOW + HOUR, unused_since=NOW + SECOND)

        found = await find(store, added.record, added.digest)
        assert renewed
        assert found is not None
        assert found.record == replace(added.record, last_used_at=NOW + HOUR)

    @pytest.mark.parametrize(("last_used_at", "unused_since"), [(NOW + SECOND, NOW + SECOND), (None, NOW)])
    async def test_renew_skips_a_record_that_was_used_lately(
        self, store: Store, user_id: Any, last_used_at: datetime | None, unused_since: datetime
    ) -> None:
        """`renew` writes nothing if the token was used or created at `unused_since` or later."""
        added = await add(store, new_record(user_id, last_used_at=last_used_at))

        renewed = await store.renew(added, now=NOW + 2 * SECOND, unused_since=unused_since, expires_at=NOW + 2 * HOUR)

        found = await find(store, added.record, added.digest)
        assert not renewed
        assert found is not None
        assert found.record == added.record

    @pytest.mark.parametrize("expires_at", [NOW + HOUR, None])
    async def test_renew_never_moves_the_expiry_back(
        self, store: Store, user_id: Any, expires_at: datetime | None
    ) -> None:
        """`renew` does not store an expiry that is earlier than the stored expiry."""
        added = await add(store, new_record(user_id, expires_at=expires_at))

        await store.renew(added, now=NOW + HOUR / 2, unused_since=NOW + SECOND, expires_at=NOW + HOUR - SECOND)

        found = await find(store, added.record, added.digest)
        assert found is not None
        assert found.record.expires_at == expires_at

    @pytest.mark.parametrize("created_since", [None, NOW + SECOND])
    async def test_renew_skips_a_record_that_is_not_live(
        self, store: Store, user_id: Any, created_since: datetime | None
    ) -> None:
        """`renew` writes nothing to a record that has expired or was created before `created_since`."""
        expires_at = NOW + HOUR if created_since is None else None
        added = await add(store, new_record(user_id, expires_at=expires_at))
        now = NOW + HOUR

        renewed = await store.renew(
            added, now=now, unused_since=NOW + SECOND, created_since=created_since, expires_at=now + HOUR
        )

        found = await find(store, added.record, added.digest)
        assert not renewed
        assert found is not None
        assert found.record == added.record

    async def test_renew_skips_a_record_that_was_rotated(self, store: Store, user_id: Any) -> None:
        """`renew` writes nothing if the record's digest has changed since the record was found."""
        added = await add(store, new_record(user_id))
        digest = new_digest()
        await store.rotate(added, digest, now=NOW)

        renewed = await store.renew(added, now=NOW + HOUR / 2, unused_since=NOW + SECOND, digest=new_digest())

        found = await find(store, added.record, digest)
        assert not renewed
        assert found is not None
        assert found.record == added.record

    async def test_renew_skips_a_record_that_was_removed(self, store: Store, user_id: Any) -> None:
        """`renew` does not store a removed record again, neither under the old digest nor under the new one."""
        added = await add(store, new_record(user_id))
        digest = new_digest()
        await store.remove(user_id, added.record.id, audience="web", now=NOW)

        renewed = await store.renew(added, now=NOW + HOUR / 2, unused_since=NOW + SECOND, digest=digest)

        assert not renewed
        assert await store.get(presented(user_id, added.digest, digest), audience="web") is None

    async def test_of_many_renewals_one_writes(self, open_store: OpenStore, user_id: Any) -> None:
        """Of many simultaneous calls of `renew`, exactly one writes."""
        async with open_store() as store:
            added = await add(store, new_record(user_id))
        now = NOW + HOUR / 2

        renewed = await at_once(
            open_store,
            lambda store: store.renew(added, now=now, unused_since=now - SECOND, expires_at=now + HOUR),
        )

        assert sum(renewed) == 1
