"""What `add` promises about the record that a new one replaces later."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from fastapi_users_knox.errors import InvalidToken, TokenLimitReached
from fastapi_users_knox.records import Found, Roll
from fastapi_users_knox.testing.contract.base import (
    CALLERS,
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

__all__ = ["RollPromises"]


def _roll(old: Found[Any, Any], seconds: float) -> Roll[Any]:
    return Roll(record=old.record, until=NOW + timedelta(seconds=seconds))


class RollPromises(Promises):
    """Storing a record that replaces another one, which stays live for some time."""

    @pytest.mark.parametrize(
        "fields",
        [{"scopes": frozenset({"a"}), "data": {"b": [1]}}, {"audience": ""}, {"audience": "", "expires_at": None}],
    )
    async def test_a_rolled_record_expires_later(self, store: Store, user_id: Any, fields: dict[str, Any]) -> None:
        """The record of `roll` stays as it is, except that it expires at `until`."""
        old, until = await add(store, new_record(user_id, **fields)), NOW + timedelta(seconds=60)
        audience = old.record.audience

        new = await add(store, new_record(user_id, audience=audience), roll=_roll(old, 60))

        rolled = await find(store, old.record, old.digest)
        assert rolled is not None
        expected = replace(old.record, expires_at=until, token_ttl=timedelta(0))
        assert rolled.record == expected
        assert set(await store.list(user_id, audience=audience, now=NOW)) == {expected, new.record}
        assert list(await store.list(user_id, audience=audience, now=until)) == [new.record]
        assert await store.purge(audience=audience, now=until) == 1

    async def test_a_rolled_record_may_end_at_once(self, store: Store, user_id: Any) -> None:
        """If `until` is not in the future, the record is removed and returned as replaced, and counts no longer."""
        old = await add(store, new_record(user_id), limit=1)
        new = new_record(user_id)

        removed = await store.add(new, new_digest(), now=NOW, limit=1, roll=_roll(old, 0))

        assert (removed.replaced, removed.evicted, removed.expired) == ((old.record,), (), ())
        assert await store.list(user_id, audience="web", now=NOW) == [new]

    async def test_a_rolled_record_never_lives_longer(self, store: Store, user_id: Any) -> None:
        """`roll` never moves the expiry to a later time: not by `until`, and not by a later renewal."""
        short = await add(store, new_record(user_id, expires_at=NOW + SECOND))
        long = await add(store, new_record(user_id))
        await add(store, new_record(user_id), roll=_roll(short, 60))
        await add(store, new_record(user_id), roll=_roll(long, 60))

        now = NOW + SECOND / 2
        renewed = await store.renew(long, now=now, unused_since=now, expires_at=NOW + 2 * HOUR)

        ends = [
            found.record.expires_at for old in (short, long) if (found := await find(store, old.record, old.digest))
        ]
        assert renewed is False
        assert ends == [NOW + SECOND - timedelta(milliseconds=1), NOW + timedelta(seconds=60)]

    async def test_a_roll_needs_the_record_as_it_was_read(self, store: Store, user_ids: Sequence[Any]) -> None:
        """If the record is gone, expired, too old or changed, or of another user or audience, nothing is changed."""
        gone = await add(store, new_record(user_ids[0]))
        await store.remove(user_ids[0], gone.record.id, audience="web", now=NOW)
        expired = await add(store, new_record(user_ids[0], expires_at=NOW))
        old = await add(store, new_record(user_ids[0], created_at=NOW - HOUR))
        foreign = await add(store, new_record(user_ids[1]))
        other = await add(store, new_record(user_ids[0], audience="api"))
        changed = await add(store, new_record(user_ids[0]))
        earlier = replace(changed, record=replace(changed.record, expires_at=None))

        options = {"created_since": NOW - SECOND, "limit": 1, "limit_policy": "evict_oldest"}

        for seen in (gone, expired, old, foreign, other, earlier):
            for seconds in (0, 60):
                with pytest.raises(InvalidToken):
                    await add(store, new_record(user_ids[0]), roll=_roll(seen, seconds), **options)

        listed = await store.list(user_ids[0], audience="web", now=NOW, created_since=NOW - SECOND)
        assert list(listed) == [changed.record]
        for kept in (foreign, other):
            found = await find(store, kept.record, kept.digest)
            assert found is not None
            assert found.record == kept.record

    async def test_a_roll_obeys_the_limit(self, store: Store, user_id: Any) -> None:
        """As long as the record of `roll` is live, it counts for the limit; a refusal does not change it."""
        old = await add(store, new_record(user_id), limit=1)

        with pytest.raises(TokenLimitReached):
            await add(store, new_record(user_id), limit=1, roll=_roll(old, 60))

        assert await store.list(user_id, audience="web", now=NOW) == [old.record]

    async def test_a_rolled_record_may_be_evicted(self, store: Store, user_id: Any) -> None:
        """If the record of `roll` is the one to evict, it is evicted like any other."""
        old = await add(store, new_record(user_id, created_at=NOW - SECOND))
        new, roll = new_record(user_id), _roll(old, 60)

        removed = await store.add(new, new_digest(), now=NOW, limit=1, limit_policy="evict_oldest", roll=roll)

        assert [record.id for record in removed.evicted] == [old.record.id]
        assert await store.list(user_id, audience="web", now=NOW) == [new]

    @pytest.mark.parametrize("seconds", [0, 60, 7200])
    async def test_of_many_rolls_one_stores_its_record(
        self, open_store: OpenStore, user_id: Any, seconds: float
    ) -> None:
        """Of many simultaneous calls with the same `roll`, exactly one stores its record."""
        async with open_store() as store:
            old = await add(store, new_record(user_id))

        async def call(store: Store) -> bool:
            try:
                await add(store, new_record(user_id), roll=_roll(old, seconds))
            except InvalidToken:
                return False
            return True

        outcomes = await at_once(open_store, call, callers=FEW_CALLERS)

        async with open_store() as store:
            listed = await store.list(user_id, audience="web", now=NOW)
        assert outcomes.count(True) == 1
        assert len([record for record in listed if record.id != old.record.id]) == 1

    async def test_a_roll_meets_the_removal_of_its_record(self, open_store: OpenStore, user_id: Any) -> None:
        """After `remove` has returned the record of `roll`, a roll of that record stores nothing more."""
        async with open_store() as store:
            olds = [await add(store, new_record(user_id)) for _ in range(CALLERS // 2)]
        turns = iter(range(CALLERS))

        async def call(store: Store) -> tuple[Any, str] | None:
            turn = next(turns)
            old = olds[turn // 2]
            if turn % 2:
                removed = await store.remove(user_id, old.record.id, audience="web", now=NOW)
                with pytest.raises(InvalidToken):
                    await add(store, new_record(user_id), roll=_roll(old, 60))
                return None if removed is None else (old.record.id, "removed")
            try:
                await add(store, new_record(user_id, name=str(old.record.id)), roll=_roll(old, 60))
            except InvalidToken:
                return None
            return old.record.id, "rolled"

        outcomes = [outcome for outcome in await at_once(open_store, call) if outcome]

        async with open_store() as store:
            listed = await store.list(user_id, audience="web", now=NOW)
        rolled = {str(id_) for id_, what in outcomes if what == "rolled"}
        assert {id_ for id_, what in outcomes if what == "removed"} == {old.record.id for old in olds}
        assert {record.name for record in listed} == rolled
