"""An application with cookies, in which a page of another origin cannot log a browser in."""

import uuid

from fastapi import Depends, FastAPI, HTTPException, Request
from fastapi_users import FastAPIUsers
from fastapi_users.authentication import AuthenticationBackend
from fastapi_users_knox import KnoxCookieMiddleware, KnoxCookieTransport

from app import lifespan
from db import User
from users import get_knox_strategy, get_user_manager

transport = KnoxCookieTransport()
cookie_backend = AuthenticationBackend(name="cookie", transport=transport, get_strategy=get_knox_strategy)
fastapi_users = FastAPIUsers[User, uuid.UUID](get_user_manager, [cookie_backend])


async def refuse_other_origins(request: Request) -> None:
    """Answer 403 to a request from a page of another origin."""
    if not transport.trusts(request):
        raise HTTPException(403, "OTHER_ORIGIN")


app = FastAPI(lifespan=lifespan)
app.add_middleware(KnoxCookieMiddleware)
app.include_router(
    fastapi_users.get_auth_router(cookie_backend), prefix="/browser", dependencies=[Depends(refuse_other_origins)]
)
