"""The text of a new token, together with its record."""

from collections.abc import Awaitable, Callable
from datetime import datetime
from typing import Any, Self

from fastapi_users_knox.records.token_record import ID, TokenRecord

__all__ = ["IssuedToken"]


class IssuedToken(str):
    """The text of a new token. The text cannot be read again later, because only its digest is stored.

    An `IssuedToken` is a `str`, so it passes through every backend and transport of FastAPI-Users.

    Attributes:
        record: The record that is stored for the token.
        user: The user whom the token belongs to.
        issued_at: When this text was generated. After a rotation, `issued_at` is later than `record.created_at`.
        revoke_cookie_session: A function that is called with the name of a cookie, and revokes the session whose token
            the request has in that cookie, even if the session belongs to another user. A transport calls the function
            before it overwrites the cookie. On a copy of the token, the function does nothing.
    """

    __slots__ = ("issued_at", "record", "revoke_cookie_session", "user")
    record: TokenRecord[Any]
    user: object
    issued_at: datetime
    revoke_cookie_session: Callable[[str], Awaitable[None]]

    def __new__(
        cls,
        text: str,
        *,
        record: TokenRecord[ID],
        user: object,
        issued_at: datetime,
        revoke_cookie_session: Callable[[str], Awaitable[None]] | None = None,
    ) -> Self:
        """Create the text, and give it the attributes of the token."""
        token = super().__new__(cls, text)
        token.record, token.user, token.issued_at = record, user, issued_at
        token.revoke_cookie_session = revoke_cookie_session or _revoke_nothing
        return token

    def __reduce__(self) -> tuple[Callable[..., "IssuedToken"], tuple[object, ...]]:
        """Return how to copy the token, with all its attributes except `revoke_cookie_session`."""
        return _copied, (str(self), self.record, self.user, self.issued_at)

    @property
    def expires_in(self) -> int | None:
        """The whole seconds from `issued_at` to the expiry (RFC 6749 §5.1); `None` if the token never expires."""
        if self.record.expires_at is None:
            return None
        return int((self.record.expires_at - self.issued_at).total_seconds())

    def __repr__(self) -> str:
        """Hide the text, so that no log contains it by accident (ASVS 16.2.5)."""
        return f"<IssuedToken {self.record.id}>"


def _copied(text: str, record: TokenRecord[Any], user: object, issued_at: datetime) -> IssuedToken:
    return IssuedToken(text, record=record, user=user, issued_at=issued_at)


async def _revoke_nothing(_cookie_name: str) -> None:
    """Do nothing, because without a request there is no cookie."""
