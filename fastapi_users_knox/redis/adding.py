"""Adding a record: the script that stores it, its confirmation, and what happens if either fails."""

from collections.abc import Mapping, Sequence
from contextlib import suppress
from datetime import datetime
from typing import Any

from fastapi_users_knox.errors import InvalidToken, StoreUnavailable, TokenLimitReached
from fastapi_users_knox.records import ID, Added, Roll, TokenRecord
from fastapi_users_knox.redis.after_reads import bounded
from fastapi_users_knox.redis.answers import FULL, NOT_AUTHORIZED, add_and_confirm, remove_and_forget_answer
from fastapi_users_knox.redis.keys import Keys
from fastapi_users_knox.redis.records import text_of
from fastapi_users_knox.redis.scripts import Client

__all__ = ["add_record", "added_of"]


async def add_record(
    client: Client, keys: Keys, record: TokenRecord[ID], digest: bytes, arguments: Mapping[str, Any]
) -> Sequence[Any]:
    """Store a record and confirm it. If the login fails in between, the record expires within ten seconds.

    Returns:
        A pair for each record that was removed: why, and its fields.

    Raises:
        TokenLimitReached: The limit is reached.
        InvalidToken: The record that authorizes the new one, or the one that it replaces later, is not live any more.
    """
    index, key = keys.index(record.user_id), keys.record(record.user_id, digest)
    try:
        removed: Any = await add_and_confirm(client, index, key, arguments)
    except StoreUnavailable:
        # Redis may have stored the record despite the error. It would count for the limit until it expires.
        with suppress(StoreUnavailable, TimeoutError):
            async with bounded():
                new = {"audience": record.audience, "id": text_of(record.id.bytes), "step": arguments["step"]}
                await remove_and_forget_answer(client, "remove", index, new)
        raise
    if removed == NOT_AUTHORIZED:
        raise InvalidToken
    if removed is FULL:
        raise TokenLimitReached(arguments["limit"])
    return list(removed)


def added_of(removed: Sequence[tuple[str, TokenRecord[ID]]], *, roll: Roll[ID] | None, now: datetime) -> Added[ID]:
    """Return the removed records by the reason of their removal. A roll without overlap has replaced its record."""
    rolled: list[tuple[str, TokenRecord[ID]]] = []
    if roll is not None and roll.expires_at <= now and all(record.id != roll.record.id for _, record in removed):
        rolled = [("replaced", roll.record)]
    reasons = ("expired", "replaced", "evicted")
    return Added(
        **{reason: tuple(record for why, record in (*removed, *rolled) if why == reason) for reason in reasons}
    )
