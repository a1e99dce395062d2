"""The format of records and digests in Redis, which the Lua scripts share."""

from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Callable, Sequence
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

from fastapi_users_knox.errors import KnoxError
from fastapi_users_knox.records import ID, TokenRecord

__all__ = ["MILLISECOND", "check_id", "fields_of", "milliseconds", "record_of", "text_of"]

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
MILLISECOND = timedelta(milliseconds=1)
_FIELDS = 12
_MIN_FIELDS = 4  # These are always stored. Empty fields at the end are omitted, to save memory.


def check_id(user_id: ID, parse_id: Callable[[str], ID]) -> None:
    """Raise `KnoxError` if a user's id would not be the same after it was stored and read."""
    with suppress(Exception):  # The application's own function may raise anything.
        if parse_id(str(user_id)) == user_id:
            return
    kind = type(user_id).__name__
    raise KnoxError(f"parse_id(str(user.id)) must equal user.id: pass a parse_id that returns ids of type {kind}")


def text_of(value: bytes) -> str:
    """Encode bytes, such as a digest, as base64url without padding (RFC 4648 §5), which every client can decode."""
    return urlsafe_b64encode(value).rstrip(b"=").decode()


def milliseconds(moment: datetime | None) -> int | None:
    """Return a time as milliseconds since 1970 UTC."""
    return None if moment is None else (moment - _EPOCH) // MILLISECOND


def fields_of(record: TokenRecord[Any]) -> Sequence[object]:
    """Return the fields of a record in the order in which they are stored."""
    fields = [
        text_of(record.id.bytes),
        str(record.user_id),
        milliseconds(record.created_at),
        milliseconds(record.expires_at),
        milliseconds(record.last_used_at),
        None,  # RENEWED_BY, which only the scripts write
        record.audience,
        record.device_id,
        record.name,
        record.user_agent,
        record.ip_address,
        None if record.authenticated_at == record.created_at else milliseconds(record.authenticated_at),
    ]
    while len(fields) > _MIN_FIELDS and not fields[-1]:
        fields.pop()
    return fields


def record_of(fields: Sequence[Any], user_id: ID) -> TokenRecord[ID]:
    """Build a record from its stored fields and from the user's id as the application knows it."""
    padded = [*fields, *[None] * (_FIELDS - len(fields))]
    id_, _, created_at, expires_at, last_used_at, _, audience, device_id, name, *client, authenticated_at = padded
    user_agent, ip_address = client
    return TokenRecord.from_stored(
        {
            "id": UUID(bytes=urlsafe_b64decode(id_ + "==")),
            "user_id": user_id,
            "audience": audience or "",
            "created_at": _moment(created_at),
            "authenticated_at": _moment(created_at if authenticated_at is None else authenticated_at),
            "expires_at": None if expires_at is None else _moment(expires_at),
            "last_used_at": None if last_used_at is None else _moment(last_used_at),
            "name": name,
            "device_id": device_id,
            "user_agent": user_agent,
            "ip_address": ip_address,
        }
    )


def _moment(since_epoch: int) -> datetime:
    return _EPOCH + since_epoch * MILLISECOND
