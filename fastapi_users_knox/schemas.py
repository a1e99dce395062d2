"""What the routes answer: a session, and the errors as they stand in the OpenAPI document."""

from typing import Any, Self
from uuid import UUID

from fastapi import status
from fastapi_users.openapi import OpenAPIResponseType
from fastapi_users.router.common import ErrorModel
from pydantic import AwareDatetime, BaseModel, Field

from fastapi_users_knox.store import TokenRecord

__all__ = ["SESSION_NOT_FOUND", "SessionRead", "refusals"]

SESSION_NOT_FOUND = "SESSION_NOT_FOUND"

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
    "current": True,
}


class SessionRead(BaseModel, json_schema_extra={"examples": [_EXAMPLE]}):
    """A live session of a user: what is stored about one token, but never the token."""

    id: UUID = Field(description="By which the session is ended; refresh and rotation keep it.")
    name: str | None = Field(description="What the client or the application calls it.")
    device_id: str | None = Field(description="The client's own, stable name of the device.")
    user_agent: str | None = Field(description="The client's `User-Agent` at login.")
    ip_address: str | None = Field(description="The client's address at login.")
    created_at: AwareDatetime = Field(description="When the login was.")
    authenticated_at: AwareDatetime = Field(description="When the user last proved who they are.")
    expires_at: AwareDatetime | None = Field(description="When it expires, unless it is refreshed; null: never.")
    last_used_at: AwareDatetime | None = Field(
        description="When it was last used, to within `min_refresh_interval`; null: not since the login."
    )
    current: bool = Field(description="Whether it is the session that asks.")

    @classmethod
    def of(cls, record: TokenRecord[Any], *, presented: TokenRecord[Any] | None) -> Self:
        """Tell of a record what its user may see, and whether it is the presented token's."""
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
            current=presented is not None and record.id == presented.id,
        )


def refusals(*, forbidden: str | None = None, not_found: dict[str, str] | None = None) -> OpenAPIResponseType:
    """Document the errors of a route that needs a token.

    Args:
        forbidden: Why a user may be forbidden to call it, if so.
        not_found: The codes of a 404, each with its reason; none: it has no 404.
    """
    documented: OpenAPIResponseType = {
        status.HTTP_401_UNAUTHORIZED: _refusal({"Unauthorized": "Missing token or inactive user."}, "WWW-Authenticate"),
        status.HTTP_503_SERVICE_UNAVAILABLE: _refusal(
            {"TOKEN_STORE_UNAVAILABLE": "The token store cannot answer."}, "Retry-After"
        ),
    }
    if forbidden is not None:
        documented[status.HTTP_403_FORBIDDEN] = _refusal({"Forbidden": forbidden})
    if not_found is not None:
        documented[status.HTTP_404_NOT_FOUND] = _refusal(not_found)
    return documented


def _refusal(codes: dict[str, str], *headers: str) -> dict[str, Any]:
    examples = {code: {"summary": summary, "value": {"detail": code}} for code, summary in codes.items()}
    return {
        "model": ErrorModel,
        "description": " ".join(codes.values()),
        "headers": {header: {"schema": {"type": "string"}} for header in headers},
        "content": {"application/json": {"examples": examples}},
    }
