"""The format of records and digests in Redis, which the Lua scripts share."""

from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Callable, Sequence
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

from fastapi_users_knox.errors import KnoxError
from fastapi_users_knox.records import ID, Proof, Roll, TokenRecord
from fastapi_users_knox.records.fields import data_of, scopes_of, text_of_data, text_of_scopes

__all__ = [
    "MILLISECOND",
    "changes_of",
    "check_id",
    "fields_of",
    "is_unconfirmed",
    "milliseconds",
    "record_of",
    "roll_of",
    "text_of",
]

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
MILLISECOND = timedelta(milliseconds=1)
_FIELDS = 16
_RENEWED_BY = 5  # the number of this field
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
        record.audience or None,
        record.device_id,
        record.name,
        record.user_agent,
        record.ip_address,
        None if record.authenticated_at == record.created_at else milliseconds(record.authenticated_at),
        text_of_scopes(record.scopes),
        text_of_data(record.data),
        None if record.token_ttl is None else record.token_ttl // MILLISECOND,
        record.browser_session or None,
    ]
    while len(fields) > _MIN_FIELDS and fields[-1] is None:
        fields.pop()
    return fields


def changes_of(proof: Proof | None) -> dict[str, object]:
    """Return the fields that a proof changes, as arguments of a script."""
    if proof is None:
        return {}
    data = {} if proof.data is None else {"data": text_of_data(proof.data) or "{}"}
    return {"authenticated_at": milliseconds(proof.authenticated_at), **data}


def roll_of(roll: Roll[Any]) -> dict[str, object]:
    """Return a roll as an argument of a script."""
    before = {} if roll.record.expires_at is None else {"before": milliseconds(roll.record.expires_at)}
    return {"id": text_of(roll.record.id.bytes), "until": milliseconds(roll.expires_at), **before}


def record_of(fields: Sequence[Any], user_id: ID) -> TokenRecord[ID]:
    """Build a record from its stored fields and from the user's id as the application knows it."""
    padded = [*fields, *[None] * (_FIELDS - len(fields))]
    id_, _, created_at, expires_at, last_used_at, _, audience, device_id, name, *others = padded
    user_agent, ip_address, authenticated_at, scopes, data, token_ttl, browser_session = others
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
            "scopes": scopes_of(scopes),
            "data": data_of(data),
            "token_ttl": None if token_ttl is None else token_ttl * MILLISECOND,
            "browser_session": browser_session is True,
        }
    )


def is_unconfirmed(fields: Sequence[Any]) -> bool:
    """Return whether a record, given by its stored fields, is not confirmed yet, so that its token is not accepted."""
    return len(fields) > _RENEWED_BY and fields[_RENEWED_BY] == 0


def _moment(since_epoch: int) -> datetime:
    return _EPOCH + since_epoch * MILLISECOND
