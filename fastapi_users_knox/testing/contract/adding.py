"""What `add` promises, except for the limit."""

from collections.abc import Sequence
from typing import Any
from uuid import uuid4

import pytest

from fastapi_users_knox.errors import CredentialsChanged, InvalidToken
from fastapi_users_knox.records import Credentials
from fastapi_users_knox.testing.contract.base import (
    FEW_CALLERS,
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

__all__ = ["AddPromises"]


class AddPromises(Promises):
    """Storing the record of a new token."""

    async def test_add_stores_a_record_that_never_expires(self, store: Store, user_id: Any) -> None:
        """A record with the expiry `None` never expires."""
        added = await add(store, new_record(user_id, expires_at=None))

        assert await store.list(user_id, audience="web", now=NOW + 876_600 * HOUR) == [added.record]

    async def test_add_removes_records_that_are_not_live(self, store: Store, user_ids: Sequence[Any]) -> None:
        """`add` removes and returns those records of the same user and audience that have expired or are too old."""
        expired = await add(store, new_record(user_ids[0], expires_at=NOW + SECOND))
        old = await add(store, new_record(user_ids[0], created_at=NOW - HOUR, expires_at=None))
        foreign = await add(store, new_record(user_ids[1], expires_at=NOW + SECOND))
        other = await add(store, new_record(user_ids[0], expires_at=NOW + SECOND, audience="api"))
        new = new_record(user_ids[0], created_at=NOW + SECOND)

        removed = await store.add(new, new_digest(), now=NOW + SECOND, created_since=NOW)

        assert {record.id for record in removed.expired} == {expired.record.id, old.record.id}
        assert (removed.replaced, removed.evicted) == ((), ())
        for gone in (expired, old):
            assert await find(store, gone.record, gone.digest) is None
        for kept in (foreign, other):
            assert await find(store, kept.record, kept.digest) is not None

    async def test_add_removes_the_records_that_it_replaces(self, store: Store, user_ids: Sequence[Any]) -> None:
        """`add` removes and returns the user's records in this audience whose digests are in `replaces`."""
        mine = await add(store, new_record(user_ids[0]))
        foreign = await add(store, new_record(user_ids[1]))
        other = await add(store, new_record(user_ids[0], audience="api"))
        digests = [mine.digest, foreign.digest, other.digest, new_digest()]

        removed = await store.add(new_record(user_ids[0]), new_digest(), now=NOW, replaces=digests)

        assert list(removed.replaced) == [mine.record]
        assert await find(store, mine.record, mine.digest) is None
        for kept in (foreign, other):
            assert await find(store, kept.record, kept.digest) is not None

    async def test_add_removes_the_record_of_the_same_device(self, store: Store, user_ids: Sequence[Any]) -> None:
        """`add` removes and returns the record of the same user, audience and `device_id`."""
        phone = await add(store, new_record(user_ids[0], device_id="phone"))
        tablet = await add(store, new_record(user_ids[0], device_id="Phone"))
        unnamed = await add(store, new_record(user_ids[0]))
        foreign = await add(store, new_record(user_ids[1], device_id="phone"))
        other = await add(store, new_record(user_ids[0], device_id="phone", audience="api"))

        removed = await store.add(new_record(user_ids[0], device_id="phone"), new_digest(), now=NOW)

        assert list(removed.replaced) == [phone.record]
        assert await find(store, phone.record, phone.digest) is None
        for kept in (tablet, unnamed, foreign, other):
            assert await find(store, kept.record, kept.digest) is not None

    async def test_add_checks_credentials_if_the_store_sees_users(self, store: Store, user_id: Any) -> None:
        """If the user's credentials have changed, a store that sees the users stores nothing."""
        wrong = Credentials(hashed_password="the hash of another password", is_active=True)

        try:
            await add(store, new_record(user_id), credentials=wrong)
        except CredentialsChanged:
            is_refused = True
        else:
            is_refused = False

        assert is_refused == store.sees_users
        assert bool(await store.list(user_id, audience="web", now=NOW)) != is_refused

    # Records that are issued on the authority of another record

    async def test_add_by_a_live_record(self, store: Store, user_id: Any) -> None:
        """The record `by` may have any audience, and `add` does not remove it."""
        by = await add(store, new_record(user_id, expires_at=None))

        added = await add(store, new_record(user_id, audience="api"), by=by.record.id)

        assert await find(store, added.record, added.digest) is not None
        assert await find(store, by.record, by.digest) is not None

    async def test_add_by_a_record_that_is_gone(self, store: Store, user_ids: Sequence[Any]) -> None:
        """If the record `by` is removed, expired or unknown, or belongs to another user, `add` changes nothing."""
        removed = await add(store, new_record(user_ids[0]))
        await store.remove(user_ids[0], removed.record.id, audience="web", now=NOW)
        expired = await add(store, new_record(user_ids[0], expires_at=NOW + SECOND))
        foreign = await add(store, new_record(user_ids[1]))

        for by in (removed.record.id, expired.record.id, foreign.record.id, uuid4()):
            new = new_record(user_ids[0], created_at=NOW + SECOND)
            with pytest.raises(InvalidToken):
                await store.add(new, new_digest(), now=NOW + SECOND, by=by)

        assert not await store.list(user_ids[0], audience="web", now=NOW + SECOND)
        assert await find(store, expired.record, expired.digest) is not None

    async def test_add_by_the_record_that_it_replaces(self, store: Store, user_id: Any) -> None:
        """The record `by` may be the record that the new record replaces."""
        by = await add(store, new_record(user_id), limit=1)

        added = await add(store, new_record(user_id), by=by.record.id, replaces=[by.digest], limit=1)

        assert await store.list(user_id, audience="web", now=NOW) == [added.record]

    @pytest.mark.parametrize("audience", [None, "web"])
    async def test_add_by_meets_remove_all(self, open_store: OpenStore, user_id: Any, audience: str | None) -> None:
        """After `remove_all` has removed the record `by`, no record that `add` stored by that record remains."""
        async with open_store() as store:
            by = await add(store, new_record(user_id))
        turns = iter(range(FEW_CALLERS))

        async def issue_until_refused(store: Store) -> None:
            while True:
                await add(store, new_record(user_id), by=by.record.id)

        async def call(store: Store) -> None:
            turn = next(turns)
            if turn == FEW_CALLERS // 2:
                await store.remove_all(user_id, audience=audience, now=NOW)
                return
            with pytest.raises(InvalidToken):
                await issue_until_refused(store)

        await at_once(open_store, call, callers=FEW_CALLERS)

        async with open_store() as store:
            assert not await store.list(user_id, audience="web", now=NOW)
