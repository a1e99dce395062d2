"""Log users out everywhere when they have reset or changed their password."""

import uuid
from typing import Annotated, Any

from fastapi import Depends, Request
from fastapi_users import BaseUserManager, UUIDIDMixin
from fastapi_users_db_sqlalchemy import SQLAlchemyUserDatabase

from example_app.db import User, get_user_db
from example_app.users import SECRET, get_knox_strategy
from fastapi_users_knox import KnoxStrategy

UserDatabase = SQLAlchemyUserDatabase[User, uuid.UUID]
Strategy = KnoxStrategy[User, uuid.UUID]


class UserManager(UUIDIDMixin, BaseUserManager[User, uuid.UUID]):
    """What happens to users."""

    reset_password_token_secret = SECRET
    verification_token_secret = SECRET

    def __init__(self, user_db: UserDatabase, strategy: Strategy) -> None:
        """Take the strategy along."""
        super().__init__(user_db)
        self.strategy = strategy

    async def on_after_reset_password(self, user: User, request: Request | None = None) -> None:  # noqa: ARG002
        """End all tokens."""
        await self.strategy.logout_all(user)

    async def on_after_update(self, user: User, update_dict: dict[str, Any], request: Request | None = None) -> None:  # noqa: ARG002
        """End all tokens, if it was the password that changed."""
        if "password" in update_dict:
            await self.strategy.logout_all(user)


async def get_user_manager(
    user_db: Annotated[UserDatabase, Depends(get_user_db)],
    strategy: Annotated[Strategy, Depends(get_knox_strategy)],
) -> UserManager:
    """Give the user manager."""
    return UserManager(user_db, strategy)
