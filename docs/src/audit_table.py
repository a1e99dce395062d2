"""An audit table of logins, logouts and refused logins."""

import uuid
from datetime import UTC, datetime
from typing import Any

from fastapi_users_knox import KnoxEvent
from sqlalchemy import DateTime
from sqlalchemy.orm import Mapped, mapped_column

from db import Base, async_session_maker


class AuditEntry(Base):
    """What happened to a token or at a login. There is no foreign key, so the entry stays when the user is deleted."""

    __tablename__ = "audit_entry"

    id: Mapped[uuid.UUID] = mapped_column(primary_key=True, default=uuid.uuid4)
    at: Mapped[datetime] = mapped_column(DateTime(timezone=True), default=lambda: datetime.now(UTC))
    event: Mapped[str]
    user_id: Mapped[uuid.UUID | None] = mapped_column(index=True)
    record_id: Mapped[uuid.UUID | None]
    reason: Mapped[str | None]
    ip_address: Mapped[str | None]


async def write_audit_entry(event: KnoxEvent[Any]) -> None:
    """Write an entry in a separate session, because the session of the request may be rolled back."""
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
