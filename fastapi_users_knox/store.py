"""The contract between the token semantics and a store: eight verbs, and what each promises."""

from collections.abc import Hashable, Sequence
from datetime import datetime
from typing import Protocol
from uuid import UUID

from fastapi_users_knox.records import ID, UP, Added, Credentials, Found, LimitPolicy, TokenRecord, UserSource
from fastapi_users_knox.tokens import PresentedToken

__all__ = ["Attempts", "TokenStore", "check_batch_size"]

_MAX_BATCH_SIZE = 10_000  # A statement of asyncpg has at most 32,767 parameters.


class TokenStore(Protocol[UP, ID]):
    """Keep token records under digests. `fastapi_users_knox.testing` tests each sentence as a promise.

    A record is *live* while `created_since <= created_at` and `now < expires_at`. A store never reads a clock: the
    caller passes the time. Every verb is atomic under any concurrency, from any number of processes, and its effect
    is durable once it has returned. Only `add` makes a new token valid; `renew` and `rotate` change only a record that
    is live and still stored under the digest by which it was found. A store that cannot be reached or cannot answer
    raises `StoreUnavailable`.

    A store may also have a method `refuse_transaction_block()` without arguments. The user manager calls it before it
    changes a user, and it raises `KnoxError` if the store could not commit a revocation afterwards.
    """

    @property
    def sees_users(self) -> bool:
        """Whether `add` checks `credentials`, and `get` reports whether the user is active."""
        ...

    async def add(
        self,
        record: TokenRecord[ID],
        digest: bytes,
        *,
        now: datetime,
        created_since: datetime | None = None,
        by: UUID | None = None,
        limit: int | None = None,
        limit_policy: LimitPolicy = "reject",
        replaces: Sequence[bytes] = (),
        credentials: Credentials | None = None,
    ) -> Added[ID]:
        """Store the record of a new token.

        In the same step it removes, among the records of the same user and audience: those that are not live, those
        stored under a digest in `replaces`, and, if the new record has a `device_id`, those with the same `device_id`.
        It removes no other record, except to stay within the limit.

        With `limit`, the number of live records, the new one included, never exceeds it. Under the policy "reject" the
        call raises and changes nothing; under "evict_oldest" it removes the records created first; under
        "evict_least_recently_used" those not used for the longest time.

        With `by`, the record of that id must belong to the same user, of any audience, and must not have expired. If a
        `remove_all` that does not keep that record runs at the same time, then either the new record is not stored, or
        `remove_all` removes it too.

        Raises:
            TokenLimitReached: The limit is reached, and the policy is "reject".
            CredentialsChanged: The store sees the users, and the user is gone or differs from `credentials`.
            InvalidToken: The record `by` has been removed or has expired.
            LimitUnsupported: The store cannot keep an exact limit.
            KnoxError: The store cannot keep the promise of `by`.
        """
        ...

    async def get(
        self, token: PresentedToken, *, audience: str, users: UserSource | None = None
    ) -> Found[UP, ID] | None:
        """Find the record of this audience stored under one of the token's digests, live or not.

        It writes nothing, and does not flush, commit or roll back the caller's transaction. Returns `None` if there is
        no such record.

        Args:
            token: The presented token.
            audience: The audience of the strategy that reads.
            users: Where the application loads the user from next. A store over the same session loads it in the same
                read. `None` if no user is loaded.
        """
        ...

    async def renew(
        self,
        found: Found[UP, ID],
        *,
        now: datetime,
        unused_since: datetime,
        created_since: datetime | None = None,
        expires_at: datetime | None = None,
        digest: bytes | None = None,
    ) -> bool:
        """Record that the token was used: set `last_used_at` to `now`, and `expires_at` and the digest if given.

        It is called right after the `get` that found the record. It writes only if the token was last used before
        `unused_since`, so that of any number of simultaneous calls one writes. It never moves the expiry back.

        Returns whether it wrote. It raises nothing, and takes at most one second: a write that cannot be done in that
        time is skipped and logged once, and this process does not try it again for the length of
        `now - unused_since`.
        """
        ...

    async def rotate(
        self, found: Found[UP, ID], digest: bytes, *, now: datetime, created_since: datetime | None = None
    ) -> bool:
        """Store the record under a new digest instead of the one by which it was found; nothing else changes.

        Returns whether it did. Of any number of simultaneous calls exactly one returns `True`.
        """
        ...

    async def remove(
        self, user_id: ID, id: UUID, *, audience: str, now: datetime, created_since: datetime | None = None
    ) -> TokenRecord[ID] | None:
        """Remove one record of this user and audience, and return it if it was live.

        Of any number of simultaneous calls one returns the record.
        """
        ...

    async def remove_all(
        self,
        user_id: ID,
        *,
        audience: str | None,
        now: datetime,
        created_since: datetime | None = None,
        keep: UUID | None = None,
    ) -> Sequence[TokenRecord[ID]]:
        """Remove every record of this user and audience, and return those that were live.

        Args:
            user_id: The user's id.
            audience: The audience; `None` means every audience.
            now: The current time.
            created_since: The earliest `created_at` of a live record.
            keep: The id of one record that stays.
        """
        ...

    async def list(
        self, user_id: ID, *, audience: str, now: datetime, created_since: datetime | None = None
    ) -> Sequence[TokenRecord[ID]]:
        """Return the live records of this user and audience, the newest first."""
        ...

    async def purge(
        self,
        *,
        audience: str,
        now: datetime,
        created_since: datetime | None = None,
        batch_size: int = 1000,
        seen: Found[UP, ID] | None = None,
        tried_since: datetime | None = None,
    ) -> int:
        """Remove expired records, in batches of one transaction each, and return how many were removed.

        These are the records of every audience that have expired, and those of this audience that were created before
        `created_since`.

        With `seen`, it considers this one record only, which a read has just found expired. Then, like `renew`, it
        raises nothing, takes at most one second, and is not tried again by this process if it was after `tried_since`.

        Raises:
            ValueError: The batch size is less than 1 or more than 10,000.
        """
        ...


class Attempts:
    """The writes after reads that this process has attempted lately.

    Of many simultaneous requests one attempts the write, and a write that failed is not attempted again at once.
    """

    _SIZE = 10_000

    def __init__(self) -> None:
        """Begin with no attempts."""
        self._tried_at: dict[Hashable, datetime] = {}

    def claim(self, what: Hashable, now: datetime, *, tried_since: datetime) -> bool:
        """Return whether nobody has attempted it since `tried_since`, and remember this attempt.

        The oldest attempts are forgotten once there are 10,000.
        """
        tried_at = self._tried_at.pop(what, None)
        is_ours = tried_at is None or tried_at < tried_since
        self._tried_at[what] = now if tried_at is None or is_ours else tried_at
        if len(self._tried_at) > self._SIZE:
            del self._tried_at[next(iter(self._tried_at))]
        return is_ours


def check_batch_size(batch_size: int) -> None:
    """Raise `ValueError` for a batch size that `purge` cannot use."""
    if not 1 <= batch_size <= _MAX_BATCH_SIZE:
        raise ValueError(f"batch_size must be between 1 and {_MAX_BATCH_SIZE}")
