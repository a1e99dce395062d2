"""An application with FastAPI-Users' routers and ours, as a developer writes it."""

import uuid
from collections.abc import AsyncIterator, Callable, Sequence
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
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession

from fastapi_users_knox import KnoxBearerTransport, KnoxSettings, KnoxStrategy, get_knox_router
from tests.models import User, UserManager, store_on
from tests.strategies import DEFAULTS, Clock

PASSWORD = "correct horse battery staple"
PASSWORDS = PasswordHelper(PasswordHash((Argon2Hasher(time_cost=1, memory_cost=8, parallelism=1),)))  # in no time
HASHED = PASSWORDS.hash(PASSWORD)

Backend = AuthenticationBackend[User, uuid.UUID]


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

    async def create_user(self, email: str = "ada@example.org", **fields: Any) -> User:
        """Store a user, who has the password."""
        async with AsyncSession(self.engine, expire_on_commit=False) as session:
            user = User(**({"email": email, "hashed_password": HASHED} | fields))
            session.add(user)
            await session.commit()
            return user


def knox_backend(
    database: Database,
    clock: Clock,
    *,
    name: str = "knox",
    settings: KnoxSettings = DEFAULTS,
    transport: Transport | None = None,
) -> Backend:
    """Make a backend of ours."""
    # On one engine the tokens share the request's session, as a developer would have it.
    get_session = database.session if database.tokens is database.engine else database.token_session

    async def get_strategy(
        request: HTTPConnection, session: Annotated[AsyncSession, Depends(get_session)]
    ) -> Strategy[User, uuid.UUID]:
        return KnoxStrategy(store_on(session), settings, request=request, clock=clock)

    return AuthenticationBackend(name, transport or KnoxBearerTransport(f"{name}/login"), get_strategy)


def cookie_backend(database: Database, clock: Clock) -> Backend:
    """Make a backend of ours over FastAPI-Users' cookies."""
    return knox_backend(database, clock, name="cookie", transport=CookieTransport(cookie_name="knox"))


def jwt_backend() -> Backend:
    """Make a backend of FastAPI-Users' own."""

    async def get_strategy() -> Strategy[User, uuid.UUID]:
        return JWTStrategy("the secret of a backend that is not ours", lifetime_seconds=3600)

    return AuthenticationBackend("jwt", KnoxBearerTransport("jwt/login"), get_strategy)


def create_app(database: Database, backends: Sequence[Backend], *, requires_verification: bool = False) -> FastAPI:
    """Make an application: each backend's routes under its name, and a few that need a user."""

    async def get_user_manager(session: Annotated[AsyncSession, Depends(database.session)]) -> UserManager:
        return UserManager(SQLAlchemyUserDatabase(session, User), PASSWORDS)

    app, users = FastAPI(), FastAPIUsers[User, uuid.UUID](get_user_manager, backends)
    for backend in backends:
        prefix = f"/{backend.name}"
        app.include_router(users.get_auth_router(backend, requires_verification), prefix=prefix)
        app.include_router(get_knox_router(users, backend, requires_verification=requires_verification), prefix=prefix)
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


async def login(client: AsyncClient, backend: str = "knox", email: str = "ada@example.org") -> str:
    """Log in, and return the token."""
    response = await client.post(f"/{backend}/login", data=credentials(email))
    assert response.status_code == 200, response.text
    token: str = response.json()["access_token"]
    return token
