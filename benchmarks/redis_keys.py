"""Write the keys of tokens in Redis, as logins and uses leave them."""

import json
import secrets
from collections.abc import Iterable
from datetime import datetime, timedelta
from math import ceil
from uuid import UUID

from redis.asyncio import Redis

from fastapi_users_knox import TokenRecord, tokens
from fastapi_users_knox.redis.records import MILLISECOND, fields_of, text_of

_GRACE = timedelta(minutes=1)  # how much later than its record a key expires, see records.lua
_CONFIRMED = 6  # fields that a record has at least once its login is confirmed
_RENEWED_BY = 5
_KEEP = """
for number = 0, #KEYS / 2 - 1 do
  local index, key = KEYS[2 * number + 1], KEYS[2 * number + 2]
  local digest, record, score, lives = unpack(ARGV, 4 * number + 1, 4 * number + 4)
  redis.call('SET', key, record, 'PX', lives)
  redis.call('ZADD', index, score, digest)
  redis.call('PEXPIRE', index, lives)
end
"""


async def write(redis: Redis, kept: Iterable[tuple[bytes, TokenRecord[UUID]]], *, now: datetime) -> None:
    """Write the keys that `records.lua` describes, for these digests and records."""
    keys: list[str] = []
    values: list[str | int] = []
    for digest, record in kept:
        expires_at = record.expires_at or now
        keys += keys_of(record.user_id, digest)
        lives = max(_GRACE, expires_at - now + _GRACE)  # Expired records must still exist.
        values += [text_of(digest), _text_of(record), ceil(expires_at.timestamp()), lives // MILLISECOND]
    await redis.eval(_KEEP, len(keys), *keys, *values)


def keys_of(user_id: UUID, digest: bytes) -> tuple[str, str]:
    """Return the key of a user's index and the key of a record."""
    base = f"knox:{{{tokens.routing_tag(user_id)}}}:"
    return f"{base}user:{user_id}", f"{base}{text_of(digest)}"


def _text_of(record: TokenRecord[UUID]) -> str:
    """Write a record as the scripts do."""
    fields = list(fields_of(record))
    fields += [None] * (_CONFIRMED - len(fields))
    if record.last_used_at is not None:
        fields[_RENEWED_BY] = secrets.randbits(32)
    return json.dumps(fields, separators=(",", ":")).replace("/", r"\/")
