"""Reading the records of all users in small parts, so that Redis serves others in between."""

import json
from collections.abc import AsyncIterator, Iterable, Iterator, Mapping, Sequence
from typing import Any

from fastapi_users_knox.records import TokenRecord
from fastapi_users_knox.redis.keys import Keys, keys_beside, user_id_in
from fastapi_users_knox.redis.records import is_unconfirmed, record_of
from fastapi_users_knox.redis.scripts import Client, raising_unavailable

__all__ = ["find_records", "find_users"]

_USERS = 100  # users whose records are read in one round trip
_PART = 500  # records of one user that are read by one command

Command = tuple[str | int, ...]


async def find_users(client: Client, keys: Keys) -> AsyncIterator[Sequence[str]]:
    """Find the users who have records, and yield the indexes of some of them at a time."""
    indexes: list[str] = []
    async for index in keys.find_indexes(client, batch_size=1000):
        indexes.append(index)
        if len(indexes) == _USERS:
            yield indexes
            indexes = []
    if indexes:
        yield indexes


async def find_records(client: Client, keys: Keys) -> AsyncIterator[tuple[str, Sequence[TokenRecord[str]]]]:
    """Read the records of all users, and yield for each user the id, as text, and the records."""
    async for indexes in find_users(client, keys):
        for index, texts in (await _read(client, await _digests_in(client, indexes))).items():
            stored = [json.loads(text) for text in texts if text is not None]
            yield user_id_in(index), [record_of(fields, fields[1]) for fields in stored if not is_unconfirmed(fields)]


async def _digests_in(client: Client, indexes: Iterable[str]) -> Mapping[str, set[str]]:
    """Return the digests in each index. Redis may return one twice, if the index changes meanwhile."""
    digests: dict[str, set[str]] = {index: set() for index in indexes}
    cursors = dict.fromkeys(digests, 0)
    while cursors:
        answers = await _ask(client, [("ZSCAN", *each, "COUNT", _PART) for each in cursors.items()])
        for index, (_, scored) in zip(cursors, answers, strict=True):
            digests[index].update(digest.decode() if isinstance(digest, bytes) else digest for digest, _ in scored)
        following = {index: int(cursor) for index, (cursor, _) in zip(cursors, answers, strict=True)}
        cursors = {index: cursor for index, cursor in following.items() if cursor}
    return digests


async def _read(client: Client, digests: Mapping[str, Iterable[str]]) -> Mapping[str, Sequence[str | bytes | None]]:
    """Return the text of each record; `None` if Redis has deleted it meanwhile."""
    parts = [(index, keys) for index, some in digests.items() for keys in _split(keys_beside(index, some))]
    texts: dict[str, list[str | bytes | None]] = {index: [] for index in digests}
    for (index, _), answer in zip(parts, await _ask(client, [("MGET", *keys) for _, keys in parts]), strict=True):
        texts[index] += answer
    return texts


def _split(keys: Sequence[str]) -> Iterator[Sequence[str]]:
    """Split keys into parts that one command reads."""
    return (keys[first : first + _PART] for first in range(0, len(keys), _PART))


async def _ask(client: Client, commands: Sequence[Command]) -> Sequence[Any]:
    """Send commands together, and return their answers."""
    with raising_unavailable():
        async with client.pipeline(transaction=False) as pipeline:
            for command in commands:
                pipeline.execute_command(*command)
            answers: Sequence[Any] = await pipeline.execute()
            return answers
