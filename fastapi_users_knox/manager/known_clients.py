"""Recognizing the clients of a user: by the address of a live session, or by the token of a live session."""

from collections.abc import Container, Sequence
from itertools import islice
from uuid import UUID

from fastapi_users.models import ID, UP

from fastapi_users_knox.addresses import network_of
from fastapi_users_knox.errors import KnownBy, StoreUnavailable
from fastapi_users_knox.transports.presented import presented_texts
from fastapi_users_knox.verbs.context import Context
from fastapi_users_knox.verbs.reading import find, list_records

__all__ = ["known_by"]

_MAX_TOKENS = 16  # Each presented text may cost a read of the store, before the client is authenticated.


async def known_by(contexts: Sequence[Context[UP, ID]], user_id: ID, address: str | None) -> KnownBy:
    """Return how the client of a request is known as a client of this user."""
    found = [await _known_by(context, user_id, network_of(address)) for context in contexts]
    # The address comes first. Otherwise somebody who has stolen the token could use up the counter of the token, and so
    # lock out the user at the user's own address. This gives an attacker at that address no advantage, because there
    # the address is known without the token too.
    return "address" if "address" in found else next((record_id for record_id in found if record_id), None)


async def _known_by(context: Context[UP, ID], user_id: ID, network: str | None) -> KnownBy:
    """Return how a client is known to one store. API tokens do not count, because programs use and keep them.

    If the store is unavailable, the client is not known. The tokens are read even if the address is known. Otherwise
    the response time would show somebody who shares the address of a user that the user has an account.
    """
    try:
        records = [record for record in await list_records(context, user_id) if record.scopes is None]
        record_id = await _presented_one_of(context, {record.id for record in records})
    except StoreUnavailable:
        return None
    is_at_known_address = network is not None and any(network_of(record.ip_address) == network for record in records)
    return "address" if is_at_known_address else record_id


async def _presented_one_of(context: Context[UP, ID], live: Container[UUID]) -> UUID | None:
    """Return the record id of the first presented token whose record is one of these live ones."""
    now = context.now()
    for text in islice(presented_texts(context.connection), _MAX_TOKENS):
        found = await find(context, text, now)
        if found is not None and found.record.id in live:
            return found.record.id
    return None
