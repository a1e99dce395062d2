"""FastAPI-Users over SQLAlchemy."""

import os
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Annotated

from fastapi import Depends, FastAPI
from fastapi.requests import HTTPConnection
from fastapi_users import BaseUserManager, FastAPIUsers, UUIDIDMixin, schemas
from fastapi_users.authentication import AuthenticationBackend
from fastapi_users_db_sqlalchemy import SQLAlchemyBaseUserTableUUID, SQLAlchemyUserDatabase
from redis.asyncio import BlockingConnectionPool, Redis
from redis.asyncio.retry import Retry
from redis.backoff import EqualJitterBackoff
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker, create_async_engine
from sqlalchemy.orm import DeclarativeBase

from fastapi_users_knox import KnoxBearerTransport, KnoxSettings, KnoxStrategy, get_knox_router
from fastapi_users_knox.redis import RedisTokenStore

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


settings = KnoxSettings(token_ttl=timedelta(hours=1))

redis = Redis.from_pool(
    BlockingConnectionPool.from_url(
        os.environ["REDIS_URL"],
        timeout=1,
        socket_timeout=1,
        socket_connect_timeout=1,
        retry=Retry(EqualJitterBackoff(base=0.05, cap=0.5), retries=2),
    )
)


async def get_knox_strategy(request: HTTPConnection, session: Session) -> KnoxStrategy[User, uuid.UUID]:
    """Give the strategy of knox tokens."""
    user_db = SQLAlchemyUserDatabase[User, uuid.UUID](session, User)
    return KnoxStrategy(RedisTokenStore(redis), settings, request=request, user_db=user_db)


auth_backend = AuthenticationBackend(
    name="knox",
    transport=KnoxBearerTransport(tokenUrl="auth/login"),
    get_strategy=get_knox_strategy,
)
fastapi_users = FastAPIUsers[User, uuid.UUID](get_user_manager, [auth_backend])


@asynccontextmanager
async def lifespan(_app: FastAPI) -> AsyncIterator[None]:
    """Close the connections to Redis at the end."""
    yield
    await redis.aclose()


app = FastAPI(lifespan=lifespan)
app.include_router(fastapi_users.get_auth_router(auth_backend), prefix="/auth")
app.include_router(get_knox_router(fastapi_users, auth_backend), prefix="/auth")
app.include_router(
    fastapi_users.get_register_router(schemas.BaseUser[uuid.UUID], schemas.BaseUserCreate), prefix="/auth"
)


@app.get("/authenticated-route")
async def authenticated_route(user: Annotated[User, Depends(fastapi_users.current_user(active=True))]) -> str:
    """Greet the user."""
    return f"Hello {user.email}!"
