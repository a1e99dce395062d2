"""The contract of a token store: eight methods, called verbs, and what each of them promises; and a health check."""

from collections.abc import Sequence
from datetime import datetime
from typing import Protocol
from uuid import UUID

from fastapi_users_knox.records import (
    ID,
    UP,
    Added,
    Credentials,
    Found,
    LimitPolicy,
    Proof,
    Roll,
    TokenRecord,
    UserSource,
)
from fastapi_users_knox.tokens import PresentedToken

__all__ = ["TokenStore", "check_audience", "check_batch_size"]

_MAX_BATCH_SIZE = 10_000  # asyncpg allows at most 32,767 parameters in one statement.


class TokenStore(Protocol[UP, ID]):
    """Keep token records under digests. Each sentence below is a promise that `fastapi_users_knox.testing` tests.

    A record is *live* while `created_since <= created_at` and `now < expires_at`. A store never reads a clock: the
    caller passes the time. Every verb is atomic, however many processes call the store at the same time, and its effect
    is durable once the verb has returned. A verb that removes many records may do so in several atomic steps: other
    verbs may run in between, and if it fails, some of the records may be removed. Only `add` stores a new record.
    `renew` and `rotate` change a record only if it is live and its digest has not changed since it was found. A store
    that cannot be reached or cannot answer raises `StoreUnavailable`.

    A store may also have a method `refuse_transaction_block()`, which takes no arguments. The user manager calls this
    method before it changes a user. The method raises `KnoxError` if the store could not commit a revocation after that
    change.
    """

    @property
    def sees_users(self) -> bool:
        """Whether the store can read the users, so that `add` checks `credentials` and `get` returns `is_active`."""
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
        roll: Roll[ID] | None = None,
    ) -> Added[ID]:
        """Store the record of a new token.

        In the same step, `add` removes these records of the same user and audience: records that are not live, records
        stored under a digest in `replaces`, and records that have the new record's `device_id`, if it has one. `add`
        removes no other record, except to stay within the limit.

        If `limit` is given, the user never has more live records in this audience than the limit, including the new
        record. If the new record would exceed the limit, the policy decides what happens. Under "reject", the call
        raises `TokenLimitReached` and changes nothing. Under "evict_oldest", it removes the records that were created
        first. Under "evict_least_recently_used", it removes the records that have been unused for the longest time.

        If `by` is given, the record with that id must belong to the same user and must not have expired, but it may
        have any audience. If a simultaneous `remove_all` removes the record `by`, either the new record is not stored,
        or `remove_all` removes the new record too.

        If `roll` is given, its record must belong to the same user and audience, must be live, and must have the
        `expires_at` with which it was read. In the same step, its expiry moves to `until`, or to one millisecond
        earlier than before, whichever is earlier. So of any number of simultaneous calls with the same `roll`, exactly
        one stores its record. Later calls of `renew` do not move its expiry any more. If the record has expired by
        that, it is removed and returned as replaced, and does not count for the limit.

        Raises:
            TokenLimitReached: The limit is reached, and the policy is "reject".
            CredentialsChanged: The store sees the users, and the user no longer exists or no longer matches
                `credentials`.
            InvalidToken: The record `by` has been removed or has expired, or the record of `roll` has been removed, has
                expired or was changed.
            LimitUnsupported: `limit` is given, but the store cannot keep an exact limit.
            KnoxError: `by` is given, but the store cannot check that record in the same step.
        """
        ...

    async def get(
        self, token: PresentedToken, *, audience: str, users: UserSource | None = None
    ) -> Found[UP, ID] | None:
        """Find the token's record in this audience, whether the record is live or not.

        `get` writes nothing, and does not flush, commit or roll back the caller's transaction. `get` returns `None` if
        this audience has no record under any of the token's digests.

        Args:
            token: The presented token.
            audience: The audience of the strategy that reads.
            users: The source from which the application loads the user next. A store that uses the same session loads
                the user in the same read. `None` means that no user is loaded.
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
        """Record a use of the token: set `last_used_at` to `now`, and set the expiry and the digest if they are given.

        The caller calls `renew` right after the `get` that found the record. `renew` writes only if the token was last
        used before `unused_since`, so only one of any number of simultaneous calls writes. `renew` never moves
        `expires_at` to an earlier time.

        Returns whether the call wrote. `renew` raises no error and takes at most one second. If the write cannot be
        done in that time, it is skipped and logged once, and this process does not try it again until `now -
        unused_since` has passed.
        """
        ...

    async def rotate(
        self,
        found: Found[UP, ID],
        digest: bytes,
        *,
        now: datetime,
        created_since: datetime | None = None,
        proof: Proof | None = None,
    ) -> bool:
        """Replace the digest under which the record was found with a new digest.

        If `proof` is given, its `authenticated_at` and `data` replace those of the record in the same step. Nothing
        else changes. Returns whether the digest was changed. Of any number of simultaneous calls, exactly one returns
        `True`.

        Raises:
            CredentialsChanged: `proof` is given, the store sees the users, and the user no longer exists or no longer
                matches the `credentials`.
        """
        ...

    async def remove(
        self, user_id: ID, id: UUID, *, audience: str, now: datetime, created_since: datetime | None = None
    ) -> TokenRecord[ID] | None:
        """Remove one record of this user and audience, and return it if it was live.

        Of any number of simultaneous calls, exactly one returns the record.
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
        keep_scoped: bool = False,
    ) -> Sequence[TokenRecord[ID]]:
        """Remove every record of this user and audience, and return the records that were live.

        Args:
            user_id: The user's id.
            audience: The audience; `None` means every audience.
            now: The current time.
            created_since: The earliest `created_at` of a live record.
            keep: The id of one record that is not removed.
            keep_scoped: Whether records with scopes are not removed either. This needs `audience=None`.

        Raises:
            ValueError: `keep_scoped` is true and an audience is given.
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
        """Remove expired records in batches, one transaction for each, and return how many records were removed.

        `purge` removes every record that has expired, whatever its audience, and those records of this audience that
        were created before `created_since`.

        If `seen` is given, `purge` considers only this record, which a read has just found expired. Like `renew`, a
        call with `seen` raises no error and takes at most one second. The call is skipped if this process has already
        tried to remove the record since `tried_since`.

        Raises:
            ValueError: The batch size is less than 1 or more than 10,000.
        """
        ...

    async def ping(self) -> None:
        """Find out whether the store can answer a read. `ping` returns no record and changes nothing.

        Raises:
            StoreUnavailable: The store cannot be reached or cannot answer.
        """
        ...


def check_batch_size(batch_size: int) -> None:
    """Raise `ValueError` if `purge` cannot use this batch size."""
    if not 1 <= batch_size <= _MAX_BATCH_SIZE:
        raise ValueError(f"batch_size must be between 1 and {_MAX_BATCH_SIZE}")


def check_audience(audience: str | None, *, keep_scoped: bool) -> None:
    """Raise `ValueError` if `remove_all` cannot keep the records with scopes in this audience."""
    if keep_scoped and audience is not None:
        raise ValueError("keep_scoped needs audience=None")
