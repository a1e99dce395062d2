"""A user manager that needs more than the users."""

import uuid
from typing import Protocol

from fastapi import Request
from fastapi_users import BaseUserManager, UUIDIDMixin
from fastapi_users.db import BaseUserDatabase

from example_app.db import User
from example_app.users import SECRET
from fastapi_users_knox import KnoxStrategy, KnoxUserManagerMixin


class Mailer(Protocol):
    """What sends mails."""

    async def send(self, to: str, text: str) -> None:
        """Send one."""


class UserManager(KnoxUserManagerMixin[User, uuid.UUID], UUIDIDMixin, BaseUserManager[User, uuid.UUID]):
    """A user manager that sends mails."""

    reset_password_token_secret = SECRET
    verification_token_secret = SECRET

    def __init__(
        self, user_db: BaseUserDatabase[User, uuid.UUID], mailer: Mailer, *, knox: KnoxStrategy[User, uuid.UUID]
    ) -> None:
        super().__init__(user_db, knox=knox)
        self.mailer = mailer

    async def on_after_reset_password(self, user: User, request: Request | None = None) -> None:  # noqa: ARG002
        """Report what has happened."""
        await self.mailer.send(user.email, "Your password was reset, and all your devices were logged out.")
