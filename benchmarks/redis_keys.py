"""Write the keys of tokens in Redis, as logins and uses leave them."""

import json
import secrets
from collections import Counter
from collections.abc import Sequence
from datetime import datetime, timedelta
from math import ceil
from typing import Any
from uuid import UUID

from redis.asyncio import Redis

from fastapi_users_knox import TokenRecord, tokens
from fastapi_users_knox.redis import RedisTokenStore
from fastapi_users_knox.redis.keys import catalogue_beside
from fastapi_users_knox.redis.records import MILLISECOND, fields_of, record_of, text_of

_GRACE = timedelta(minutes=1)  # how much later than its record a key expires, see records.lua
_CONFIRMED = 6  # fields that a record has at least once its login is confirmed
_RENEWED_BY = 5
_FEW = 100  # the number of records up to which a user has no catalogue, see catalogue.lua
_KEEP = """
for number = 0, #KEYS / 2 - 1 do
  local index, key = KEYS[2 * number + 1], KEYS[2 * number + 2]
  local digest, record, score, lives = unpack(ARGV, 4 * number + 1, 4 * number + 4)
  redis.call('SET', key, record, 'PX', lives)
  redis.call('ZADD', index, score, digest)
  redis.call('PEXPIRE', index, lives)
end
"""


async def write(redis: Redis, kept: Sequence[tuple[bytes, TokenRecord[UUID]]], *, now: datetime) -> None:
    """Write the keys that `fields.lua` and `catalogue.lua` describe, for these digests and records."""
    store = RedisTokenStore[Any, UUID](redis)
    if len(kept) == 1 and await _has_catalogue(redis, *kept[0]):
        [(digest, record)] = kept
        await store.add(record, digest, now=now)
        return
    keys: list[str] = []
    values: list[str | int] = []
    for digest, record in kept:
        expires_at = record.expires_at or now
        keys += keys_of(record.user_id, digest)
        lives = max(_GRACE, expires_at - now + _GRACE)  # Expired records must still exist.
        values += [text_of(digest), _text_of(record), ceil(expires_at.timestamp()), lives // MILLISECOND]
    await redis.eval(_KEEP, len(keys), *keys, *values)
    for user_id, count in Counter(record.user_id for _, record in kept).items():
        if count > _FEW:
            await store.list(user_id, audience="", now=now)  # This verb needs the catalogue, and therefore creates it.


async def forget(redis: Redis, user_id: UUID, digest: bytes, *, now: datetime) -> None:
    """Delete a record directly, or by its id if its user has a catalogue, which the next verb would else make anew."""
    index, key = keys_of(user_id, digest)
    text = await redis.get(key)
    assert text is not None
    record = record_of(json.loads(text), user_id)
    if await _has_catalogue(redis, digest, record):
        await RedisTokenStore[Any, UUID](redis).remove(user_id, record.id, audience=record.audience, now=now)
        return
    await redis.delete(key)
    await redis.zrem(index, text_of(digest))


async def _has_catalogue(redis: Redis, digest: bytes, record: TokenRecord[UUID]) -> bool:
    index, _ = keys_of(record.user_id, digest)
    return bool(await redis.exists(catalogue_beside(index)))


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
