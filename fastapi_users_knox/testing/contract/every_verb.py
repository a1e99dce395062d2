"""What all verbs promise: the caller's time decides, effects are durable, and no removed record comes back."""

from dataclasses import replace
from typing import Any

import pytest

from fastapi_users_knox.records import Found
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

__all__ = ["EveryVerbPromises"]


class EveryVerbPromises(Promises):
    """The promises that concern several verbs."""

    @pytest.mark.parametrize("year", [1999, 2199])
    async def test_the_caller_passes_the_time(self, store: Store, user_id: Any, year: int) -> None:
        """A store does not read a clock: the time that the caller passes decides whether a record is live."""
        created_at = NOW.replace(year=year)
        added = await add(store, new_record(user_id, created_at=created_at, expires_at=created_at + HOUR))

        before = await store.list(user_id, audience="web", now=created_at + HOUR - SECOND)
        after = await store.list(user_id, audience="web", now=created_at + HOUR)

        assert (list(before), list(after)) == ([added.record], [])

    async def test_a_record_is_durable_once_the_verb_has_returned(self, open_store: OpenStore, user_id: Any) -> None:
        """As soon as `add`, `rotate` or `renew` has returned, another store sees what it has stored."""
        rotated, renewed = new_digest(), new_digest()
        async with open_store() as store:
            added = await add(store, new_record(user_id))
            seen = [await _is_stored(open_store, added)]
            await store.rotate(added, rotated, now=NOW)
            seen.append(await _is_stored(open_store, replace(added, digest=rotated)))
            found = replace(added, digest=rotated)
            await store.renew(found, now=NOW + HOUR / 2, unused_since=NOW + SECOND, digest=renewed)
            seen.append(await _is_stored(open_store, replace(added, digest=renewed)))

        assert seen == [True, True, True]

    async def test_a_removal_is_durable_once_the_verb_has_returned(self, open_store: OpenStore, user_id: Any) -> None:
        """As soon as `remove`, `remove_all` or `purge` has returned, no store sees the removed records any more."""
        async with open_store() as store:
            first = await add(store, new_record(user_id))
            await store.remove(user_id, first.record.id, audience="web", now=NOW)
            seen = [await _is_stored(open_store, first)]
            second = await add(store, new_record(user_id))
            await store.remove_all(user_id, audience="web", now=NOW)
            seen.append(await _is_stored(open_store, second))
            third = await add(store, new_record(user_id))
            await store.purge(audience="web", now=NOW + HOUR)
            seen.append(await _is_stored(open_store, third))

        assert seen == [False, False, False]

    async def test_a_removed_record_stays_removed(self, open_store: OpenStore, user_id: Any) -> None:
        """A renewal or rotation that runs at the same time as a removal does not make the token valid again."""
        async with open_store() as store:
            added = [await add(store, new_record(user_id)) for _ in range(CALLERS)]
        turns = iter(range(CALLERS))

        async def touch(store: Store) -> None:
            turn = next(turns)
            found, now = added[turn // 4], NOW + HOUR / 2
            match turn % 4:
                case 0:
                    await store.renew(found, now=now, unused_since=now - SECOND, expires_at=now + HOUR)
                case 1:
                    await store.rotate(found, new_digest(), now=now)
                case 2:
                    await store.renew(found, now=now, unused_since=now - SECOND, digest=new_digest())
                case _:
                    await store.remove(user_id, found.record.id, audience="web", now=now)

        await at_once(open_store, touch)

        async with open_store() as store:
            left = {record.id for record in await store.list(user_id, audience="web", now=NOW)}
            assert left == {found.record.id for found in added[CALLERS // 4 :]}


async def _is_stored(open_store: OpenStore, expected: Found[Any, Any]) -> bool:
    """Return whether another store finds the record under the digest."""
    async with open_store() as other:
        return await find(other, expected.record, expected.digest) is not None
