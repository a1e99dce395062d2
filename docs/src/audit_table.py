"""Keep an audit table of logins, logouts and refused logins."""

import uuid
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import DateTime
from sqlalchemy.orm import Mapped, mapped_column

from example_app.db import Base, async_session_maker
from fastapi_users_knox import KnoxEvent


class AuditEntry(Base):
    """What happened to a token; no foreign key, so that it outlives the user."""

    __tablename__ = "audit_entry"

    id: Mapped[uuid.UUID] = mapped_column(primary_key=True, default=uuid.uuid4)
    at: Mapped[datetime] = mapped_column(DateTime(timezone=True), default=lambda: datetime.now(UTC))
    event: Mapped[str]
    user_id: Mapped[uuid.UUID] = mapped_column(index=True)
    record_id: Mapped[uuid.UUID | None]
    reason: Mapped[str | None]
    ip_address: Mapped[str | None]


async def write_audit_entry(event: KnoxEvent[Any]) -> None:
    """Write an entry, in a session of its own: the request's may be rolled back, and the token's row is committed."""
    record = getattr(event, "record", None)
    async with async_session_maker() as session:
        session.add(
            AuditEntry(
                event=type(event).__name__,
                user_id=event.user_id,
                record_id=None if record is None else record.id,
                reason=getattr(event, "reason", None),
                ip_address=event.client.ip_address,
            )
        )
        await session.commit()
