"""What `rotate` promises."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest

from fastapi_users_knox.errors import CredentialsChanged
from fastapi_users_knox.records import Credentials, Found, Proof
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

__all__ = ["ProofPromises", "RotatePromises"]


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


class ProofPromises(Promises):
    """Storing a record under a new digest after its user has proved again who they are."""

    @pytest.fixture
    def proof(self, credentials: Credentials) -> Proof:
        """Return the proof of a user who has not changed since."""
        return Proof(authenticated_at=NOW + SECOND, credentials=credentials)

    @pytest.mark.parametrize("data", [None, {}, {"factors": ["password", "é"]}])
    async def test_a_proof_changes_only_what_it_says(
        self, store: Store, user_id: Any, proof: Proof, data: Mapping[str, Any] | None
    ) -> None:
        """`rotate` stores the `authenticated_at` and `data` of `proof`. With `data=None`, the record keeps its data."""
        every_field = new_record(
            user_id,
            last_used_at=NOW,
            name="Jane's phone",
            device_id="phone",
            user_agent="curl/8",
            ip_address="192.0.2.1",
            data={"plan": "free"},
            token_ttl=HOUR,
            browser_session=True,
        )
        added, other, digest = await add(store, every_field), await add(store, new_record(user_id)), new_digest()
        proof = replace(proof, data=None if data is None else dict(data))

        rotated = await store.rotate(added, digest, now=NOW + SECOND, created_since=NOW, proof=proof)

        kept = every_field.data if data is None else data
        expected = replace(every_field, authenticated_at=proof.authenticated_at, data=dict(kept))
        found = await find(store, added.record, digest)
        assert rotated
        assert found is not None
        assert found.record == expected
        assert await find(store, added.record, added.digest) is None
        listed = {record.id: record for record in await store.list(user_id, audience="web", now=NOW)}
        assert listed == {record.id: record for record in (expected, other.record)}

    async def test_a_proof_does_not_move_the_expiry(self, store: Store, user_id: Any, proof: Proof) -> None:
        """With `proof`, the expiry of the record does not move."""
        added, digest = await add(store, new_record(user_id)), new_digest()

        await store.rotate(added, digest, now=NOW + SECOND, proof=proof)

        assert not await store.list(user_id, audience="web", now=NOW + HOUR)
        assert await store.purge(audience="web", now=NOW + HOUR - SECOND) == 0
        assert await store.purge(audience="web", now=NOW + HOUR) == 1

    async def test_of_many_proofs_one_succeeds(self, open_store: OpenStore, user_id: Any, proof: Proof) -> None:
        """Of many simultaneous calls of `rotate` with `proof`, exactly one returns `True` and stores its proof."""
        async with open_store() as store:
            added = await add(store, new_record(user_id))
        turns = iter(range(CALLERS))

        async def rotate(store: Store) -> tuple[bytes, Proof] | None:
            turn, digest = next(turns), new_digest()
            own = replace(proof, authenticated_at=NOW + turn * SECOND, data={"turn": turn})
            return (digest, own) if await store.rotate(added, digest, now=NOW, proof=own) else None

        [(digest, stored)] = [outcome for outcome in await at_once(open_store, rotate) if outcome]

        async with open_store() as store:
            found = await find(store, added.record, digest)
        assert found is not None
        assert (found.record.authenticated_at, found.record.data) == (stored.authenticated_at, stored.data)

    async def test_a_proof_needs_a_live_record(self, store: Store, user_id: Any, proof: Proof) -> None:
        """With `proof`, `rotate` changes no record that has expired, is too old, has been removed or was changed."""
        expired = await add(store, new_record(user_id, expires_at=NOW + SECOND))
        old = await add(store, new_record(user_id, created_at=NOW - HOUR))
        removed = await add(store, new_record(user_id))
        await store.remove(user_id, removed.record.id, audience="web", now=NOW)
        changed = await add(store, new_record(user_id))
        digest = new_digest()
        await store.rotate(changed, digest, now=NOW)

        for found in (expired, old, removed, changed):
            assert not await store.rotate(found, new_digest(), now=NOW + SECOND, created_since=NOW, proof=proof)

        for record, kept in ((expired.record, expired.digest), (old.record, old.digest), (changed.record, digest)):
            stored = await find(store, record, kept)
            assert stored is not None
            assert stored.record == record

    async def test_a_proof_needs_an_unchanged_user(self, store: Store, user_id: Any, proof: Proof) -> None:
        """If the user has changed since the proof was checked, a store that sees the users changes nothing."""
        added, digest = await add(store, new_record(user_id, data={"plan": "free"})), new_digest()
        wrong = replace(proof.credentials, hashed_password="the hash of another password")

        try:
            await store.rotate(added, digest, now=NOW, proof=replace(proof, credentials=wrong, data={}))
        except CredentialsChanged:
            is_refused = True
        else:
            is_refused = False

        kept = await find(store, added.record, added.digest)
        assert is_refused == store.sees_users
        assert (kept is not None) == is_refused
        assert kept is None or kept.record == added.record

    async def test_a_proof_revives_nothing_that_remove_removes(
        self, open_store: OpenStore, user_id: Any, proof: Proof
    ) -> None:
        """If a record is rotated with `proof` again and again, it is no longer stored once `remove` has returned it."""
        async with open_store() as store:
            added = [await add(store, new_record(user_id)) for _ in range(FEW_CALLERS // 2)]
        turns = iter(range(FEW_CALLERS))

        async def call(store: Store) -> None:
            turn = next(turns)
            found = added[turn // 2]
            if turn % 2:
                assert await store.remove(user_id, found.record.id, audience="web", now=NOW) is not None
            else:
                await _rotate_until_refused(store, found, proof)

        await at_once(open_store, call, callers=FEW_CALLERS)

        async with open_store() as store:
            assert not await store.list(user_id, audience="web", now=NOW)

    @pytest.mark.parametrize("audience", [None, "web"])
    async def test_a_proof_revives_nothing_that_remove_all_removes(
        self, open_store: OpenStore, user_id: Any, proof: Proof, audience: str | None
    ) -> None:
        """If records are rotated with `proof` again and again, none is stored once `remove_all` has returned."""
        async with open_store() as store:
            added = [await add(store, new_record(user_id)) for _ in range(FEW_CALLERS - 1)]
        turns = iter(range(FEW_CALLERS))

        async def call(store: Store) -> None:
            turn = next(turns)
            if turn == FEW_CALLERS - 1:
                await store.remove_all(user_id, audience=audience, now=NOW)
            else:
                await _rotate_until_refused(store, added[turn], proof)

        await at_once(open_store, call, callers=FEW_CALLERS)

        async with open_store() as store:
            assert not await store.list(user_id, audience="web", now=NOW)


async def _rotate_until_refused(store: Store, found: Found[Any, Any], proof: Proof) -> None:
    digest = new_digest()
    while await store.rotate(found, digest, now=NOW, proof=proof):
        found, digest = replace(found, digest=digest), new_digest()
    assert await find(store, found.record, found.digest) is None
