"""The user manager, and the authentication backend."""

import uuid
from collections.abc import AsyncIterator
from typing import Annotated

from fastapi import Depends
from fastapi_users import BaseUserManager, FastAPIUsers, UUIDIDMixin
from fastapi_users.authentication import (
    AuthenticationBackend,
)
from fastapi_users_db_sqlalchemy import SQLAlchemyUserDatabase
from fastapi_users_knox import KnoxBearerTransport, KnoxStrategy, KnoxUserManagerMixin, knox_strategy

from db import User, get_token_store, get_user_db
from settings import settings

SECRET = "CHANGE-ME to a long random text, and keep it out of the repository"

bearer_transport = KnoxBearerTransport(tokenUrl="auth/login")
get_knox_strategy = knox_strategy(get_token_store, settings)


class UserManager(KnoxUserManagerMixin[User, uuid.UUID], UUIDIDMixin, BaseUserManager[User, uuid.UUID]):
    """The hooks that run when something happens to a user."""

    reset_password_token_secret = SECRET
    verification_token_secret = SECRET


UserDatabase = Annotated[SQLAlchemyUserDatabase[User, uuid.UUID], Depends(get_user_db)]
Strategy = Annotated[KnoxStrategy[User, uuid.UUID], Depends(get_knox_strategy)]


async def get_user_manager(user_db: UserDatabase, strategy: Strategy) -> AsyncIterator[UserManager]:
    """Return the user manager."""
    yield UserManager(user_db, knox=strategy)


auth_backend = AuthenticationBackend(
    name="knox",
    transport=bearer_transport,
    get_strategy=get_knox_strategy,
)
fastapi_users = FastAPIUsers[User, uuid.UUID](get_user_manager, [auth_backend])
current_active_user = fastapi_users.current_user(active=True)
