"""An application for uvicorn with one route, which needs a token of the strategy that the variable SUBJECT names."""

import os
import uuid
from collections.abc import AsyncIterator
from typing import Annotated

from fastapi import Depends, FastAPI
from fastapi_users import FastAPIUsers
from fastapi_users.authentication import AuthenticationBackend, BearerTransport
from fastapi_users_db_sqlalchemy import SQLAlchemyUserDatabase
from redis.asyncio import Redis
from sqlalchemy.ext.asyncio import AsyncSession, create_async_engine

from benchmarks.load import CONNECTIONS
from benchmarks.models import User, UserManager
from benchmarks.peers import KNOX_REDIS, KNOX_SQL, NO_AUTHENTICATION, AnyStrategy, strategies
from fastapi_users_knox import KnoxBearerTransport

SUBJECT = os.environ["SUBJECT"]
REDIS_URL = os.environ["REDIS_URL"]

engine = create_async_engine(os.environ["DATABASE_URL"], pool_size=CONNECTIONS)
redis = Redis.from_url(REDIS_URL, decode_responses=True) if REDIS_URL else None
transport = KnoxBearerTransport("login") if SUBJECT in {KNOX_SQL, KNOX_REDIS} else BearerTransport("login")
app = FastAPI()


async def get_session() -> AsyncIterator[AsyncSession]:
    """Open the session of a request."""
    async with AsyncSession(engine, expire_on_commit=False) as session:
        yield session


Session = Annotated[AsyncSession, Depends(get_session)]


async def get_user_db(session: Session) -> SQLAlchemyUserDatabase[User, uuid.UUID]:
    """Return the user database."""
    return SQLAlchemyUserDatabase(session, User)


async def get_user_manager(
    user_db: Annotated[SQLAlchemyUserDatabase[User, uuid.UUID], Depends(get_user_db)],
) -> UserManager:
    """Return the user manager."""
    return UserManager(user_db)


async def get_strategy(session: Session) -> AnyStrategy:
    """Return the strategy."""
    return strategies(redis)[SUBJECT](session)


backend = AuthenticationBackend(name="benchmark", transport=transport, get_strategy=get_strategy)
current_user = FastAPIUsers[User, uuid.UUID](get_user_manager, [backend]).current_user(active=True)


async def anybody() -> User:
    """Return a user who is not stored anywhere."""
    return User(email="jane@example.org")


@app.get("/me")
async def me(
    user: Annotated[User, Depends(anybody if SUBJECT == NO_AUTHENTICATION else current_user)],
) -> dict[str, str]:
    """Return the user's e-mail address."""
    return {"email": user.email}
