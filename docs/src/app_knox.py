"""FastAPI-Users over SQLAlchemy."""

import os
import uuid
from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Annotated

from fastapi import Depends, FastAPI
from fastapi.requests import HTTPConnection
from fastapi_users import BaseUserManager, FastAPIUsers, UUIDIDMixin, schemas
from fastapi_users.authentication import AuthenticationBackend
from fastapi_users_db_sqlalchemy import SQLAlchemyBaseUserTableUUID, SQLAlchemyUserDatabase
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker, create_async_engine
from sqlalchemy.orm import DeclarativeBase

from fastapi_users_knox import KnoxBearerTransport, KnoxSettings, KnoxStrategy, get_knox_router
from fastapi_users_knox.sqlalchemy import SQLAlchemyBaseKnoxTokenTableUUID, SQLAlchemyTokenStore

SECRET = os.environ["SECRET"]


class Base(DeclarativeBase):
    """The application's metadata."""


class User(SQLAlchemyBaseUserTableUUID, Base):
    """A user."""


class KnoxToken(SQLAlchemyBaseKnoxTokenTableUUID, Base):
    """What is stored about a token."""


engine = create_async_engine(os.environ["DATABASE_URL"])
async_session_maker = async_sessionmaker(engine, expire_on_commit=False)


async def get_async_session() -> AsyncIterator[AsyncSession]:
    """Open the session of a request."""
    async with async_session_maker() as session:
        yield session


Session = Annotated[AsyncSession, Depends(get_async_session)]


class UserManager(UUIDIDMixin, BaseUserManager[User, uuid.UUID]):
    """What happens to users."""

    reset_password_token_secret = SECRET
    verification_token_secret = SECRET


async def get_user_manager(session: Session) -> UserManager:
    """Give the user manager."""
    return UserManager(SQLAlchemyUserDatabase(session, User))


settings = KnoxSettings(token_ttl=timedelta(hours=1))


async def get_knox_strategy(request: HTTPConnection, session: Session) -> KnoxStrategy[User, uuid.UUID]:
    """Give the strategy of knox tokens."""
    return KnoxStrategy(SQLAlchemyTokenStore(session, KnoxToken), settings, request=request)


auth_backend = AuthenticationBackend(
    name="knox",
    transport=KnoxBearerTransport(tokenUrl="auth/login"),
    get_strategy=get_knox_strategy,
)
fastapi_users = FastAPIUsers[User, uuid.UUID](get_user_manager, [auth_backend])

app = FastAPI()
app.include_router(fastapi_users.get_auth_router(auth_backend), prefix="/auth")
app.include_router(get_knox_router(fastapi_users, auth_backend), prefix="/auth")
app.include_router(
    fastapi_users.get_register_router(schemas.BaseUser[uuid.UUID], schemas.BaseUserCreate), prefix="/auth"
)


@app.get("/authenticated-route")
async def authenticated_route(user: Annotated[User, Depends(fastapi_users.current_user(active=True))]) -> str:
    """Greet the user."""
    return f"Hello {user.email}!"
