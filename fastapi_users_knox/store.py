"""The contract of a token store: eight verbs, and what each of them promises."""

from collections.abc import Hashable, Sequence
from datetime import datetime
from typing import Protocol
from uuid import UUID

from fastapi_users_knox.records import ID, UP, Added, Credentials, Found, LimitPolicy, TokenRecord, UserSource
from fastapi_users_knox.tokens import PresentedToken

__all__ = ["Attempts", "TokenStore", "check_batch_size"]

_MAX_BATCH_SIZE = 10_000  # A statement of asyncpg has at most 32,767 parameters.


class TokenStore(Protocol[UP, ID]):
    """Keep token records under digests. Each sentence below is a promise that `fastapi_users_knox.testing` tests.

    A record is *live* while `created_since <= created_at` and `now < expires_at`. A store never reads a clock: the
    caller passes the time. Every verb is atomic under any concurrency, from any number of processes, and its effect is
    durable once it has returned. Only `add` makes a new token valid. `renew` and `rotate` change a record only if it is
    live and still stored under the digest under which it was found. A store that cannot be reached or cannot answer
    raises `StoreUnavailable`.

    A store may also have a method `refuse_transaction_block()` without arguments. The user manager calls it before a
    change of a user. The method raises `KnoxError` if the store could not commit a revocation after the change.
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

        In the same step it removes records of the same user and audience: records that are not live, records under a
        digest in `replaces`, and, if the new record has a `device_id`, records with the same `device_id`. It removes no
        other record, except to stay within the limit.

        With `limit`, the number of live records of the user and audience, including the new record, never exceeds the
        limit. Under the policy "reject" the call raises and changes nothing. Under "evict_oldest" it removes the
        records created first. Under "evict_least_recently_used" it removes the records not used for the longest time.

        With `by`, the record with that id must belong to the same user and must not have expired; it may have any
        audience. If a `remove_all` that removes that record runs at the same time, either the new record is not stored,
        or `remove_all` removes the new record too.

        Raises:
            TokenLimitReached: The limit is reached, and the policy is "reject".
            CredentialsChanged: The store sees the users, and the user does not exist any more or differs from
                `credentials`.
            InvalidToken: The record `by` has been removed or has expired.
            LimitUnsupported: The store cannot keep an exact limit.
            KnoxError: The store cannot keep the promise of `by`.
        """
        ...

    async def get(
        self, token: PresentedToken, *, audience: str, users: UserSource | None = None
    ) -> Found[UP, ID] | None:
        """Find the record of this audience that is stored under one of the token's digests, live or not.

        It writes nothing, and does not flush, commit or roll back the caller's transaction. Returns `None` if there is
        no such record.

        Args:
            token: The presented token.
            audience: The audience of the strategy that reads.
            users: Where the application loads the user from next. A store on the same session loads the user in the
                same read. `None` if no user is loaded.
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
        `unused_since`, so that only one of any number of simultaneous calls writes. It never moves the expiry back.

        Returns whether it wrote. It raises nothing, and takes at most one second. A write that cannot be done in that
        time is skipped and logged once. This process tries the write again only after the length of `now -
        unused_since`.
        """
        ...

    async def rotate(
        self, found: Found[UP, ID], digest: bytes, *, now: datetime, created_since: datetime | None = None
    ) -> bool:
        """Store the record under a new digest instead of the digest under which it was found, and change nothing else.

        Returns whether the digest was changed. Of any number of simultaneous calls exactly one returns `True`.
        """
        ...

    async def remove(
        self, user_id: ID, id: UUID, *, audience: str, now: datetime, created_since: datetime | None = None
    ) -> TokenRecord[ID] | None:
        """Remove one record of this user and audience, and return it if it was live.

        Of any number of simultaneous calls exactly one returns the record.
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
        """Remove every record of this user and audience, and return the records that were live.

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
        """Return the live records of this user and audience, newest first."""
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

        It removes the records of every audience that have expired, and the records of this audience that were created
        before `created_since`.

        With `seen`, it considers only this record, which a read has just found expired. Like `renew`, it then raises
        nothing and takes at most one second. This process skips the call if it has already tried it since
        `tried_since`.

        Raises:
            ValueError: The batch size is less than 1 or more than 10,000.
        """
        ...


class Attempts:
    """The writes after reads that this process has recently attempted.

    Only one of many simultaneous requests attempts the write, and a failed write is not attempted again at once.
    """

    _SIZE = 10_000

    def __init__(self) -> None:
        """Start without any attempts."""
        self._tried_at: dict[Hashable, datetime] = {}

    def claim(self, what: Hashable, now: datetime, *, tried_since: datetime) -> bool:
        """Return whether the write has not been attempted since `tried_since`, and remember this attempt.

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
