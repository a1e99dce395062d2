"""FastAPI-Users over SQLAlchemy."""

import os
import uuid
from collections.abc import AsyncIterator
from typing import Annotated

from fastapi import Depends, FastAPI
from fastapi_users import BaseUserManager, FastAPIUsers, UUIDIDMixin, schemas
from fastapi_users.authentication import AuthenticationBackend, BearerTransport, JWTStrategy
from fastapi_users_db_sqlalchemy import SQLAlchemyBaseUserTableUUID, SQLAlchemyUserDatabase
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker, create_async_engine
from sqlalchemy.orm import DeclarativeBase

SECRET = os.environ["SECRET"]


class Base(DeclarativeBase):
    """The application's metadata."""


class User(SQLAlchemyBaseUserTableUUID, Base):
    """A user."""


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


def get_jwt_strategy() -> JWTStrategy[User, uuid.UUID]:
    """Give the strategy of JWTs."""
    return JWTStrategy(SECRET, lifetime_seconds=3600)


auth_backend = AuthenticationBackend(
    name="jwt",
    transport=BearerTransport(tokenUrl="auth/login"),
    get_strategy=get_jwt_strategy,
)
fastapi_users = FastAPIUsers[User, uuid.UUID](get_user_manager, [auth_backend])

app = FastAPI()
app.include_router(fastapi_users.get_auth_router(auth_backend), prefix="/auth")
app.include_router(
    fastapi_users.get_register_router(schemas.BaseUser[uuid.UUID], schemas.BaseUserCreate), prefix="/auth"
)


@app.get("/authenticated-route")
async def authenticated_route(user: Annotated[User, Depends(fastapi_users.current_user(active=True))]) -> str:
    """Greet the user."""
    return f"Hello {user.email}!"
