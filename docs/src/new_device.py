"""Send a mail when a user logs in from a device that none of the user's other sessions uses."""

import uuid

from fastapi_users_knox import KnoxEvent, TokenIssued, TokenRecord
from fastapi_users_knox.sqlalchemy import SQLAlchemyTokenStore

from db import KnoxToken, User, async_session_maker


async def mail_about_new_device(event: KnoxEvent[uuid.UUID]) -> None:
    """Compare the new session with the user's other sessions."""
    if not isinstance(event, TokenIssued):
        return
    new: TokenRecord[uuid.UUID] = event.record
    async with async_session_maker() as session:
        store = SQLAlchemyTokenStore[User, uuid.UUID](session, KnoxToken)
        records = await store.list(new.user_id, audience=new.audience, now=new.created_at)
    known = {device_of(record) for record in records if record.id != new.id}
    if known and device_of(new) not in known:
        await send_mail(new)


def device_of(record: TokenRecord[uuid.UUID]) -> str | None:
    """Return what identifies the device: its id, if the client sends one, or its user agent."""
    return record.device_id or record.user_agent


async def send_mail(record: TokenRecord[uuid.UUID]) -> None:
    """Print the mail; a real application puts it into a queue, so that a slow mail server does not delay the login."""
    print(f"New login of user {record.user_id} from {device_of(record)}")
