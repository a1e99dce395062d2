"""The store contract as a pytest suite, for every store, other people's too: subclass it and give it three fixtures.

Each test is one promise of `TokenStore`. Time is told, so nothing sleeps; concurrency is real, over as many stores as
there are callers. The tests are asynchronous and run by anyio's pytest plugin, on asyncio.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any, ClassVar, TypeVar
from uuid import uuid4

import pytest

from fastapi_users_knox import tokens
from fastapi_users_knox.errors import InvalidToken, KnoxError, StoreUnavailable, TokenLimitReached
from fastapi_users_knox.records import Found, LimitPolicy, TokenRecord
from fastapi_users_knox.store import TokenStore
from fastapi_users_knox.tokens import PresentedToken

__all__ = ["OpenStore", "TokenStoreContract", "new_digest", "new_record"]

NOW = datetime(2030, 1, 1, 12, tzinfo=UTC)
SECOND = timedelta(seconds=1)
HOUR = timedelta(hours=1)
CALLERS = 12
FEW_CALLERS = 5  # where each calls again and again: SQLite is in no order, so that one of many may wait for long

T = TypeVar("T")
Store = TokenStore[Any, Any]
OpenStore = Callable[[], AbstractAsyncContextManager[Store]]


def new_digest() -> bytes:
    """Make the digest of a token nobody has."""
    return tokens.digest(tokens.generate("00", prefix=""))


def new_record(user_id: object, **fields: Any) -> TokenRecord[Any]:
    """Make a record of a login at `NOW`, that lives an hour."""
    usual = TokenRecord(id=uuid4(), user_id=user_id, audience="web", created_at=NOW, expires_at=NOW + HOUR)
    return replace(usual, **fields)


def presented(user_id: object, *digests: bytes) -> PresentedToken:
    """Make what a strategy passes to `get`: a token of this user that may be stored under these digests."""
    return PresentedToken(tag=tokens.routing_tag(user_id), digests=digests)


async def find(store: Store, record: TokenRecord[Any], digest: bytes) -> Found[Any, Any] | None:
    """Ask for a digest as a strategy of the record's audience does."""
    return await store.get(presented(record.user_id, digest), audience=record.audience)


async def add(store: Store, record: TokenRecord[Any], **options: Any) -> Found[Any, Any]:
    """Add a record under a new digest, at the time of its creation, and return it as `get` would."""
    digest = new_digest()
    await store.add(record, digest, now=record.created_at, **options)
    return Found(record=record, digest=digest)


class TokenStoreContract:
    """What every token store must do.

    A subclass gives the fixtures `open_store`, a callable that opens a store on a connection of its own, for as long
    as its context lasts; `user_ids`, the ids of two users that exist; and `lost_store`, a store that cannot be reached.
    """

    pytestmark: ClassVar[pytest.MarkDecorator] = pytest.mark.anyio

    @pytest.fixture
    def anyio_backend(self) -> str:
        """Run on asyncio."""
        return "asyncio"

    @pytest.fixture
    async def store(self, open_store: OpenStore) -> AsyncIterator[Store]:
        """Open the store that most tests use."""
        async with open_store() as store:
            yield store

    @pytest.fixture
    def user_id(self, user_ids: Sequence[Any]) -> Any:
        """Name the user that most tests use."""
        return user_ids[0]

    # add and get

    async def test_what_was_added_is_found(self, store: Store, user_id: Any) -> None:
        """A record comes back with every field as it was, its times to the millisecond and aware."""
        record = new_record(
            user_id,
            created_at=NOW + timedelta(milliseconds=123),
            expires_at=NOW + timedelta(milliseconds=456),
            last_used_at=NOW + timedelta(milliseconds=234),
            name="Käthe's phone 📱",
            device_id="device",
            user_agent="curl/8",
            ip_address="2001:db8::1",
            authenticated_at=NOW - HOUR - timedelta(milliseconds=1),
        )

        added = await add(store, record)

        found = await find(store, record, added.digest)
        assert found is not None
        assert (found.record, found.digest) == (record, added.digest)

    async def test_a_record_that_never_expires_stays(self, store: Store, user_id: Any) -> None:
        """An expiry of `None` means never."""
        added = await add(store, new_record(user_id, expires_at=None))

        assert await store.list(user_id, audience="web", now=NOW + timedelta(days=36525)) == [added.record]

    async def test_unknown_digests_are_not_found(self, store: Store, user_id: Any) -> None:
        """A digest that nothing is stored under gives `None`."""
        added = await add(store, new_record(user_id))

        assert await find(store, added.record, new_digest()) is None

    async def test_any_of_the_digests_finds(self, store: Store, user_id: Any) -> None:
        """Of several digests asked for, the one that matched is told."""
        added = await add(store, new_record(user_id))

        found = await store.get(presented(user_id, new_digest(), added.digest), audience="web")

        assert found is not None
        assert found.digest == added.digest

    async def test_another_audience_does_not_find(self, store: Store, user_id: Any) -> None:
        """A record is found for its own audience alone, to the letter's case."""
        added = await add(store, new_record(user_id))

        assert await find(store, replace(added.record, audience="Web"), added.digest) is None
        assert await find(store, replace(added.record, audience=""), added.digest) is None

    async def test_dead_records_are_found_as_they_are(self, store: Store, user_id: Any) -> None:
        """`get` does not judge: whoever asks sees that the record has expired."""
        added = await add(store, new_record(user_id, expires_at=NOW + SECOND))

        found = await find(store, added.record, added.digest)

        assert found is not None
        assert not found.record.is_live(NOW + SECOND)

    async def test_add_ends_the_dead_and_tells(self, store: Store, user_ids: Sequence[Any]) -> None:
        """A login ends its user's dead records, by expiry and by age, and no one else's."""
        expired = await add(store, new_record(user_ids[0], expires_at=NOW + SECOND))
        old = await add(store, new_record(user_ids[0], created_at=NOW - HOUR, expires_at=None))
        foreign = await add(store, new_record(user_ids[1], expires_at=NOW + SECOND))
        other = await add(store, new_record(user_ids[0], expires_at=NOW + SECOND, audience="api"))
        new = new_record(user_ids[0], created_at=NOW + SECOND)

        ended = await store.add(new, new_digest(), now=NOW + SECOND, created_since=NOW)

        assert {record.id for record in ended.expired} == {expired.record.id, old.record.id}
        assert (ended.replaced, ended.evicted) == ((), ())
        assert await find(store, expired.record, expired.digest) is None
        assert await find(store, foreign.record, foreign.digest) is not None
        assert await find(store, other.record, other.digest) is not None

    async def test_add_ends_what_it_replaces(self, store: Store, user_ids: Sequence[Any]) -> None:
        """A login ends the presented token of its own user, and leaves another user's alone."""
        mine = await add(store, new_record(user_ids[0]))
        foreign = await add(store, new_record(user_ids[1]))
        digests = [mine.digest, foreign.digest, new_digest()]

        ended = await store.add(new_record(user_ids[0]), new_digest(), now=NOW, replaces=digests)

        assert list(ended.replaced) == [mine.record]
        assert await find(store, mine.record, mine.digest) is None
        assert await find(store, foreign.record, foreign.digest) is not None

    async def test_add_ends_the_record_of_the_same_device(self, store: Store, user_ids: Sequence[Any]) -> None:
        """A device never holds two records of one user and audience."""
        phone = await add(store, new_record(user_ids[0], device_id="phone"))
        tablet = await add(store, new_record(user_ids[0], device_id="Phone"))
        unnamed = await add(store, new_record(user_ids[0]))
        foreign = await add(store, new_record(user_ids[1], device_id="phone"))

        ended = await store.add(new_record(user_ids[0], device_id="phone"), new_digest(), now=NOW)

        assert list(ended.replaced) == [phone.record]
        for kept in (tablet, unnamed, foreign):
            assert await find(store, kept.record, kept.digest) is not None

    # by: on the strength of another record

    async def test_add_by_a_live_record(self, store: Store, user_id: Any) -> None:
        """A record is stored on the strength of a live one of the same user, whichever audience that has."""
        by = await add(store, new_record(user_id, expires_at=None))

        added = await add(store, new_record(user_id, audience="api"), by=by.record.id)

        assert await find(store, added.record, added.digest) is not None
        assert await find(store, by.record, by.digest) is not None

    async def test_add_by_a_record_that_is_gone(self, store: Store, user_ids: Sequence[Any]) -> None:
        """On the strength of a removed, an expired, an unknown or another user's record nothing is stored or ended."""
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

    async def test_add_by_what_it_replaces(self, store: Store, user_id: Any) -> None:
        """The record on whose strength another is stored may be the one that it replaces."""
        by = await add(store, new_record(user_id), limit=1)

        added = await add(store, new_record(user_id), by=by.record.id, replaces=[by.digest], limit=1)

        assert await store.list(user_id, audience="web", now=NOW) == [added.record]

    @pytest.mark.parametrize("audience", [None, "web"])
    async def test_add_by_meets_remove_all(self, open_store: OpenStore, user_id: Any, audience: str | None) -> None:
        """No record stored on the strength of another outlives a logout-all that ends that one."""
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

    # the limit

    async def test_the_limit_rejects(self, store: Store, user_ids: Sequence[Any]) -> None:
        """At the limit a login raises, with the limit told, and nothing is added or ended."""
        kept = [await add(store, new_record(user_ids[0]), limit=2) for _ in range(2)]
        await add(store, new_record(user_ids[1]), limit=2)

        with pytest.raises(TokenLimitReached) as reached:
            await add(store, new_record(user_ids[0], created_at=NOW + SECOND), limit=2)

        assert reached.value.limit == 2
        records = await store.list(user_ids[0], audience="web", now=NOW)
        assert {record.id for record in records} == {found.record.id for found in kept}

    async def test_the_limit_counts_only_live_records_of_the_audience(self, store: Store, user_id: Any) -> None:
        """Dead records and other audiences' take no place; records that never expire do."""
        await add(store, new_record(user_id, expires_at=NOW + SECOND))
        await add(store, new_record(user_id, audience="api"))
        await add(store, new_record(user_id, created_at=NOW + SECOND, expires_at=None), limit=1)

        with pytest.raises(TokenLimitReached):
            await add(store, new_record(user_id, created_at=NOW + SECOND), limit=1)

    async def test_what_is_replaced_makes_room(self, store: Store, user_id: Any) -> None:
        """At the limit, a login that presents a token takes that token's place."""
        old = await add(store, new_record(user_id), limit=1)

        new = await add(store, new_record(user_id), limit=1, replaces=[old.digest])

        assert await store.list(user_id, audience="web", now=NOW) == [new.record]

    @pytest.mark.parametrize(("limit_policy", "evicted"), [("evict_oldest", 0), ("evict_least_recently_used", 1)])
    async def test_the_limit_evicts(self, store: Store, user_id: Any, limit_policy: LimitPolicy, evicted: int) -> None:
        """At the limit a login ends the record that was made first, or the one whose last use is longest ago."""
        now = NOW + 10 * SECOND
        old_but_used = new_record(user_id, last_used_at=NOW + 9 * SECOND)
        new_but_unused = new_record(user_id, created_at=NOW + SECOND)
        await add(store, old_but_used)
        await add(store, new_but_unused)
        new = new_record(user_id, created_at=now)

        ended = await store.add(new, new_digest(), now=now, limit=2, limit_policy=limit_policy)

        assert list(ended.evicted) == [(old_but_used, new_but_unused)[evicted]]
        assert len(await store.list(user_id, audience="web", now=now)) == 2

    async def test_a_lowered_limit_takes_effect_at_the_next_login(self, store: Store, user_id: Any) -> None:
        """As many records are evicted as the lowered limit asks for."""
        for second in range(5):
            await add(store, new_record(user_id, created_at=NOW + second * SECOND))

        new = await add(store, new_record(user_id, created_at=NOW + HOUR / 2), limit=2, limit_policy="evict_oldest")

        left = await store.list(user_id, audience="web", now=NOW + HOUR / 2)
        assert [record.created_at for record in left] == [new.record.created_at, NOW + 4 * SECOND]

    @pytest.mark.parametrize("limit_policy", ["reject", "evict_oldest", "evict_least_recently_used"])
    async def test_the_limit_is_exact_under_concurrency(
        self, open_store: OpenStore, user_id: Any, limit_policy: LimitPolicy
    ) -> None:
        """Of many logins at once exactly as many are left as the limit allows, and as many succeed if it rejects."""

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

    # renew

    async def test_renew_moves_the_expiry_and_notes_the_use(self, store: Store, user_id: Any) -> None:
        """A due renewal is written, all in one."""
        added = await add(store, new_record(user_id))
        now, digest = NOW + HOUR / 2, new_digest()

        renewed = await store.renew(added, now=now, unused_since=now - SECOND, expires_at=now + HOUR, digest=digest)

        assert renewed
        assert await find(store, added.record, added.digest) is None
        found = await find(store, added.record, digest)
        assert found is not None
        assert found.record == replace(added.record, expires_at=now + HOUR, last_used_at=now)

    async def test_renew_leaves_what_it_is_not_told(self, store: Store, user_id: Any) -> None:
        """Without an expiry and a digest only the use is noted."""
        added = await add(store, new_record(user_id, expires_at=None))

        renewed = await store.renew(added, now=NOW + HOUR, unused_since=NOW + SECOND)

        found = await find(store, added.record, added.digest)
        assert renewed
        assert found is not None
        assert found.record == replace(added.record, last_used_at=NOW + HOUR)

    async def test_renew_leaves_what_was_used_of_late(self, store: Store, user_id: Any) -> None:
        """A record used since `unused_since` is not written to."""
        added = await add(store, new_record(user_id, last_used_at=NOW + SECOND))

        renewed = await store.renew(added, now=NOW + 2 * SECOND, unused_since=NOW + SECOND, expires_at=NOW + 2 * HOUR)

        found = await find(store, added.record, added.digest)
        assert not renewed
        assert found is not None
        assert found.record == added.record

    async def test_renew_never_moves_the_expiry_back(self, store: Store, user_id: Any) -> None:
        """An earlier expiry than the stored one is not written, whatever the caller has seen."""
        added = await add(store, new_record(user_id))

        await store.renew(added, now=NOW + HOUR / 2, unused_since=NOW + SECOND, expires_at=NOW + HOUR - SECOND)

        found = await find(store, added.record, added.digest)
        assert found is not None
        assert found.record.expires_at == NOW + HOUR

    @pytest.mark.parametrize("created_since", [None, NOW + SECOND])
    async def test_renew_raises_no_dead(self, store: Store, user_id: Any, created_since: datetime | None) -> None:
        """A record that is not live, by its expiry or by its age, is not written to."""
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

    async def test_renew_does_not_undo_a_rotation(self, store: Store, user_id: Any) -> None:
        """Whoever has seen a digest that is no longer the record's writes nothing."""
        added = await add(store, new_record(user_id))
        digest = new_digest()
        await store.rotate(added, digest, now=NOW)

        renewed = await store.renew(added, now=NOW + HOUR / 2, unused_since=NOW + SECOND, digest=new_digest())

        found = await find(store, added.record, digest)
        assert not renewed
        assert found is not None
        assert found.record == added.record

    async def test_of_many_renewals_one_writes(self, open_store: OpenStore, user_id: Any) -> None:
        """However many requests find a renewal due at once, one writes."""
        async with open_store() as store:
            added = await add(store, new_record(user_id))
        now = NOW + HOUR / 2

        renewed = await at_once(
            open_store,
            lambda store: store.renew(added, now=now, unused_since=now - SECOND, expires_at=now + HOUR),
        )

        assert sum(renewed) == 1

    # rotate

    async def test_rotate_swaps_the_digest_alone(self, store: Store, user_id: Any) -> None:
        """The record stays as it is, under the new digest."""
        added = await add(store, new_record(user_id, last_used_at=NOW, device_id="phone"))
        digest = new_digest()

        rotated = await store.rotate(added, digest, now=NOW + SECOND, created_since=added.record.created_at)

        found = await find(store, added.record, digest)
        assert rotated
        assert found is not None
        assert found.record == added.record
        assert await find(store, added.record, added.digest) is None

    async def test_of_many_rotations_one_succeeds(self, open_store: OpenStore, user_id: Any) -> None:
        """Of simultaneous rotations one is told `True`, and its digest is the one that is stored."""
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

    async def test_rotate_raises_no_dead(self, store: Store, user_id: Any) -> None:
        """A record that has expired, is too old or has been removed is not rotated."""
        expired = await add(store, new_record(user_id, expires_at=NOW + SECOND))
        old = await add(store, new_record(user_id))
        removed = await add(store, new_record(user_id))
        await store.remove(user_id, removed.record.id, audience="web", now=NOW)

        assert not await store.rotate(expired, new_digest(), now=NOW + SECOND)
        assert not await store.rotate(old, new_digest(), now=NOW, created_since=NOW + SECOND)
        assert not await store.rotate(removed, new_digest(), now=NOW)

    # remove, remove_all and list

    async def test_remove_ends_one(self, store: Store, user_id: Any) -> None:
        """The record named is gone and returned; the others stay."""
        gone, kept = await add(store, new_record(user_id)), await add(store, new_record(user_id))

        removed = await store.remove(user_id, gone.record.id, audience="web", now=NOW)

        assert removed == gone.record
        assert await find(store, gone.record, gone.digest) is None
        assert await find(store, kept.record, kept.digest) is not None

    async def test_remove_keeps_to_the_user_and_audience(self, store: Store, user_ids: Sequence[Any]) -> None:
        """Another user's record, another audience's and an unknown one give `None`, and nothing ends."""
        added = await add(store, new_record(user_ids[0]))

        assert await store.remove(user_ids[1], added.record.id, audience="web", now=NOW) is None
        assert await store.remove(user_ids[0], added.record.id, audience="api", now=NOW) is None
        assert await store.remove(user_ids[0], uuid4(), audience="web", now=NOW) is None
        assert await find(store, added.record, added.digest) is not None

    async def test_remove_returns_no_dead(self, store: Store, user_id: Any) -> None:
        """A record that was not live is ended all the same, and not returned."""
        expired = await add(store, new_record(user_id, expires_at=NOW + SECOND))
        old = await add(store, new_record(user_id))

        assert await store.remove(user_id, expired.record.id, audience="web", now=NOW + SECOND) is None
        removed = await store.remove(user_id, old.record.id, audience="web", now=NOW, created_since=NOW + SECOND)
        assert removed is None
        assert await find(store, old.record, old.digest) is None

    async def test_of_many_removals_one_is_given_the_record(self, open_store: OpenStore, user_id: Any) -> None:
        """Of simultaneous calls one has ended the record."""
        async with open_store() as store:
            added = await add(store, new_record(user_id))

        removed = await at_once(
            open_store, lambda store: store.remove(user_id, added.record.id, audience="web", now=NOW)
        )

        assert [record for record in removed if record] == [added.record]

    async def test_remove_all_ends_all_of_the_user_and_audience(self, store: Store, user_ids: Sequence[Any]) -> None:
        """All records of the user and audience are gone, and those that were live returned; no one else's are."""
        live = [await add(store, new_record(user_ids[0])) for _ in range(3)]
        dead = await add(store, new_record(user_ids[0], expires_at=NOW + SECOND))
        foreign = await add(store, new_record(user_ids[1]))
        other = await add(store, new_record(user_ids[0], audience="api"))

        ended = await store.remove_all(user_ids[0], audience="web", now=NOW + SECOND)

        assert {record.id for record in ended} == {found.record.id for found in live}
        for gone in (*live, dead):
            assert await find(store, gone.record, gone.digest) is None
        for kept in (foreign, other):
            assert await find(store, kept.record, kept.digest) is not None

    async def test_remove_all_spares_the_one_to_keep(self, store: Store, user_id: Any) -> None:
        """The record to keep stays, and is not returned."""
        kept, gone = await add(store, new_record(user_id)), await add(store, new_record(user_id))

        ended = await store.remove_all(user_id, audience="web", now=NOW, keep=kept.record.id)

        assert list(ended) == [gone.record]
        assert await find(store, kept.record, kept.digest) is not None

    async def test_remove_all_ends_every_audience(self, store: Store, user_ids: Sequence[Any]) -> None:
        """Without an audience, those of every audience end."""
        added = [await add(store, new_record(user_ids[0], audience=audience)) for audience in ("", "web", "api")]
        foreign = await add(store, new_record(user_ids[1]))

        ended = await store.remove_all(user_ids[0], audience=None, now=NOW)

        assert len(ended) == 3
        for gone in added:
            assert await find(store, gone.record, gone.digest) is None
        assert await find(store, foreign.record, foreign.digest) is not None

    async def test_list_has_the_live_records_newest_first(self, store: Store, user_ids: Sequence[Any]) -> None:
        """The live records of the user and audience are listed, and no others."""
        first = await add(store, new_record(user_ids[0], created_at=NOW))
        second = await add(store, new_record(user_ids[0], created_at=NOW + SECOND))
        await add(store, new_record(user_ids[0], created_at=NOW - SECOND))
        await add(store, new_record(user_ids[0], created_at=NOW + SECOND, audience="api"))
        await add(store, new_record(user_ids[1], created_at=NOW + SECOND))
        expired = await add(store, new_record(user_ids[0], created_at=NOW + SECOND, expires_at=NOW + 2 * SECOND))

        listed = await store.list(user_ids[0], audience="web", now=NOW + 2 * SECOND, created_since=NOW)

        assert list(listed) == [second.record, first.record]
        assert expired.record not in listed

    # never resurrects

    async def test_a_removed_record_stays_removed(self, open_store: OpenStore, user_id: Any) -> None:
        """No interleaving of renewals, rotations and removals leaves a record that was removed."""
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

    async def test_remove_all_meets_renewals_and_rotations(self, open_store: OpenStore, user_id: Any) -> None:
        """No renewal and no rotation under way hides a record from a logout-all."""
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

    # purge

    async def test_purge_deletes_what_has_expired(self, store: Store, user_ids: Sequence[Any]) -> None:
        """Expired records of every audience go, in as many batches as it takes, and their number is told."""
        for user_id in user_ids:
            for audience in ("web", "api"):
                await add(store, new_record(user_id, audience=audience, expires_at=NOW + SECOND))
        live = [await add(store, new_record(user_ids[0], expires_at=end)) for end in (NOW + HOUR, None)]

        purged = await store.purge(audience="web", now=NOW + SECOND, batch_size=3)

        assert purged == 2 * len(user_ids)
        assert await store.purge(audience="web", now=NOW + SECOND) == 0
        for kept in live:
            assert await find(store, kept.record, kept.digest) is not None

    async def test_purge_deletes_what_is_too_old(self, store: Store, user_id: Any) -> None:
        """Records of the audience created before `created_since` go too; other audiences' stay."""
        old = await add(store, new_record(user_id, expires_at=None))
        other = await add(store, new_record(user_id, expires_at=None, audience="api"))

        purged = await store.purge(audience="web", now=NOW + SECOND, created_since=NOW + SECOND)

        assert purged == 1
        assert await find(store, old.record, old.digest) is None
        assert await find(store, other.record, other.digest) is not None

    async def test_purge_of_one_looks_at_that_alone(self, store: Store, user_id: Any) -> None:
        """The one record seen goes if it has expired, once, and no other."""
        seen = await add(store, new_record(user_id, expires_at=NOW + SECOND))
        other = await add(store, new_record(user_id, expires_at=NOW + SECOND))
        now = NOW + SECOND

        purged = [await store.purge(audience="web", now=now, seen=seen, tried_since=now - SECOND) for _ in range(2)]

        assert purged == [1, 0]
        assert await find(store, other.record, other.digest) is not None

    async def test_purge_of_one_repeats_the_condition(self, store: Store, user_id: Any) -> None:
        """A record whose expiry has moved since it was seen to be dead stays."""
        added = await add(store, new_record(user_id, expires_at=NOW + SECOND))
        await store.renew(added, now=NOW + SECOND / 2, unused_since=NOW + SECOND / 4, expires_at=NOW + HOUR)

        purged = await store.purge(audience="web", now=NOW + SECOND, seen=added, tried_since=NOW + SECOND)

        assert purged == 0
        assert await find(store, added.record, added.digest) is not None

    @pytest.mark.parametrize("batch_size", [0, -1, 10_001])
    async def test_purge_refuses_a_batch_of_no_sense(self, store: Store, batch_size: int) -> None:
        """A batch has 1 to 10,000 records."""
        with pytest.raises(ValueError, match="batch_size"):
            await store.purge(audience="web", now=NOW, batch_size=batch_size)

    # trouble

    async def test_a_store_that_cannot_be_reached_says_so(self, lost_store: Store, user_id: Any) -> None:
        """Every verb that must answer raises `StoreUnavailable`, and those that must not fail a request do not."""
        lost: Found[Any, Any] = Found(record=new_record(user_id), digest=new_digest())
        verbs: Iterable[Callable[[], Awaitable[Any]]] = (
            lambda: add(lost_store, lost.record),
            lambda: find(lost_store, lost.record, lost.digest),
            lambda: lost_store.rotate(lost, new_digest(), now=NOW),
            lambda: lost_store.remove(user_id, lost.record.id, audience="web", now=NOW),
            lambda: lost_store.remove_all(user_id, audience="web", now=NOW),
            lambda: lost_store.list(user_id, audience="web", now=NOW),
            lambda: lost_store.purge(audience="web", now=NOW),
        )

        for verb in verbs:
            with pytest.raises(StoreUnavailable) as raised:
                await verb()
            assert isinstance(raised.value, KnoxError)
        assert not await lost_store.renew(lost, now=NOW + HOUR, unused_since=NOW + SECOND)
        assert await lost_store.purge(audience="web", now=NOW, seen=lost, tried_since=NOW) == 0


async def at_once(open_store: OpenStore, call: Callable[[Store], Awaitable[T]], *, callers: int = CALLERS) -> list[T]:
    """Make as many calls at once as there are callers, each over a store of its own, opened beforehand."""
    async with AsyncExitStack() as stack:
        stores = [await stack.enter_async_context(open_store()) for _ in range(callers)]
        return await asyncio.gather(*(call(store) for store in stores))
