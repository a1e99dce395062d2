"""A transport that answers a login with more than the token."""

import uuid
from datetime import datetime

from fastapi_users_knox import IssuedToken, KnoxBearerTransport, KnoxLoginResponse
from pydantic import field_serializer


class LoginAnswer(KnoxLoginResponse):
    """The answer to a login, with the id of the session, and the expiry in seconds since 1970."""

    session_id: uuid.UUID

    @field_serializer("expiry")
    def format_expiry(self, expiry: datetime | None) -> int | None:
        """Return the expiry as a number; `None` if the token never expires."""
        return None if expiry is None else int(expiry.timestamp())


class AnswerTransport(KnoxBearerTransport):
    """The bearer transport with this answer."""

    response_model = LoginAnswer

    def get_login_content(self, token: IssuedToken) -> dict[str, object]:
        """Add the id of the session to the usual values."""
        return super().get_login_content(token) | {"session_id": token.record.id}
