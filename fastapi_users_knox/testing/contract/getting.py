"""What `get` promises."""

from dataclasses import replace
from datetime import timedelta
from typing import Any

from fastapi_users_knox.testing.contract.base import (
    HOUR,
    NOW,
    SECOND,
    Promises,
    Store,
    add,
    find,
    new_digest,
    new_record,
    presented,
)

__all__ = ["GetPromises"]


class GetPromises(Promises):
    """Finding the record of a presented token."""

    async def test_get_finds_what_was_added(self, store: Store, user_id: Any) -> None:
        """`get` returns each field of a record as it was added, with aware times that are exact to the millisecond."""
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
            scopes=frozenset({"reports:read", "reports:write", "a'b/c~"}),
            data={"plan": "gratuit é 📱", "roles": [], "limits": {}, "n": [1, 2.5, 2**60, 1e300, None, True, "\0"]},
            token_ttl=timedelta(days=36525),
            browser_session=True,
        )

        added = await add(store, record)

        found = await find(store, record, added.digest)
        assert found is not None
        assert (found.record, found.digest) == (record, added.digest)

    async def test_get_returns_what_a_record_does_not_have(self, store: Store, user_id: Any) -> None:
        """`get` distinguishes scopes that are `None` from an empty set of scopes, and returns empty data as empty."""
        session = await add(store, new_record(user_id))
        powerless = await add(store, new_record(user_id, scopes=frozenset()))

        found = [await find(store, each.record, each.digest) for each in (session, powerless)]

        assert [each and (each.record.scopes, each.record.data) for each in found] == [(None, {}), (frozenset(), {})]
        assert [each and each.record for each in found] == [session.record, powerless.record]

    async def test_get_does_not_find_unknown_digests(self, store: Store, user_id: Any) -> None:
        """`get` returns `None` for a digest under which no record is stored."""
        added = await add(store, new_record(user_id))

        assert await find(store, added.record, new_digest()) is None

    async def test_get_finds_by_any_of_the_digests(self, store: Store, user_id: Any) -> None:
        """If the token has several digests, `get` returns the digest under which the record is stored."""
        added = await add(store, new_record(user_id))

        found = await store.get(presented(user_id, new_digest(), added.digest), audience="web")

        assert found is not None
        assert found.digest == added.digest

    async def test_get_does_not_find_records_of_another_audience(self, store: Store, user_id: Any) -> None:
        """`get` finds a record only for the record's own audience, and audiences are case-sensitive."""
        added = await add(store, new_record(user_id))

        assert await find(store, replace(added.record, audience="Web"), added.digest) is None
        assert await find(store, replace(added.record, audience=""), added.digest) is None

    async def test_get_finds_records_that_are_not_live(self, store: Store, user_id: Any) -> None:
        """`get` returns an expired record unchanged, however often it is called."""
        added = await add(store, new_record(user_id, expires_at=NOW + SECOND))

        found = [await find(store, added.record, added.digest) for _ in range(2)]

        assert [each and each.record for each in found] == [added.record, added.record]

    async def test_get_reports_activity_if_the_store_sees_users(self, store: Store, user_id: Any) -> None:
        """If the store sees the users, `get` reports whether the user is active, but loads no user by default."""
        added = await add(store, new_record(user_id))

        found = await find(store, added.record, added.digest)

        assert found is not None
        assert (found.is_active is not None) == store.sees_users
        assert found.user is None
