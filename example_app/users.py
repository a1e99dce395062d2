"""The user manager, and the authentication backends: sessions in a header or a cookie, and API tokens for programs."""

import os
import secrets
import uuid
from datetime import timedelta
from typing import Annotated

from fastapi import Depends, Request
from fastapi_users import BaseUserManager, FastAPIUsers, UUIDIDMixin
from fastapi_users.authentication import AuthenticationBackend
from fastapi_users_db_sqlalchemy import SQLAlchemyUserDatabase

from example_app.db import User, get_user_db
from example_app.tokens import get_token_store
from fastapi_users_knox import (
    ApiTokenSettings,
    KnoxBearerTransport,
    KnoxCookieTransport,
    KnoxSettings,
    KnoxStrategy,
    KnoxUserManagerMixin,
    current_token,
    knox_strategy,
    log_event,
)

SECRET = os.environ.get("SECRET") or secrets.token_urlsafe(32)

settings = KnoxSettings(
    token_ttl=timedelta(hours=10),
    token_limit_per_user=5,
    limit_policy="evict_oldest",
    auto_refresh=True,
    auto_refresh_max_ttl=timedelta(days=30),
)
api_settings = ApiTokenSettings(token_limit_per_user=20)


class UserManager(KnoxUserManagerMixin[User, uuid.UUID], UUIDIDMixin, BaseUserManager[User, uuid.UUID]):
    """What happens to users; the tokens for password resets and verifications are printed instead of mailed."""

    reset_password_token_secret = SECRET
    verification_token_secret = SECRET

    async def on_after_forgot_password(self, user: User, token: str, request: Request | None = None) -> None:  # noqa: ARG002
        """Print the token with which the user resets the password."""
        print(f"{user.email} can reset the password with the token {token}", flush=True)  # noqa: T201

    async def on_after_request_verify(self, user: User, token: str, request: Request | None = None) -> None:  # noqa: ARG002
        """Print the token with which the user verifies the address."""
        print(f"{user.email} can verify the address with the token {token}", flush=True)  # noqa: T201


get_knox_strategy = knox_strategy(get_token_store, settings, get_user_db=get_user_db, listeners=[log_event])
get_api_strategy = knox_strategy(get_token_store, api_settings, get_user_db=get_user_db, listeners=[log_event])


async def get_user_manager(
    user_db: Annotated[SQLAlchemyUserDatabase[User, uuid.UUID], Depends(get_user_db)],
    strategy: Annotated[KnoxStrategy[User, uuid.UUID], Depends(get_knox_strategy)],
    api_strategy: Annotated[KnoxStrategy[User, uuid.UUID], Depends(get_api_strategy)],
) -> UserManager:
    """Return the user manager, which revokes tokens of both kinds when a password changes or a user is deleted."""
    return UserManager(user_db, knox=[strategy, api_strategy])


auth_backend = AuthenticationBackend(
    name="knox", transport=KnoxBearerTransport(tokenUrl="auth/login"), get_strategy=get_knox_strategy
)
cookie_backend = AuthenticationBackend(name="cookie", transport=KnoxCookieTransport(), get_strategy=get_knox_strategy)
api_backend = AuthenticationBackend(
    name="api", transport=KnoxBearerTransport(None, scheme_name="ApiToken"), get_strategy=get_api_strategy
)
fastapi_users = FastAPIUsers[User, uuid.UUID](get_user_manager, [auth_backend, cookie_backend])
current_active_user = fastapi_users.current_user(active=True)
# `Security(current_session_or_api_token, scopes=[...])` also accepts an API token that has these scopes.
current_session_or_api_token = current_token(fastapi_users, [auth_backend, cookie_backend, api_backend], active=True)
