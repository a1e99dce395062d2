"""Scripts that remove records: they run in parts, and keep their answer in Redis until the caller has received it.

Redis serves no other client while a script runs. So a script removes a limited number of records, and the caller runs
it again until it is finished.

A client repeats a run if the connection broke before the answer arrived. A script that has removed records would find
none of them at its repetition, so it keeps its answer for a minute, and the repetition returns that. The next part
replaces the answer, and once the last one has arrived, the caller deletes it.
"""

import asyncio
import json
from collections.abc import Mapping, Sequence
from contextlib import suppress
from datetime import timedelta
from typing import Any

from fastapi_users_knox.errors import InvalidToken, StoreUnavailable
from fastapi_users_knox.redis.keys import catalogue_beside, new_answer_key
from fastapi_users_knox.redis.records import MILLISECOND
from fastapi_users_knox.redis.scripts import Client, raising_unavailable, run

__all__ = ["FULL", "NOT_AUTHORIZED", "add_and_confirm", "list_all_parts", "remove_and_forget_answer"]

FULL = None  # The results of add.lua: the limit is reached, or
NOT_AUTHORIZED = 0  # the record `by` does not exist or has expired.
_ROLL_CHANGED = 2  # a result of confirm.lua
_UNCONFIRMED_TTL = timedelta(seconds=10)


async def remove_and_forget_answer(
    client: Client, script: str, index: str, arguments: Mapping[str, object]
) -> Sequence[Any]:
    """Run a script that removes records until it is finished, and delete its answer from Redis."""
    answer_key = new_answer_key(index)
    keys = [index, catalogue_beside(index), answer_key]
    removed: Sequence[Any] = await _run_all_parts(client, script, keys, arguments)
    if removed:
        with suppress(StoreUnavailable), raising_unavailable():
            await client.delete(answer_key.encode())
    return removed


async def add_and_confirm(client: Client, index: str, record_key: str, arguments: Mapping[str, object]) -> Any:  # noqa: ANN401 (a script's result)
    """Run the script that adds a record until it is finished, confirm the record, and return what was removed.

    If the script refuses the record, return the reason, which is `FULL` or `NOT_AUTHORIZED`. A record that is not
    confirmed within ten seconds, because its caller has failed, has expired by then.
    """
    keys = [index, catalogue_beside(index), new_answer_key(index), record_key]
    unconfirmed = {"unconfirmed": _UNCONFIRMED_TTL // MILLISECOND}
    with raising_unavailable():  # The time-out below too: when it occurs, the record has expired.
        async with asyncio.timeout(_UNCONFIRMED_TTL.total_seconds()):
            removed = await _run_all_parts(client, "add", keys, {**arguments, **unconfirmed})
            if removed in (FULL, NOT_AUTHORIZED):
                return removed
            return await _confirm(client, keys, arguments, removed)


async def _confirm(
    client: Client, keys: Sequence[str], arguments: Mapping[str, object], removed: Sequence[Any]
) -> Sequence[Any]:
    """Confirm a record, and return what was removed for it, which includes a record that was rolled without overlap."""
    rolled = next((digest for why, digest in removed if why == "rolled"), None)
    passed = {name: arguments[name] for name in ("now", "roll", "step")}
    confirmed = await run(client, "confirm", keys, **passed, rolled=rolled)
    if confirmed == _ROLL_CHANGED:
        raise InvalidToken
    if not confirmed:
        # No record of the user is left: somebody has removed all of them, or Redis has lost its data.
        raise InvalidToken if arguments["by"] or arguments["roll"] else StoreUnavailable
    return [pair for pair in removed if pair[0] != "rolled"]


async def list_all_parts(client: Client, keys: Sequence[str], arguments: Mapping[str, object]) -> Sequence[str | bytes]:
    """Run the script that lists records until the last part, and return the text of each record."""
    cursor, listed = "~", list[str | bytes]()
    while cursor:
        next_cursor, *texts = await run(client, "list", keys, cursor=cursor, **arguments)
        cursor = next_cursor.decode() if isinstance(next_cursor, bytes) else next_cursor
        listed += texts
    return listed


async def _run_all_parts(client: Client, script: str, keys: Sequence[str], arguments: Mapping[str, object]) -> Any:  # noqa: ANN401 (a script's result)
    """Run a script until it is finished, and return everything that it has removed, or its result if it refuses."""
    removed: list[Any] = []
    is_unfinished, part = True, 0
    while is_unfinished:
        answer = await run(client, script, keys, part=part, **arguments)
        if answer in {FULL, NOT_AUTHORIZED}:
            return answer
        is_unfinished, some = json.loads(answer)
        removed += some
        part += 1
    return removed
