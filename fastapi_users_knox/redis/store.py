"""The token store over Redis. Each verb runs one script on the keys of one user."""

import json
import secrets
from collections.abc import Callable, Sequence
from datetime import datetime
from functools import partial
from typing import Any, ClassVar, Generic, overload
from uuid import UUID

from redis.asyncio import Redis, RedisCluster

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
from fastapi_users_knox.redis.adding import add_record, added_of
from fastapi_users_knox.redis.after_reads import write_after_read
from fastapi_users_knox.redis.answers import list_all_parts, remove_and_forget_answer
from fastapi_users_knox.redis.keys import Keys
from fastapi_users_knox.redis.purging import purge_all, purge_one
from fastapi_users_knox.redis.records import changes_of, check_id, fields_of, milliseconds, record_of, roll_of, text_of
from fastapi_users_knox.redis.scripts import Client, call, run
from fastapi_users_knox.store import check_audience, check_batch_size
from fastapi_users_knox.tokens import PresentedToken

__all__ = ["RedisTokenStore"]


class RedisTokenStore(Generic[UP, ID]):
    """The `TokenStore` on Redis 6.2 or later, and on Valkey: standalone, behind Sentinel, or as a cluster.

        A read takes one round trip to the master, and a login or removal takes two. The store cannot see the users and
        so cannot check the `credentials` of a login: pass `user_db` to the strategy.

    Args:
        redis: The application's client, which also decides on connections, time-outs and repeated calls.
        parse_id: A function from the text of a user's id to the id, such as `int`: `parse_id(str(user.id))` must equal
            `user.id`.
        users: The name of the user table, which becomes part of the keys: at most 64 letters, digits, `_`, `.` and `-`.
            Two tables with the same ids, such as customers and staff that are both numbered from 1, need different
            names. It is required with a `parse_id`, because only UUIDs are unique among all tables.
        key_prefix: The beginning of all keys, any text without braces. Applications that share one Redis need
            different prefixes.

    Raises:
        TypeError: `redis` is not an asynchronous client, or `users` is missing.
        ValueError: `users` or `key_prefix` contains characters that are not allowed, such as braces.
    """

    sees_users = False
    _step: ClassVar[int] = 100  # More records take a script longer, and Redis serves nobody else meanwhile.

    @overload
    def __init__(
        self: "RedisTokenStore[UP, UUID]", redis: Client, *, users: str = ..., key_prefix: str = ...
    ) -> None: ...
    @overload
    def __init__(self, redis: Client, *, parse_id: Callable[[str], ID], users: str, key_prefix: str = ...) -> None: ...
    def __init__(
        self, redis: Client, *, parse_id: Callable[[str], Any] = UUID, users: str = "", key_prefix: str = "knox:"
    ) -> None:
        """Keep the client. Nothing is sent yet."""
        if not isinstance(redis, Redis | RedisCluster):
            raise TypeError(f"redis must be a client of redis.asyncio, not {type(redis).__name__}")
        if parse_id is not UUID and not users:
            raise TypeError("users is missing: with a parse_id, name the user table, such as users='customer'")
        self._keys = Keys.of_table(users, key_prefix=key_prefix)
        self._redis = redis
        self._parse_id: Callable[[str], ID] = parse_id

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
        credentials: Credentials | None = None,  # noqa: ARG002 (the store does not see the users)
        roll: Roll[ID] | None = None,
    ) -> Added[ID]:
        """Store the record and confirm it. If the login fails in between, the record expires within ten seconds.

        Raises:
            KnoxError: `parse_id` does not return the user's id.
        """
        check_id(record.user_id, self._parse_id)
        arguments = {
            "record": fields_of(record),
            "now": milliseconds(now),
            "created_since": milliseconds(created_since),
            "by": None if by is None else text_of(by.bytes),
            "roll": None if roll is None else roll_of(roll),
            "limit": limit,
            "limit_policy": limit_policy,
            "replaces": [text_of(replaced) for replaced in replaces],
            "step": self._step,
        }
        removed = await add_record(self._redis, self._keys, record, digest, arguments)
        return added_of([(why, self._record(fields)) for why, fields in removed], roll=roll, now=now)

    async def get(
        self,
        token: PresentedToken,
        *,
        audience: str,
        users: UserSource | None = None,  # noqa: ARG002 (the store does not see the users)
    ) -> Found[UP, ID] | None:
        """Find the record of a token, if the index of its user contains it."""
        keys = [self._keys.presented(token.tag, digest) for digest in token.digests]
        found = await call(self._redis, "get", keys, audience)
        if found is None:
            return None
        number, text = found
        fields = json.loads(text)
        try:
            user_id = self._parse_id(fields[1])
        except Exception:  # noqa: BLE001 (the application's own function may raise anything)
            return None  # It belongs to another application with the same prefix.
        return Found(record=record_of(fields, user_id), digest=token.digests[number - 1])

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
        """Run the script on the keys of one record."""
        renew = partial(
            self._change_record,
            "renew",
            found,
            digest or found.digest,
            now=milliseconds(now),
            created_since=milliseconds(created_since),
            unused_since=milliseconds(unused_since),
            expires_at=milliseconds(expires_at),
            call=secrets.randbits(32),
        )
        what = ("updating last_used_at and expires_at", found.record.id)
        return bool(await write_after_read(renew, client=self._redis, what=what, now=now, tried_since=unused_since))

    async def rotate(
        self,
        found: Found[UP, ID],
        digest: bytes,
        *,
        now: datetime,
        created_since: datetime | None = None,
        proof: Proof | None = None,
    ) -> bool:
        """Rename the record's key, and change the record before if there is a `proof`."""
        times = {"now": milliseconds(now), "created_since": milliseconds(created_since)}
        return await self._change_record("rotate", found, digest, **times, **changes_of(proof))

    async def remove(
        self, user_id: ID, id: UUID, *, audience: str, now: datetime, created_since: datetime | None = None
    ) -> TokenRecord[ID] | None:
        """Find the record by its id, in the user's catalogue if there are many records."""
        removed = await self._remove("remove", user_id, audience=audience, id=text_of(id.bytes))
        return next((record for record in removed if record.is_live(now, created_since=created_since)), None)

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
        """Run the script until no record is left.

        So records that are stored, renewed or rotated meanwhile are removed too. If a run fails, some may be left.
        """
        check_audience(audience, keep_scoped=keep_scoped)
        spared = {"keep": None if keep is None else text_of(keep.bytes), "keep_scoped": keep_scoped or None}
        removed = await self._remove("remove_all", user_id, audience=audience, **spared)
        return [record for record in removed if record.is_live(now, created_since=created_since)]

    async def list(
        self, user_id: ID, *, audience: str, now: datetime, created_since: datetime | None = None
    ) -> Sequence[TokenRecord[ID]]:
        """Run the script for one part after the other. Records that exist during the whole call are all returned."""
        arguments = {"audience": audience, "step": self._step}
        texts = await list_all_parts(self._redis, self._keys.of_user(user_id), arguments)
        records = {record.id: record for record in (self._record(json.loads(text)) for text in texts)}
        live = [record for record in records.values() if record.is_live(now, created_since=created_since)]
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
        """Find the indexes of all users, and run the script for each of them.

        A batch is the number of keys that Redis examines in one round trip. Redis itself deletes an expired record
        after a minute, so this verb finds only records that Redis has not deleted yet, and records that are too old.
        """
        check_batch_size(batch_size)
        since = milliseconds(created_since)
        arguments = {"audience": audience, "step": self._step, "now": milliseconds(now), "created_since": since}
        if seen is None:
            return await purge_all(self._redis, self._keys, arguments, batch_size=batch_size)
        return await purge_one(self._redis, self._keys, arguments, seen, now=now, tried_since=tried_since or now)

    async def ping(self) -> None:
        """Run the script of a read for a token that nobody has. In a cluster, this asks one of the masters."""
        await call(self._redis, "get", [self._keys.presented("00", b"")], "")

    def _record(self, fields: Sequence[Any]) -> TokenRecord[ID]:
        return record_of(fields, self._parse_id(fields[1]))

    async def _change_record(self, script: str, found: Found[UP, ID], digest: bytes, **arguments: object) -> bool:
        """Run a script on the key of a record and on the key to which the script may rename it."""
        user_id = found.record.user_id
        keys = [*self._keys.of_user(user_id), *(self._keys.record(user_id, each) for each in (found.digest, digest))]
        return bool(await run(self._redis, script, keys, **arguments))

    async def _remove(self, script: str, user_id: ID, **arguments: object) -> Sequence[TokenRecord[ID]]:
        index = self._keys.index(user_id)
        removed = await remove_and_forget_answer(self._redis, script, index, {**arguments, "step": self._step})
        return [self._record(fields) for fields in removed]
