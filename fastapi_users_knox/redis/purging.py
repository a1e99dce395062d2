"""Purging: removing the expired records of all users, or one expired record that a read has found."""

from collections.abc import AsyncIterator, Mapping
from datetime import datetime
from functools import partial

from fastapi_users_knox.records import ID, UP, Found
from fastapi_users_knox.redis.after_reads import write_after_read
from fastapi_users_knox.redis.answers import remove_and_forget_answer
from fastapi_users_knox.redis.keys import Keys
from fastapi_users_knox.redis.records import text_of
from fastapi_users_knox.redis.scripts import Client

__all__ = ["purge_all", "purge_each", "purge_one"]


async def purge_all(client: Client, keys: Keys, arguments: Mapping[str, object], *, batch_size: int) -> int:
    """Find the indexes of all users, run the script for each of them, and return how many records were removed."""
    return sum([removed async for removed in purge_each(client, keys, arguments, batch_size=batch_size)])


async def purge_each(
    client: Client, keys: Keys, arguments: Mapping[str, object], *, batch_size: int
) -> AsyncIterator[int]:
    """Run the script for each user, and yield how many records of each user were removed."""
    async for index in keys.find_indexes(client, batch_size=batch_size):
        yield len(await remove_and_forget_answer(client, "purge", index, arguments))


async def purge_one(
    client: Client,
    keys: Keys,
    arguments: Mapping[str, object],
    seen: Found[UP, ID],
    *,
    now: datetime,
    tried_since: datetime,
) -> int:
    """Run the script for one record, without failing or delaying the request, and return how many were removed."""
    index = keys.index(seen.record.user_id)
    purge = partial(remove_and_forget_answer, client, "purge", index, {**arguments, "digest": text_of(seen.digest)})
    what = ("deleting an expired token", seen.record.id)
    return len(await write_after_read(purge, client=client, what=what, now=now, tried_since=tried_since) or ())
