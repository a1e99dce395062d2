"""The values that the verbs of a store take and return."""

from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, Generic

from fastapi_users_knox.records.token_record import ID, UP, TokenRecord

__all__ = ["Added", "Credentials", "Found", "Proof", "Roll", "UserSource"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Credentials:
    """The fields of a user that must not change between the check of the credentials and the write of the token."""

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


@dataclass(frozen=True, kw_only=True, slots=True)
class Proof:
    """What changes in a record when its user has proved again who they are.

    Attributes:
        authenticated_at: When the user gave the proof.
        credentials: The user's credentials, as loaded when the proof was checked.
        data: The new data of the record. `None` keeps the existing data.
    """

    authenticated_at: datetime
    credentials: Credentials
    data: dict[str, Any] | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Roll(Generic[ID]):
    """The replacement of one token by another, while the old token stays valid for some time.

    Attributes:
        record: The record of the old token, as it was read.
        until: When the old token expires. If this is not in the future, the old token is removed at once.
    """

    record: TokenRecord[ID]
    until: datetime

    @property
    def expires_at(self) -> datetime:
        """When the old token expires. This is always earlier than before, so a second roll finds a changed record."""
        before = self.record.expires_at
        return self.until if before is None else min(self.until, before - timedelta(milliseconds=1))


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
