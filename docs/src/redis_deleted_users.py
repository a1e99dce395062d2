"""End the tokens of a user who is deleted: with SQL the rows go along, Redis has to be told."""

import uuid

from fastapi import Request
from fastapi_users import BaseUserManager, UUIDIDMixin
from fastapi_users_db_sqlalchemy import SQLAlchemyUserDatabase

from example_app.db import User
from fastapi_users_knox import KnoxStrategy


class UserManager(UUIDIDMixin, BaseUserManager[User, uuid.UUID]):
    """What happens to users."""

    def __init__(
        self, user_db: SQLAlchemyUserDatabase[User, uuid.UUID], strategy: KnoxStrategy[User, uuid.UUID]
    ) -> None:
        """Take the strategy along."""
        super().__init__(user_db)
        self.strategy = strategy

    async def on_after_delete(self, user: User, request: Request | None = None) -> None:  # noqa: ARG002
        """End all tokens."""
        await self.strategy.logout_all(user)
