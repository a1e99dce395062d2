"""An application with FastAPI-Users' routers and ours, as a developer writes it."""

import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Annotated, Any

from fastapi import Depends, FastAPI, WebSocket
from fastapi.requests import HTTPConnection
from fastapi_users import FastAPIUsers, schemas
from fastapi_users.authentication import AuthenticationBackend, CookieTransport, JWTStrategy, Strategy, Transport
from fastapi_users.password import PasswordHelper
from fastapi_users_db_sqlalchemy import SQLAlchemyUserDatabase
from httpx import ASGITransport, AsyncClient
from pwdlib import PasswordHash
from pwdlib.hashers.argon2 import Argon2Hasher
from redis.asyncio import Redis, RedisCluster
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession

from fastapi_users_knox import (
    KnoxBearerTransport,
    KnoxSettings,
    KnoxStrategy,
    Listener,
    TokenStore,
    get_knox_admin_router,
    get_knox_router,
)
from fastapi_users_knox.redis import RedisTokenStore
from tests.models import User, UserManager, store_on
from tests.strategies import DEFAULTS, Clock

PASSWORD = "correct horse battery staple"
PASSWORDS = PasswordHelper(PasswordHash((Argon2Hasher(time_cost=1, memory_cost=8, parallelism=1),)))  # in no time
HASHED = PASSWORDS.hash(PASSWORD)

Backend = AuthenticationBackend[User, uuid.UUID]
Users = FastAPIUsers[User, uuid.UUID]
Store = TokenStore[User, uuid.UUID]


class UserRead(schemas.BaseUser[uuid.UUID]):
    """What is told of a user."""


class UserCreate(schemas.BaseUserCreate):
    """What a user registers with."""


class UserUpdate(schemas.BaseUserUpdate):
    """What a user may change."""


@dataclass(frozen=True, kw_only=True)
class Database:
    """The application's engine, and the one that the tokens are on, usually the same."""

    engine: AsyncEngine
    tokens: AsyncEngine

    async def session(self) -> AsyncIterator[AsyncSession]:
        """Open a request's session."""
        async with AsyncSession(self.engine) as session:
            yield session

    async def token_session(self) -> AsyncIterator[AsyncSession]:
        """Open a session of the tokens' own."""
        async with AsyncSession(self.tokens) as session:
            yield session

    def token_store(self) -> Callable[..., Awaitable[Store]]:
        """Make the dependency that gives the token store."""
        # On one engine the tokens share the request's session, as a developer would have it.
        get_session = self.session if self.tokens is self.engine else self.token_session

        async def get_store(session: Annotated[AsyncSession, Depends(get_session)]) -> Store:
            return store_on(session)

        return get_store

    async def create_user(self, email: str = "ada@example.org", **fields: Any) -> User:
        """Store a user, who has the password."""
        async with AsyncSession(self.engine, expire_on_commit=False) as session:
            user = User(**({"email": email, "hashed_password": HASHED} | fields))
            session.add(user)
            await session.commit()
            return user


@dataclass(frozen=True, kw_only=True)
class RedisDatabase(Database):
    """The application's engine for its users, and a Redis for their tokens."""

    redis: Redis | RedisCluster

    def token_store(self) -> Callable[..., Awaitable[Store]]:
        """Make the dependency that gives the token store."""

        async def get_store() -> Store:
            return RedisTokenStore(self.redis)

        return get_store


def knox_backend(
    database: Database,
    clock: Clock,
    *,
    name: str = "knox",
    settings: KnoxSettings = DEFAULTS,
    transport: Transport | None = None,
    listeners: Iterable[Listener] = (),
) -> Backend:
    """Make a backend of ours."""

    async def get_strategy(
        request: HTTPConnection,
        store: Annotated[Store, Depends(database.token_store())],
        session: Annotated[AsyncSession, Depends(database.session)],
    ) -> Strategy[User, uuid.UUID]:
        users: SQLAlchemyUserDatabase[User, uuid.UUID] = SQLAlchemyUserDatabase(session, User)
        return KnoxStrategy(store, settings, request=request, user_db=users, listeners=listeners, clock=clock)

    return AuthenticationBackend(name, transport or KnoxBearerTransport(f"{name}/login"), get_strategy)


def cookie_backend(database: Database, clock: Clock) -> Backend:
    """Make a backend of ours over FastAPI-Users' cookies."""
    return knox_backend(database, clock, name="cookie", transport=CookieTransport(cookie_name="knox"))


def jwt_backend() -> Backend:
    """Make a backend of FastAPI-Users' own."""

    async def get_strategy() -> Strategy[User, uuid.UUID]:
        return JWTStrategy("the secret of a backend that is not ours", lifetime_seconds=3600)

    return AuthenticationBackend("jwt", KnoxBearerTransport("jwt/login"), get_strategy)


def create_users(database: Database, backends: Sequence[Backend]) -> Users:
    """Set FastAPI-Users up."""

    async def get_user_manager(session: Annotated[AsyncSession, Depends(database.session)]) -> UserManager:
        return UserManager(SQLAlchemyUserDatabase(session, User), PASSWORDS)

    return Users(get_user_manager, backends)


def create_app(database: Database, backends: Sequence[Backend], *, requires_verification: bool = False) -> FastAPI:
    """Make an application: each backend's routes under its name, and a few that need a user."""
    app, users = FastAPI(), create_users(database, backends)
    for backend in backends:
        prefix = f"/{backend.name}"
        app.include_router(users.get_auth_router(backend, requires_verification), prefix=prefix)
        app.include_router(get_knox_router(users, backend, requires_verification=requires_verification), prefix=prefix)
        app.include_router(get_knox_admin_router(users, backend), prefix=f"/admin{prefix}")
    app.include_router(users.get_register_router(UserRead, UserCreate))
    app.include_router(users.get_users_router(UserRead, UserUpdate), prefix="/users")
    for name, current_user in {
        "active": users.current_user(active=True),
        "anyone": users.current_user(),
        "optional": users.current_user(optional=True),
        "verified": users.current_user(active=True, verified=True),
        "superuser": users.current_user(active=True, superuser=True),
    }.items():
        _add_route(app, name, current_user)
    return app


def _add_route(app: FastAPI, name: str, current_user: Callable[..., Any]) -> None:
    @app.get(f"/{name}")
    async def who(user: Annotated[User | None, Depends(current_user)]) -> str | None:
        return user.email if user else None

    @app.websocket(f"/ws/{name}")
    async def talk(websocket: WebSocket, user: Annotated[User | None, Depends(current_user)]) -> None:
        await websocket.accept()
        await websocket.send_text(user.email if user else "")
        await websocket.close()


def client_of(app: FastAPI) -> AsyncClient:
    """Open a client; what the application raises is the test's to see."""
    return AsyncClient(transport=ASGITransport(app), base_url="https://test")


def credentials(email: str = "ada@example.org", password: str = PASSWORD) -> dict[str, str]:
    """Fill in the login form."""
    return {"username": email, "password": password}


def bearing(token: str, prefix: str = "Bearer") -> dict[str, str]:
    """Present a token."""
    return {"Authorization": f"{prefix} {token}"}


async def login(
    client: AsyncClient, backend: str = "knox", email: str = "ada@example.org", *, device: str | None = None
) -> str:
    """Log in, on a device that says its name, and return the token."""
    headers = {"X-Device-Name": device} if device else {}
    response = await client.post(f"/{backend}/login", data=credentials(email), headers=headers)
    assert response.status_code == 200, response.text
    token: str = response.json()["access_token"]
    return token
