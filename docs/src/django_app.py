"""An application whose users are in Django's table `auth_user`."""

import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated

from fastapi import Depends, FastAPI
from fastapi_users import BaseUserManager, FastAPIUsers, IntegerIDMixin, schemas
from fastapi_users.authentication import AuthenticationBackend
from fastapi_users_db_sqlalchemy import SQLAlchemyBaseUserTable, SQLAlchemyUserDatabase
from fastapi_users_knox import (
    KnoxBearerTransport,
    KnoxSettings,
    KnoxStrategy,
    KnoxUserManagerMixin,
    get_knox_router,
    knox_strategy,
)
from fastapi_users_knox.sqlalchemy import SQLAlchemyBaseKnoxTokenTable, SQLAlchemyTokenStore
from sqlalchemy import DateTime, ForeignKey, String
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker, create_async_engine
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from django_passwords import password_helper

SECRET = "CHANGE-ME to a long random text, and keep it out of the repository"

engine = create_async_engine("sqlite+aiosqlite:///db.sqlite3")  # the database of the Django application
async_session_maker = async_sessionmaker(engine, expire_on_commit=False)


class Base(DeclarativeBase):
    """The base class of all tables."""


class User(SQLAlchemyBaseUserTable[int], Base):
    """A user of Django. `is_verified` is not a column of Django: add it by a migration."""

    __tablename__ = "auth_user"

    if not TYPE_CHECKING:  # For type checkers, the base class declares these already.
        id: Mapped[int] = mapped_column(primary_key=True)
        email: Mapped[str] = mapped_column(String(254))
        hashed_password: Mapped[str] = mapped_column("password", String(128))

    username: Mapped[str] = mapped_column(String(150), unique=True, default=lambda: str(uuid.uuid4()))
    first_name: Mapped[str] = mapped_column(String(150), default="")
    last_name: Mapped[str] = mapped_column(String(150), default="")
    is_staff: Mapped[bool] = mapped_column(default=False)
    last_login: Mapped[datetime | None] = mapped_column(DateTime(timezone=True))
    date_joined: Mapped[datetime] = mapped_column(DateTime(timezone=True), default=lambda: datetime.now(UTC))


class KnoxToken(SQLAlchemyBaseKnoxTokenTable[int], Base):
    """What is stored about a token."""

    if not TYPE_CHECKING:
        user_id: Mapped[int] = mapped_column(ForeignKey("auth_user.id", ondelete="cascade"))


class UserManager(KnoxUserManagerMixin[User, int], IntegerIDMixin, BaseUserManager[User, int]):
    """The hooks that run when something happens to a user."""

    reset_password_token_secret = SECRET
    verification_token_secret = SECRET


async def get_session() -> AsyncIterator[AsyncSession]:
    """Open the session of a request."""
    async with async_session_maker() as session:
        yield session


Session = Annotated[AsyncSession, Depends(get_session)]


async def get_user_db(session: Session) -> SQLAlchemyUserDatabase[User, int]:
    """Return the database of the users."""
    return SQLAlchemyUserDatabase(session, User)


async def get_token_store(session: Session) -> SQLAlchemyTokenStore[User, int]:
    """Return the store of the tokens."""
    return SQLAlchemyTokenStore(session, KnoxToken)


get_knox_strategy = knox_strategy(get_token_store, KnoxSettings())


async def get_user_manager(
    user_db: Annotated[SQLAlchemyUserDatabase[User, int], Depends(get_user_db)],
    strategy: Annotated[KnoxStrategy[User, int], Depends(get_knox_strategy)],
) -> UserManager:
    """Return the user manager, which verifies the hashes of Django."""
    return UserManager(user_db, password_helper, knox=strategy)


@asynccontextmanager
async def lifespan(_app: FastAPI) -> AsyncIterator[None]:
    """Create the tables that do not exist yet; Django has created that of the users."""
    async with engine.begin() as connection:
        await connection.run_sync(Base.metadata.create_all)
    yield


transport = KnoxBearerTransport(tokenUrl="auth/login")
auth_backend = AuthenticationBackend(name="knox", transport=transport, get_strategy=get_knox_strategy)
fastapi_users = FastAPIUsers[User, int](get_user_manager, [auth_backend])
current_active_user = fastapi_users.current_user(active=True)

app = FastAPI(lifespan=lifespan)
app.include_router(fastapi_users.get_auth_router(auth_backend), prefix="/auth", tags=["auth"])
app.include_router(
    fastapi_users.get_register_router(schemas.BaseUser[int], schemas.BaseUserCreate), prefix="/auth", tags=["auth"]
)
app.include_router(get_knox_router(fastapi_users, auth_backend), prefix="/auth", tags=["auth"])


@app.get("/authenticated-route")
async def authenticated_route(user: Annotated[User, Depends(current_active_user)]) -> dict[str, str]:
    """Greet the user."""
    return {"message": f"Hello {user.email}!"}
