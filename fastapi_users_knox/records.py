"""What is stored about a token, and the values that a store's verbs take and return."""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Generic, Literal, Protocol, Self, TypeVar
from uuid import UUID

__all__ = [
    "ID",
    "UP",
    "Added",
    "Credentials",
    "Found",
    "IssuedToken",
    "LimitPolicy",
    "TokenRecord",
    "UserLike",
    "UserSource",
]

_AS_CREATED = datetime.max.replace(tzinfo=UTC)


class UserLike(Protocol):
    """The attributes of a user that tokens depend on. Every user model of FastAPI-Users has them."""

    id: Any
    hashed_password: str
    is_active: bool


ID = TypeVar("ID")
UP = TypeVar("UP", bound=UserLike)

LimitPolicy = Literal["reject", "evict_oldest", "evict_least_recently_used"]


@dataclass(frozen=True, kw_only=True)
class TokenRecord(Generic[ID]):
    """What is stored about one token, except its digest. All times are timezone-aware, in UTC, in whole milliseconds.

    Attributes:
        id: The public identifier of the record. A refresh or rotation of the token does not change it.
        user_id: The id of the user whom the token belongs to.
        audience: The audience of the strategy that issued the token, like JWT's `aud`.
        created_at: When the token was issued.
        expires_at: The token is refused from this moment on; `None` means that the token never expires.
        last_used_at: When the token was last used, accurate to `min_refresh_interval`; `None` if the token has not been
            used since login.
        name: The name that the client or the application gave the session.
        device_id: The stable identifier that the client uses for its device.
        user_agent: The client's `User-Agent` at login, cut to 256 characters.
        ip_address: The client's address at login.
        authenticated_at: When the user last proved who they are; by default `created_at`. If the token was issued on
            the authority of another record, this is the `authenticated_at` of that record.
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
        """Set `authenticated_at` to `created_at` if it was not passed."""
        if self.authenticated_at is _AS_CREATED:
            object.__setattr__(self, "authenticated_at", self.created_at)

    @classmethod
    def from_stored(cls, fields: Mapping[str, Any]) -> Self:
        """Build a record from the stored values of all its fields.

        The values are neither checked nor completed. Each request calls this method, and the `__init__` of a frozen
        dataclass would take three times as long.
        """
        if fields.keys() != cls.__dataclass_fields__.keys():
            raise TypeError(f"a stored record has these fields: {', '.join(cls.__dataclass_fields__)}")
        record = object.__new__(cls)
        record.__dict__.update(fields)
        return record

    @property
    def active_at(self) -> datetime:
        """When the token was last used, or when it was issued if it has not been used yet."""
        return self.last_used_at or self.created_at

    def is_live(self, now: datetime, *, created_since: datetime | None = None) -> bool:
        """Return whether the record is accepted at `now`.

        Args:
            now: The current time.
            created_since: The earliest `created_at` that is still accepted; `None` accepts any.
        """
        if created_since is not None and self.created_at < created_since:
            return False
        return self.expires_at is None or now < self.expires_at


class IssuedToken(str):
    """The text of a new token. The text cannot be read again later, because only its digest is stored.

    An `IssuedToken` is a `str`, so it passes through every backend and transport of FastAPI-Users.

    Attributes:
        record: The record that is stored for the token.
        user: The user whom the token belongs to.
        issued_at: When this text was generated. After a rotation, `issued_at` is later than `record.created_at`.
        revoke_cookie_session: A function that is called with the name of a cookie, and revokes the session whose token
            the request has in that cookie, even if the session belongs to another user. A transport calls the function
            before it overwrites the cookie. On a copy of the token, the function does nothing.
    """

    __slots__ = ("issued_at", "record", "revoke_cookie_session", "user")
    record: TokenRecord[Any]
    user: object
    issued_at: datetime
    revoke_cookie_session: Callable[[str], Awaitable[None]]

    def __new__(
        cls,
        text: str,
        *,
        record: TokenRecord[ID],
        user: object,
        issued_at: datetime,
        revoke_cookie_session: Callable[[str], Awaitable[None]] | None = None,
    ) -> Self:
        """Create the text, and give it the attributes of the token."""
        token = super().__new__(cls, text)
        token.record, token.user, token.issued_at = record, user, issued_at
        token.revoke_cookie_session = revoke_cookie_session or _revoke_nothing
        return token

    def __reduce__(self) -> tuple[Callable[..., "IssuedToken"], tuple[object, ...]]:
        """Return how to copy the token, with all its attributes except `revoke_cookie_session`."""
        return _copied, (str(self), self.record, self.user, self.issued_at)

    @property
    def expires_in(self) -> int | None:
        """The whole seconds from `issued_at` to the expiry (RFC 6749 §5.1); `None` if the token never expires."""
        if self.record.expires_at is None:
            return None
        return int((self.record.expires_at - self.issued_at).total_seconds())

    def __repr__(self) -> str:
        """Hide the text, so that no log contains it by accident (ASVS 16.2.5)."""
        return f"<IssuedToken {self.record.id}>"


def _copied(text: str, record: TokenRecord[Any], user: object, issued_at: datetime) -> IssuedToken:
    return IssuedToken(text, record=record, user=user, issued_at=issued_at)


async def _revoke_nothing(_cookie_name: str) -> None:
    """Do nothing, because without a request there is no cookie."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Credentials:
    """The fields of a user that must not change from the check of a login until the new token is stored."""

    hashed_password: str = field(repr=False)
    is_active: bool


@dataclass(frozen=True, kw_only=True, slots=True)
class UserSource:
    """The source from which the application loads the user after a read.

    If the application would use a plain SELECT, a store may load the user with a join instead.

    Attributes:
        session: The database session of the plain SELECT; `None` if there is no plain SELECT.
        user_class: The mapped class that the SELECT loads; `None` if there is no plain SELECT.
    """

    session: object = None
    user_class: type[Any] | None = None


@dataclass(frozen=True, kw_only=True)
class Found(Generic[UP, ID]):
    """What a store has found for a presented token.

    Attributes:
        record: The record, live or not.
        digest: The digest under which the record is stored, which is one of the presented token's digests.
        is_active: The user's `is_active` as just read; `None` if the store cannot see the users.
        user: The user, if the store loaded the user in the same read; `None` otherwise. If `user` is set, `is_active`
            is set too.
    """

    record: TokenRecord[ID]
    digest: bytes = field(repr=False)
    is_active: bool | None = None
    user: UP | None = None


@dataclass(frozen=True, kw_only=True)
class Added(Generic[ID]):
    """The records that a store removed while it added a new one.

    Attributes:
        expired: Records that had expired or were too old.
        replaced: Live records that the new record replaces.
        evicted: Live records that were removed to stay within the limit.
    """

    expired: tuple[TokenRecord[ID], ...] = ()
    replaced: tuple[TokenRecord[ID], ...] = ()
    evicted: tuple[TokenRecord[ID], ...] = ()
