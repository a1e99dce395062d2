"""An application in which browsers log in by cookie, programs log in by header, and every route takes both."""

import uuid
from typing import Annotated

from fastapi import Depends, FastAPI
from fastapi_users import FastAPIUsers
from fastapi_users.authentication import AuthenticationBackend
from fastapi_users_knox import KnoxCookieMiddleware, KnoxCookieTransport, get_knox_router

from app import lifespan
from db import User
from schemas import UserCreate, UserRead
from users import auth_backend, get_knox_strategy, get_user_manager

cookie_backend = AuthenticationBackend(name="cookie", transport=KnoxCookieTransport(), get_strategy=get_knox_strategy)
fastapi_users = FastAPIUsers[User, uuid.UUID](get_user_manager, [cookie_backend, auth_backend])

app = FastAPI(lifespan=lifespan)
app.add_middleware(KnoxCookieMiddleware)
app.include_router(fastapi_users.get_auth_router(cookie_backend), prefix="/browser")
app.include_router(get_knox_router(fastapi_users, cookie_backend), prefix="/browser")
app.include_router(fastapi_users.get_auth_router(auth_backend), prefix="/auth")
app.include_router(get_knox_router(fastapi_users, auth_backend), prefix="/auth")
app.include_router(fastapi_users.get_register_router(UserRead, UserCreate), prefix="/auth")


@app.post("/authenticated-route")
async def authenticated_route(user: Annotated[User, Depends(fastapi_users.current_user(active=True))]) -> str:
    """Greet the user."""
    return f"Hello {user.email}!"
