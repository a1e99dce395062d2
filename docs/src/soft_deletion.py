"""Keep deleted users, who can log in no more."""

import uuid

from fastapi import Request
from fastapi_users import BaseUserManager, UUIDIDMixin

from example_app.db import User
from example_app.users import SECRET
from fastapi_users_knox import KnoxUserManagerMixin


class UserManager(KnoxUserManagerMixin[User, uuid.UUID], UUIDIDMixin, BaseUserManager[User, uuid.UUID]):
    """A user manager that deletes softly."""

    reset_password_token_secret = SECRET
    verification_token_secret = SECRET

    async def delete(self, user: User, request: Request | None = None) -> None:
        """Free the address for somebody else, and make the password one that nobody knows."""
        await self.on_before_delete(user, request)
        password = self.password_helper.hash(self.password_helper.generate())
        await self.user_db.update(user, {"email": f"{user.id}@deleted.invalid", "hashed_password": password})
        await self.on_after_delete(user, request)
