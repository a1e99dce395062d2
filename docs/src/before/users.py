"""The user manager, and the authentication backend."""

import uuid
from collections.abc import AsyncIterator
from typing import Annotated

from fastapi import Depends
from fastapi_users import BaseUserManager, FastAPIUsers, UUIDIDMixin
from fastapi_users.authentication import (
    AuthenticationBackend,
    BearerTransport,
    JWTStrategy,
)
from fastapi_users_db_sqlalchemy import SQLAlchemyUserDatabase

from db import User, get_user_db

SECRET = "CHANGE-ME to a long random text, and keep it out of the repository"

bearer_transport = BearerTransport(tokenUrl="auth/login")


def get_jwt_strategy() -> JWTStrategy[User, uuid.UUID]:
    """Return the strategy that accepts a token until it expires."""
    return JWTStrategy(SECRET, lifetime_seconds=3600)


class UserManager(UUIDIDMixin, BaseUserManager[User, uuid.UUID]):
    """The hooks that run when something happens to a user."""

    reset_password_token_secret = SECRET
    verification_token_secret = SECRET


UserDatabase = Annotated[SQLAlchemyUserDatabase[User, uuid.UUID], Depends(get_user_db)]


async def get_user_manager(user_db: UserDatabase) -> AsyncIterator[UserManager]:
    """Return the user manager."""
    yield UserManager(user_db)


auth_backend = AuthenticationBackend(
    name="jwt",
    transport=bearer_transport,
    get_strategy=get_jwt_strategy,
)
fastapi_users = FastAPIUsers[User, uuid.UUID](get_user_manager, [auth_backend])
current_active_user = fastapi_users.current_user(active=True)
