"""Scripts that keep their answer in Redis until the caller has received it.

A client repeats a call if the connection broke before the answer arrived. The records that the first call removed are
gone by then, so the script keeps its answer for a minute, and the repeated call returns the kept answer. Once the
answer has arrived, the caller deletes it.
"""

import asyncio
import json
from collections.abc import Mapping, Sequence
from contextlib import suppress
from datetime import timedelta
from typing import Any

from fastapi_users_knox.errors import InvalidToken, StoreUnavailable
from fastapi_users_knox.redis.keys import new_answer_key
from fastapi_users_knox.redis.records import MILLISECOND
from fastapi_users_knox.redis.scripts import Client, raising_unavailable, run

__all__ = ["NOT_AUTHORIZED", "add_and_confirm", "remove_and_forget_answer"]

NOT_AUTHORIZED = 0  # The result of add.lua if the record `by` does not exist or has expired.
_UNCONFIRMED_TTL = timedelta(seconds=10)


async def remove_and_forget_answer(
    client: Client, script: str, index: str, arguments: Mapping[str, object]
) -> Sequence[Any]:
    """Run a script that removes records, and delete its answer from Redis once it has arrived."""
    answer_key = new_answer_key(index)
    answer: Sequence[Any] = json.loads(await run(client, script, [index, answer_key], **arguments))
    if answer:
        with suppress(StoreUnavailable), raising_unavailable():
            await client.delete(answer_key.encode())
    return answer


async def add_and_confirm(client: Client, index: str, record_key: str, arguments: Mapping[str, object]) -> Any:  # noqa: ANN401 (a script's result)
    """Run the script that adds a record, confirm the record, and return the answer of the first script.

    If the caller fails before it confirms the record, the record expires after ten seconds.
    """
    keys = [index, new_answer_key(index), record_key]
    unconfirmed = _UNCONFIRMED_TTL // MILLISECOND
    with raising_unavailable():  # This includes the time-out below: when it occurs, the record has expired.
        async with asyncio.timeout(_UNCONFIRMED_TTL.total_seconds()):
            answer = await run(client, "add", keys, unconfirmed=unconfirmed, **arguments)
            is_added = answer not in {None, NOT_AUTHORIZED}
            if is_added and not await run(client, "confirm", keys, now=arguments["now"]):
                # No record of the user is left: somebody has removed all of them, or Redis has lost its data.
                raise StoreUnavailable if arguments["by"] is None else InvalidToken
            return answer
