"""What is stored about a token."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, Generic, Literal, Protocol, Self, TypeVar
from uuid import UUID

__all__ = ["ID", "UP", "LimitPolicy", "TokenRecord", "UserLike"]

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
        authenticated_at: When the user last proved who they are: at login or at a later re-authentication. By default,
            this is `created_at`. If the token was issued on the authority of another record, this is the
            `authenticated_at` of that record.
        scopes: What the token may be used for (RFC 6749 §3.3); `None` for a session, which may do all that its user
            may. A token with scopes is accepted only by routes that name their scopes.
        data: The application's own data, a JSON object of at most 4 KB; empty if there is none.
        token_ttl: The lifetime that each refresh gives the token; `None` if the lifetime of the settings applies; 0 if
            the expiry no longer moves, because the token was rolled.
        browser_session: Whether the browser deletes the cookie with the token when it is closed.
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
    scopes: frozenset[str] | None = None
    data: dict[str, Any] = field(default_factory=dict, hash=False)
    token_ttl: timedelta | None = None
    browser_session: bool = False

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
