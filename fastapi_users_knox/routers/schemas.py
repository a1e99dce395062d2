"""The schema of a session, as the routes return it."""

from typing import Any, Self
from uuid import UUID

from pydantic import AwareDatetime, BaseModel, Field

from fastapi_users_knox.records import TokenRecord

__all__ = ["SessionRead"]

_EXAMPLE: dict[str, Any] = {
    "id": "8c2b1f6e-5d0a-4b0e-9a63-0f5f0f0c7a51",
    "name": "Jane's phone",
    "device_id": "b7e2f6a0-phone",
    "user_agent": "Mozilla/5.0 (Android 16; Mobile; rv:145.0) Gecko/145.0 Firefox/145.0",
    "ip_address": "192.0.2.1",
    "created_at": "2030-01-01T12:00:00Z",
    "authenticated_at": "2030-01-01T12:00:00Z",
    "expires_at": "2030-01-01T22:00:00Z",
    "last_used_at": "2030-01-01T12:34:56.789000Z",
    "scopes": ["reports:read"],  # null for most sessions, but OpenAPI documents leave out a null
    "data": {"plan": "free"},
    "current": False,
}


class SessionRead(BaseModel, json_schema_extra={"examples": [_EXAMPLE]}):
    """A live session of a user: what is stored about one token, never the token itself."""

    id: UUID = Field(
        description="The identifier with which the session can be revoked. Refresh and rotation do not change it."
    )
    name: str | None = Field(description="The name that the client or the application gave the session.")
    device_id: str | None = Field(description="The stable identifier that the client uses for its device.")
    user_agent: str | None = Field(description="The client's `User-Agent` at login.")
    ip_address: str | None = Field(description="The client's address at login.")
    created_at: AwareDatetime = Field(description="When the user logged in.")
    authenticated_at: AwareDatetime = Field(description="When the user last proved who they are.")
    expires_at: AwareDatetime | None = Field(
        description="When the session expires unless it is refreshed; null if it never expires."
    )
    last_used_at: AwareDatetime | None = Field(
        description="When the session was last used, accurate to `min_refresh_interval`; null if not used since login."
    )
    scopes: list[str] | None = Field(
        description="What the token may be used for; null for a session, which may do all that its user may."
    )
    data: dict[str, Any] = Field(description="The application's own data about the session.")
    current: bool = Field(description="Whether this request was made with the session.")

    @classmethod
    def of(cls, record: TokenRecord[Any], *, presented: TokenRecord[Any] | None) -> Self:
        """Return those fields of a record that a user may see, and whether this request was made with its token."""
        return cls(
            id=record.id,
            name=record.name,
            device_id=record.device_id,
            user_agent=record.user_agent,
            ip_address=record.ip_address,
            created_at=record.created_at,
            authenticated_at=record.authenticated_at,
            expires_at=record.expires_at,
            last_used_at=record.last_used_at,
            scopes=None if record.scopes is None else sorted(record.scopes),
            data=record.data,
            current=presented is not None and record.id == presented.id,
        )
