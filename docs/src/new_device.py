"""Send a mail when a user logs in from a device that none of the user's other sessions is on."""

import uuid
from collections.abc import Awaitable, Callable
from typing import Annotated

from fastapi import Depends
from fastapi.requests import HTTPConnection
from fastapi_users_db_sqlalchemy import SQLAlchemyUserDatabase

from example_app.db import User, get_user_db
from example_app.tokens import get_token_store
from example_app.users import settings
from fastapi_users_knox import KnoxEvent, KnoxStrategy, Listener, TokenIssued, TokenRecord, TokenStore

Store = TokenStore[User, uuid.UUID]
Record = TokenRecord[uuid.UUID]


def on_new_device(store: Store, send_mail: Callable[[Record], Awaitable[None]]) -> Listener:
    """Make the listener."""

    async def listen(event: KnoxEvent[uuid.UUID]) -> None:
        if not isinstance(event, TokenIssued):
            return
        new: Record = event.record
        records = await store.list(new.user_id, audience=new.audience, now=new.created_at)
        others = [record for record in records if record.id != new.id]
        if others and all(device_of(record) != device_of(new) for record in others):
            await send_mail(new)

    return listen


def device_of(record: Record) -> str | None:
    """Name the device, by the client's own name for it where it has one."""
    return record.device_id or record.user_agent


async def send_mail(record: Record) -> None:
    """Put the mail into a queue: a slow mail server is not to hold up the login."""


async def get_knox_strategy(
    request: HTTPConnection,
    store: Annotated[Store, Depends(get_token_store)],
    user_db: Annotated[SQLAlchemyUserDatabase[User, uuid.UUID], Depends(get_user_db)],
) -> KnoxStrategy[User, uuid.UUID]:
    """Give the strategy."""
    listeners = [on_new_device(store, send_mail)]
    return KnoxStrategy(store, settings, request=request, user_db=user_db, listeners=listeners)
