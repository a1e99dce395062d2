"""Issue knox tokens, and accept the JWTs that are still about."""

import os
import uuid
from typing import Annotated

from fastapi import Depends, FastAPI
from fastapi_users import FastAPIUsers
from fastapi_users.authentication import AuthenticationBackend, BearerTransport, JWTStrategy

from example_app.db import User
from example_app.users import auth_backend, get_user_manager
from fastapi_users_knox import get_knox_router


def get_jwt_strategy() -> JWTStrategy[User, uuid.UUID]:
    """Give the strategy of the past."""
    return JWTStrategy(os.environ["SECRET"], lifetime_seconds=3600)


jwt_backend = AuthenticationBackend("jwt", BearerTransport(tokenUrl="auth/login"), get_jwt_strategy)
fastapi_users = FastAPIUsers[User, uuid.UUID](get_user_manager, [auth_backend, jwt_backend])

app = FastAPI()
app.include_router(fastapi_users.get_auth_router(auth_backend), prefix="/auth")
app.include_router(get_knox_router(fastapi_users, auth_backend), prefix="/auth")


@app.get("/authenticated-route")
async def authenticated_route(user: Annotated[User, Depends(fastapi_users.current_user(active=True))]) -> str:
    """Greet whoever has a token of either kind."""
    return f"Hello {user.email}!"
