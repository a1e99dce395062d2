"""What a store that cannot be reached promises."""

from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from fastapi_users_knox.errors import KnoxError, StoreUnavailable
from fastapi_users_knox.records import Found
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
)

__all__ = ["OutagePromises"]

Verb = Callable[[], Awaitable[Any]]


class OutagePromises(Promises):
    """Raising an error if the caller needs an answer, and skipping a write that only follows a read."""

    @pytest.fixture
    def lost(self, user_id: Any) -> Found[Any, Any]:
        """Return a record that was read while the store could still be reached."""
        return Found(record=new_record(user_id), digest=new_digest())

    async def test_an_unavailable_store_raises(self, lost_store: Store, lost: Found[Any, Any], user_id: Any) -> None:
        """If the store cannot be reached, every verb raises `StoreUnavailable`.

        The exceptions are the two writes that follow a read: `renew`, and `purge` with `seen`.
        """
        verbs: tuple[Verb, ...] = (
            lambda: add(lost_store, lost.record),
            lambda: find(lost_store, lost.record, lost.digest),
            lambda: lost_store.rotate(lost, new_digest(), now=NOW),
            lambda: lost_store.remove(user_id, lost.record.id, audience="web", now=NOW),
            lambda: lost_store.remove_all(user_id, audience="web", now=NOW),
            lambda: lost_store.list(user_id, audience="web", now=NOW),
            lambda: lost_store.purge(audience="web", now=NOW),
            lost_store.ping,
        )

        for verb in verbs:
            with pytest.raises(StoreUnavailable) as raised:
                await verb()
            assert isinstance(raised.value, KnoxError)

    async def test_ping_changes_nothing(self, store: Store, user_id: Any) -> None:
        """If the store can answer, `ping` returns nothing and changes nothing, not even an expired record."""
        expired = await add(store, new_record(user_id, expires_at=NOW + SECOND))

        for _ in range(2):
            await store.ping()

        found = await find(store, expired.record, expired.digest)
        assert found is not None
        assert found.record == expired.record

    async def test_a_renewal_that_fails_is_skipped(
        self, lost_store: Store, lost: Found[Any, Any], caplog: pytest.LogCaptureFixture
    ) -> None:
        """If `renew` fails, it raises nothing, logs once, and is skipped until `now - unused_since` has passed."""
        renewed, logged = [], []
        for now in (NOW, NOW + HOUR, NOW + HOUR + SECOND):
            renewed.append(await lost_store.renew(lost, now=now, unused_since=now - HOUR))
            logged.append(len(caplog.records))

        assert renewed == [False, False, False]
        assert 0 < logged[0] == logged[1] < logged[2]

    async def test_a_purge_of_one_record_that_fails_is_skipped(
        self, lost_store: Store, lost: Found[Any, Any], caplog: pytest.LogCaptureFixture
    ) -> None:
        """If `purge` with `seen` fails, it raises nothing and logs once.

        The purge is skipped if this process has already tried it since `tried_since`.
        """
        purged, logged = [], []
        for now in (NOW, NOW + HOUR, NOW + HOUR + SECOND):
            purged.append(await lost_store.purge(audience="web", now=now, seen=lost, tried_since=now - HOUR))
            logged.append(len(caplog.records))

        assert purged == [0, 0, 0]
        assert 0 < logged[0] == logged[1] < logged[2]
