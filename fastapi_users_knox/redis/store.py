"""The token store over Redis: one script a verb, on the keys of one user, which are all in one slot of a cluster."""

import asyncio
import json
import logging
import re
import secrets
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from datetime import datetime, timedelta
from typing import Any, Generic, TypeVar, overload
from uuid import UUID
from weakref import WeakKeyDictionary

from redis.asyncio import Redis, RedisCluster

from fastapi_users_knox.errors import InvalidToken, KnoxError, StoreUnavailable, TokenLimitReached, describe
from fastapi_users_knox.records import ID, UP, Added, Credentials, Found, LimitPolicy, TokenRecord, UserSource
from fastapi_users_knox.redis.records import MILLISECOND, fields_of, milliseconds, record_of, text_of
from fastapi_users_knox.redis.scripts import Client, reaching, run
from fastapi_users_knox.store import Attempts, check_batch_size
from fastapi_users_knox.tokens import PresentedToken, routing_tag

__all__ = ["RedisTokenStore"]

_logger = logging.getLogger("fastapi_users_knox")

T = TypeVar("T")

_USERS = re.compile(r"[A-Za-z0-9_.-]{0,64}")
_PATIENCE = 0.5  # seconds, where a request must not be held up
_NOT_AUTHORIZED = 0  # what add.lua answers
_UNCONFIRMED = timedelta(seconds=10)

_attempts: WeakKeyDictionary[Client, Attempts] = WeakKeyDictionary()


class RedisTokenStore(Generic[UP, ID]):
    """The `TokenStore` on Redis from 6.2 on, and on Valkey: standalone, behind Sentinel, or a cluster.

    A read is one round trip to the master; a login takes two, as does what ends something. The store cannot see
    the users, so it does not check a login's `credentials`: pass `user_db` to the strategy for that.

    Args:
        redis: The application's client; connections, time-outs and repeated calls are its business.
        parse_id: Converts the text of a user's id to the id, such as `int`: `parse_id(str(user.id))` must equal
            `user.id`.
        users: The name of the user table, which becomes part of the keys. Two tables whose users have the same ids,
            such as customers and staff numbered from 1, need different names. Required with a `parse_id`, as ids that
            are no UUIDs may occur in several tables; letters, digits and `_.-`, at most 64.
        key_prefix: What all keys begin with, any text without braces; applications that share one Redis differ in it.

    Raises:
        TypeError: `redis` is no asynchronous client, or `users` is missing.
        ValueError: `users` or `key_prefix` has other characters. Braces would decide which slot a key is in.
    """

    sees_users = False

    @overload
    def __init__(
        self: "RedisTokenStore[UP, UUID]", redis: Client, *, users: str = ..., key_prefix: str = ...
    ) -> None: ...
    @overload
    def __init__(self, redis: Client, *, parse_id: Callable[[str], ID], users: str, key_prefix: str = ...) -> None: ...
    def __init__(
        self, redis: Client, *, parse_id: Callable[[str], Any] = UUID, users: str = "", key_prefix: str = "knox:"
    ) -> None:
        """Take the client; nothing is sent yet."""
        if not isinstance(redis, Redis | RedisCluster):
            raise TypeError(f"redis must be a client of redis.asyncio, not {type(redis).__name__}")
        if parse_id is not UUID and not users:
            raise TypeError("users is missing: with a parse_id, name the user table, such as users='customer'")
        if not _USERS.fullmatch(users):
            raise ValueError("users must be at most 64 letters, digits, '_', '.' or '-'")
        if "{" in key_prefix or "}" in key_prefix:
            raise ValueError("key_prefix must have no braces")
        self._redis = redis
        self._parse_id: Callable[[str], ID] = parse_id
        self._key_prefix = f"{key_prefix}{users}:" if users else key_prefix

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
        credentials: Credentials | None = None,  # noqa: ARG002 (Redis knows no users)
    ) -> Added[ID]:
        """Store a record, and confirm it: one that is not, as its login has failed, goes by itself in ten seconds.

        Raises:
            KnoxError: `parse_id` does not give back the user's id.
        """
        self._check_id(record.user_id)
        index = self._index(record.user_id)
        keys = [index, _answer_key(index), self._key(record.user_id, digest)]
        told = {
            "record": fields_of(record),
            "now": milliseconds(now),
            "created_since": milliseconds(created_since),
            "by": None if by is None else text_of(by.bytes),
            "limit": limit,
            "limit_policy": limit_policy,
            "replaces": [text_of(replaced) for replaced in replaces],
            "unconfirmed": _UNCONFIRMED // MILLISECOND,
        }
        try:
            answer = await self._add_confirmed(keys, told)
        except StoreUnavailable:
            with suppress(StoreUnavailable, TimeoutError):
                async with asyncio.timeout(_PATIENCE):
                    await self.remove(record.user_id, record.id, audience=record.audience, now=now)
            raise
        if answer == _NOT_AUTHORIZED:
            raise InvalidToken
        if limit is not None and answer is None:
            raise TokenLimitReached(limit)
        ended = [(why, self._record(fields)) for why, fields in json.loads(answer)]
        return Added(
            expired=tuple(old for why, old in ended if why == "expired"),
            replaced=tuple(old for why, old in ended if why == "replaced"),
            evicted=tuple(old for why, old in ended if why == "evicted"),
        )

    async def get(
        self,
        token: PresentedToken,
        *,
        audience: str,
        users: UserSource | None = None,  # noqa: ARG002 (Redis has no users)
    ) -> Found[UP, ID] | None:
        """Find a record, if the index of its user holds it too."""
        keys = [f"{self._base(token.tag)}{text_of(digest)}" for digest in token.digests]
        found = await run(self._redis, "get", keys, audience=audience)
        if found is None:
            return None
        number, text = found
        fields = json.loads(text)
        if not self._can_parse(fields[1]):
            return None  # It is of an application that has the same prefix.
        return Found(record=self._record(fields), digest=token.digests[number - 1])

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
        """Write to the one record."""
        if not self._claim("renew", found, now, unused_since):
            return False
        renewing = self._swap(
            "renew",
            found,
            digest or found.digest,
            now=milliseconds(now),
            created_since=milliseconds(created_since),
            unused_since=milliseconds(unused_since),
            expires_at=milliseconds(expires_at),
            call=secrets.randbits(32),
        )
        return await _beside(renewing) or False

    async def rotate(
        self, found: Found[UP, ID], digest: bytes, *, now: datetime, created_since: datetime | None = None
    ) -> bool:
        """Rename the record's key."""
        return await self._swap(
            "rotate", found, digest, now=milliseconds(now), created_since=milliseconds(created_since)
        )

    async def remove(
        self, user_id: ID, id: UUID, *, audience: str, now: datetime, created_since: datetime | None = None
    ) -> TokenRecord[ID] | None:
        """End one record, which takes the longer the more records the user has."""
        ended = await self._remove(user_id, audience=audience, id=text_of(id.bytes))
        return next((record for record in ended if record.is_live(now, created_since=created_since)), None)

    async def remove_all(
        self,
        user_id: ID,
        *,
        audience: str | None,
        now: datetime,
        created_since: datetime | None = None,
        keep: UUID | None = None,
    ) -> Sequence[TokenRecord[ID]]:
        """End them by one script."""
        ended = await self._remove(user_id, audience=audience, keep=None if keep is None else text_of(keep.bytes))
        return [record for record in ended if record.is_live(now, created_since=created_since)]

    async def list(
        self, user_id: ID, *, audience: str, now: datetime, created_since: datetime | None = None
    ) -> Sequence[TokenRecord[ID]]:
        """Read all of the user's records of the audience, and pick."""
        texts = await run(self._redis, "list", [self._index(user_id)], audience=audience)
        records = [self._record(json.loads(text)) for text in texts]
        live = [record for record in records if record.is_live(now, created_since=created_since)]
        return sorted(live, key=lambda record: record.created_at, reverse=True)

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
        """Go through all indexes, user by user; a batch is how many keys Redis looks at in one trip.

        Redis's own expiry deletes what has expired, a minute later; what is left for this verb is the rest.
        """
        check_batch_size(batch_size)
        told = {"audience": audience, "now": milliseconds(now), "created_since": milliseconds(created_since)}
        if seen is None:
            return sum([len(await self._finish("purge", index, **told)) async for index in self._indexes(batch_size)])
        if not self._claim("purge", seen, now, tried_since or now):
            return 0
        index = self._index(seen.record.user_id)
        return len(await _beside(self._finish("purge", index, digest=text_of(seen.digest), **told)) or ())

    # What follows serves the verbs above, in their order.

    def _check_id(self, user_id: ID) -> None:
        with suppress(Exception):  # Whatever an application's own function raises.
            if self._parse_id(str(user_id)) == user_id:
                return
        raise KnoxError(f"parse_id(str(user.id)) must equal user.id, a {type(user_id).__name__}")

    def _can_parse(self, user_id: str) -> bool:
        with suppress(Exception):  # Whatever an application's own function raises.
            self._parse_id(user_id)
            return True
        return False

    def _base(self, tag: str) -> str:
        return f"{self._key_prefix}{{{tag}}}:"

    def _index(self, user_id: ID) -> str:
        return f"{self._base(routing_tag(user_id))}user:{user_id}"

    def _key(self, user_id: ID, digest: bytes) -> str:
        return f"{self._base(routing_tag(user_id))}{text_of(digest)}"

    def _record(self, fields: Sequence[Any]) -> TokenRecord[ID]:
        return record_of(fields, self._parse_id(fields[1]))

    async def _add_confirmed(self, keys: Sequence[str], told: Mapping[str, object]) -> Any:  # noqa: ANN401 (the script's)
        with reaching():  # As for Redis's own time-outs: after this time the record is gone.
            async with asyncio.timeout(_UNCONFIRMED.total_seconds()):
                answer = await run(self._redis, "add", keys, **told)
                if answer not in {None, _NOT_AUTHORIZED} and not await run(
                    self._redis, "confirm", keys, now=told["now"]
                ):
                    # All of the user's records are gone: ended, or lost with Redis's memory.
                    raise StoreUnavailable if told["by"] is None else InvalidToken
                return answer

    async def _finish(self, script: str, index: str, **told: object) -> Sequence[Any]:
        """Run a script that keeps its answer for the case that it is lost, and let go of the answer once it is here."""
        answer_key = _answer_key(index)
        answer: Sequence[Any] = json.loads(await run(self._redis, script, [index, answer_key], **told))
        if answer:
            with suppress(StoreUnavailable), reaching():
                await self._redis.delete(answer_key.encode())
        return answer

    def _claim(self, what: str, found: Found[UP, ID], now: datetime, tried_since: datetime) -> bool:
        attempts = _attempts.setdefault(self._redis, Attempts())
        return attempts.claim((what, found.record.id), now, tried_since=tried_since)

    async def _swap(self, script: str, found: Found[UP, ID], digest: bytes, **told: object) -> bool:
        """Run a script on the key of a record and the one it may be renamed to."""
        user_id = found.record.user_id
        keys = [self._index(user_id), self._key(user_id, found.digest), self._key(user_id, digest)]
        return bool(await run(self._redis, script, keys, **told))

    async def _remove(self, user_id: ID, **told: object) -> Sequence[TokenRecord[ID]]:
        return [self._record(fields) for fields in await self._finish("remove", self._index(user_id), **told)]

    async def _indexes(self, count: int) -> AsyncIterator[str]:
        pattern = re.sub(r"([*?\[\]\\])", r"\\\1", self._key_prefix) + "{*}:user:*"
        with reaching():
            async for key in self._redis.scan_iter(match=pattern.encode(), count=count):
                yield key.decode() if isinstance(key, bytes) else key


def _answer_key(index: str) -> str:
    """Name a key for the answer of one call."""
    return f"{index.partition('}:')[0]}}}:answer:{secrets.token_hex(8)}"


async def _beside(writing: Awaitable[T]) -> T | None:
    """Do what must not fail the request nor hold it up: in time or not at all; `None` if it was skipped, and logged."""
    try:
        async with asyncio.timeout(_PATIENCE):
            return await writing
    except Exception as error:  # noqa: BLE001 (whatever it is, it must not fail the request)
        _logger.warning("A token's use was not written (last_used_at, expires_at): %s", describe(error))
        return None
