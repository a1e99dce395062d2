"""The contract between the token semantics and a store: what is stored about a token, and the eight verbs."""

from collections.abc import Awaitable, Callable, Hashable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Generic, Literal, Protocol, Self
from uuid import UUID

from fastapi_users.manager import BaseUserManager
from fastapi_users.models import ID, UP

__all__ = [
    "Added",
    "Attempts",
    "Credentials",
    "Found",
    "IssuedToken",
    "LimitPolicy",
    "TokenRecord",
    "TokenStore",
    "check_batch_size",
]

_MOST_IN_A_BATCH = 10_000  # A statement of asyncpg has at most 32,767 parameters.

_AS_CREATED = datetime.max.replace(tzinfo=UTC)

LimitPolicy = Literal["reject", "evict_oldest", "evict_least_recently_used"]


@dataclass(frozen=True, kw_only=True)
class TokenRecord(Generic[ID]):
    """What is stored about one token, but for its digest; times are aware UTC in whole milliseconds.

    Attributes:
        id: The public name of the record, which refresh and rotation keep.
        user_id: Whose token it is.
        audience: Which strategy it belongs to, as JWT's `aud`.
        created_at: When it was issued.
        expires_at: From when on it is refused; `None`: never.
        last_used_at: When it was last seen to be used, to within `min_refresh_interval`; `None`: not since the login.
        name: What the user or the application calls it.
        device_id: The client's own, stable name of the device.
        user_agent: The client's `User-Agent`, cut to 256 characters.
        ip_address: The client's address at login.
        authenticated_at: When its user last proved who they are: at this login, or before the record on whose strength
            it was issued; the same as `created_at` unless given.
    """

    id: UUID
    user_id: ID
    audience: str
    created_at: datetime
    expires_at: datetime | None
    last_used_at: datetime | None = None
    name: str | None = None
    device_id: str | None = None
    user_agent: str | None = None
    ip_address: str | None = None
    authenticated_at: datetime = _AS_CREATED

    def __post_init__(self) -> None:
        """Take the login for the moment of authentication, unless another is given."""
        if self.authenticated_at is _AS_CREATED:
            object.__setattr__(self, "authenticated_at", self.created_at)

    @property
    def active_at(self) -> datetime:
        """When the record was last written to for being used: at its last use, or else at login."""
        return self.last_used_at or self.created_at

    def is_live(self, now: datetime, *, created_since: datetime | None = None) -> bool:
        """Tell whether the record is accepted at `now`, given the earliest `created_at` that still is."""
        if created_since is not None and self.created_at < created_since:
            return False
        return self.expires_at is None or now < self.expires_at


class IssuedToken(str):
    """A new token: the only moment its text is known. Being a `str`, it passes through every FastAPI-Users backend.

    Attributes:
        record: The record stored for it.
        user: Whose it is.
        issued_at: When this text was made, which for a rotation is later than `record.created_at`.
        end_cookie_session: Ends the session whose token the request's cookie of a given name holds, whoever's it is:
            for a transport that is about to overwrite this cookie. Copies of the token do nothing.
    """

    __slots__ = ("end_cookie_session", "issued_at", "record", "user")
    record: TokenRecord[Any]
    user: object
    issued_at: datetime
    end_cookie_session: Callable[[str], Awaitable[None]]

    def __new__(
        cls,
        text: str,
        *,
        record: TokenRecord[ID],
        user: object,
        issued_at: datetime,
        end_cookie_session: Callable[[str], Awaitable[None]] | None = None,
    ) -> Self:
        """Join the text and what is known of it."""
        token = super().__new__(cls, text)
        token.record, token.user, token.issued_at = record, user, issued_at
        token.end_cookie_session = end_cookie_session or _end_nothing
        return token

    def __reduce__(self) -> tuple[Callable[..., "IssuedToken"], tuple[object, ...]]:
        """Let copies keep what is known of the token, but no way to the request."""
        return _copied, (str(self), self.record, self.user, self.issued_at)

    @property
    def expires_in(self) -> int | None:
        """Whole seconds from its making to its expiry (RFC 6749 §5.1); `None`: it never expires."""
        if self.record.expires_at is None:
            return None
        return int((self.record.expires_at - self.issued_at).total_seconds())

    def __repr__(self) -> str:
        """Hide the text, so that no log holds it by accident (ASVS 16.2.5)."""
        return f"<IssuedToken {self.record.id}>"


def _copied(text: str, record: TokenRecord[Any], user: object, issued_at: datetime) -> IssuedToken:
    return IssuedToken(text, record=record, user=user, issued_at=issued_at)


async def _end_nothing(_cookie_name: str) -> None:
    """Stand in where no request's cookie can be seen."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Credentials:
    """What of a user, as loaded when the login was checked, must still be so when its token is written."""

    hashed_password: str = field(repr=False)
    is_active: bool


@dataclass(frozen=True, kw_only=True)
class Found(Generic[UP, ID]):
    """What a store holds for a presented token.

    Attributes:
        record: The record, live or not.
        digest: The one of the digests asked for under which it is stored.
        is_active: The user's `is_active` in the row just read; `None` where the store cannot see the users.
        user: The user, where the store could load it in the same read, and then with `is_active`; else the strategy
            loads it.
    """

    record: TokenRecord[ID]
    digest: bytes = field(repr=False)
    is_active: bool | None = None
    user: UP | None = None


@dataclass(frozen=True, kw_only=True)
class Added(Generic[ID]):
    """The records that adding one has ended: dead ones, those it replaces, and those evicted to keep the limit."""

    expired: tuple[TokenRecord[ID], ...] = ()
    replaced: tuple[TokenRecord[ID], ...] = ()
    evicted: tuple[TokenRecord[ID], ...] = ()


class Attempts:
    """What one process has lately tried to write at a read: so that of many requests one tries, and none again soon."""

    _SIZE = 10_000

    def __init__(self) -> None:
        """Begin with nothing tried."""
        self._tried_at: dict[Hashable, datetime] = {}

    def claim(self, what: Hashable, now: datetime, *, tried_since: datetime) -> bool:
        """Tell whether to try, which nobody has since `tried_since`, and take note; the oldest notes are dropped."""
        tried_at = self._tried_at.pop(what, None)
        is_ours = tried_at is None or tried_at < tried_since
        self._tried_at[what] = now if tried_at is None or is_ours else tried_at
        if len(self._tried_at) > self._SIZE:
            del self._tried_at[next(iter(self._tried_at))]
        return is_ours


class TokenStore(Protocol[UP, ID]):
    """Keep records under digests; each sentence is a promise that `fastapi_users_knox.testing` tests.

    A record is *live* while `created_since <= created_at` and `now < expires_at`. Time is told, never asked. Every
    verb is atomic under any concurrency, from any number of processes, and durable once it has returned. No verb but
    `add` makes a digest accepted that was not, and `renew` and `rotate` change only a record that is live and still
    stored under the digest told. A store that cannot be reached or cannot answer raises `StoreUnavailable`.

    A store may have a method `refuse_transaction_block()`, without arguments: the user manager calls it before it
    changes a user, and it raises `KnoxError` if the store could not commit a revocation afterwards.
    """

    @property
    def sees_users(self) -> bool:
        """Whether `add` checks `credentials`, and what is found says whether its user is active."""
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
        """Store a record of a login.

        With `by`, the user's record of this id, of whatever audience, must be stored and not expired. Of a `remove_all`
        that runs at the same time, and does not keep that record, one of two things is true: it comes first, and the
        new record is not stored; or it comes later, and ends the new record like any other.
        Of the same user and audience, it ends the records that are not live, those stored under the digests in
        `replaces` and, where the record has a `device_id`, those with the same; all others stay. With a `limit`, live
        records never exceed it, the new one included: under "reject" the call raises instead and changes nothing,
        under "evict_oldest" the earliest created end, under "evict_least_recently_used" those used longest ago.

        Raises:
            TokenLimitReached: The limit is reached, and the policy is "reject".
            CredentialsChanged: The store sees the users, and this one is gone or differs from `credentials`.
            InvalidToken: The record `by` is not there any more, or has expired.
            LimitUnsupported: The store cannot keep a limit exact.
            KnoxError: The store cannot keep the promise of `by`.
        """
        ...

    async def get(
        self, digests: Sequence[bytes], *, tag: str, audience: str, user_manager: BaseUserManager[UP, ID] | None = None
    ) -> Found[UP, ID] | None:
        """Find the record stored for this audience under one of the digests, live or not, else `None`.

        It writes nothing and leaves the caller's transaction alone. The record's own user is given along when the
        store can load it in the same read exactly as `user_manager` would.

        Args:
            digests: Each 32 bytes, the likeliest first.
            tag: The presented token's routing tag.
            audience: Of the strategy that asks.
            user_manager: By which the user is to be loaded; `None` loads none.
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
        """Note at a read that the record is used: set `last_used_at`, and the expiry and digest if they are told.

        It belongs to the `get` that found the record, and follows it at once.
        It writes only what was last used before `unused_since`, so that of any number of simultaneous calls one
        writes; the expiry never moves backwards. It tells whether it wrote. It never fails and never takes longer
        than a second: what cannot be written in that time is skipped, logged once, and not tried again by this
        process for the same `now - unused_since`.
        """
        ...

    async def rotate(
        self, found: Found[UP, ID], digest: bytes, *, now: datetime, created_since: datetime | None = None
    ) -> bool:
        """Store the record under a new digest instead of the one it was found under.

        All else of the record stays. Of any number of simultaneous calls exactly one is told `True`.
        """
        ...

    async def remove(
        self, user_id: ID, id: UUID, *, audience: str, now: datetime, created_since: datetime | None = None
    ) -> TokenRecord[ID] | None:
        """End one record of this user and audience, and return it if it was live.

        Of any number of simultaneous calls one is given the record.
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
        """End every record of this user and audience but the one to keep, and return those that were live.

        With the audience `None` it ends those of every audience.
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
        """Delete what has expired, in batches of one transaction each, and return how many records went.

        These are the records of every audience whose `expires_at` has come, and those of this audience created before
        `created_since`. For one record just seen at a read it looks at that alone, and like `renew` never fails,
        never takes longer than a second, and is not tried again by this process when it was after `tried_since`.

        Raises:
            ValueError: The batch size is less than 1, or more than 10,000.
        """
        ...


def check_batch_size(batch_size: int) -> None:
    """Raise `ValueError` for a batch that `purge` cannot take."""
    if not 1 <= batch_size <= _MOST_IN_A_BATCH:
        raise ValueError(f"batch_size must be 1 to {_MOST_IN_A_BATCH}")
