"""The one application of the tests: FastAPI-Users' routers and ours, as a developer writes it.

FastAPI takes longer to build an application than most tests take, so each is built once and shared. What differs from
one test to the next (the database, the clock, the settings) is in a `World`, which reaches the requests in the state
of their ASGI scope, as what a lifespan yields does.
"""

import uuid
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from functools import cache, wraps
from typing import Annotated, Any, ParamSpec

from fastapi import Depends, FastAPI, WebSocket
from fastapi.requests import HTTPConnection
from fastapi_users import BaseUserManager, FastAPIUsers, schemas
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
    KnoxCookieMiddleware,
    KnoxSettings,
    KnoxStrategy,
    Listener,
    TokenStore,
    get_knox_admin_router,
    get_knox_router,
    unauthorized,
)
from fastapi_users_knox.redis import RedisTokenStore
from fastapi_users_knox.sqlalchemy import SQLAlchemyTokenStore
from tests.conftest import untraced
from tests.models import KnoxToken, User, UserManager
from tests.strategies import DEFAULTS, Clock

PASSWORD = "correct horse battery staple"
# The real hash function with its smallest parameters, as no test is about its cost.
PASSWORDS = PasswordHelper(PasswordHash((Argon2Hasher(time_cost=1, memory_cost=8, parallelism=1),)))
HASHED = PASSWORDS.hash(PASSWORD)
ADA = "ada@example.org"

P = ParamSpec("P")
# Of any user class, as a test module may have one of its own.
Backend = AuthenticationBackend[Any, uuid.UUID]
Users = FastAPIUsers[Any, uuid.UUID]
Store = TokenStore[Any, uuid.UUID]
Knox = KnoxStrategy[Any, uuid.UUID]
Manager = BaseUserManager[Any, uuid.UUID]
UserDatabase = SQLAlchemyUserDatabase[Any, uuid.UUID]


class UserRead(schemas.BaseUser[uuid.UUID]):
    """What the application returns about a user."""


class UserCreate(schemas.BaseUserCreate):
    """What a user registers with."""


class UserUpdate(schemas.BaseUserUpdate):
    """What a user may change."""


# What differs from test to test


@dataclass(frozen=True, kw_only=True)
class Database:
    """An engine for the users, whose sessions hold their tokens too.

    Attributes:
        engine: The engine.
        expire_on_commit: Whether a commit expires what a session of a request has loaded, as is SQLAlchemy's default.
        user: The class of the users.
        token: The class of their token records.
    """

    engine: AsyncEngine
    expire_on_commit: bool = True
    user: type[Any] = User
    token: type[Any] = KnoxToken

    @asynccontextmanager
    async def session(self) -> AsyncIterator[AsyncSession]:
        """Open the session of a request."""
        async with AsyncSession(self.engine, expire_on_commit=self.expire_on_commit) as session:
            yield session

    @asynccontextmanager
    async def store(self, session: AsyncSession) -> AsyncIterator[Store]:
        """Open the token store of a request, which shares the request's session."""
        yield SQLAlchemyTokenStore(session, self.token)

    async def create_user(self, email: str = ADA, **fields: Any) -> User:
        """Store a user whose password is `PASSWORD`."""
        async with AsyncSession(self.engine, expire_on_commit=False) as session:
            user: User = self.user(**({"email": email, "hashed_password": HASHED} | fields))
            session.add(user)
            await session.commit()
            return user


@dataclass(frozen=True, kw_only=True)
class SplitDatabase(Database):
    """An engine for the users, and another one for their tokens."""

    tokens: AsyncEngine

    @asynccontextmanager
    async def store(self, session: AsyncSession) -> AsyncIterator[Store]:
        """Open the token store of a request on a session of its own."""
        del session
        async with AsyncSession(self.tokens) as own:
            yield SQLAlchemyTokenStore(own, self.token)


@dataclass(frozen=True, kw_only=True)
class RedisDatabase(Database):
    """An engine for the users, and a Redis for their tokens."""

    redis: Redis | RedisCluster

    @asynccontextmanager
    async def store(self, session: AsyncSession) -> AsyncIterator[Store]:
        """Give the token store over the client that all requests share."""
        del session
        yield RedisTokenStore(self.redis)


@dataclass(frozen=True, kw_only=True)
class World:
    """What the requests of one test work with.

    Attributes:
        database: Where the users and their tokens are stored.
        clock: The clock of all strategies.
        listeners: The listeners of all strategies.
        settings: The settings of each backend by its name; the others have the defaults.
        notes: What the application's own code has noted for the test.
    """

    database: Database
    clock: Clock = field(default_factory=Clock)
    listeners: Sequence[Listener] = ()
    settings: Mapping[str, KnoxSettings] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    def having(self, **settings: KnoxSettings) -> "World":
        """Return the same world with other settings for some backends."""
        return replace(self, settings={**self.settings, **settings})

    def serving(self, app: Any) -> "Served":
        """Serve an application in this world."""
        return Served(app=app, world=self)

    def client(self, *backends: Backend, **options: Any) -> AsyncClient:
        """Open a client of an application with these backends; see `create_app` for the options."""
        return client_of(self.serving(create_app(*backends, **options)))

    def user_db(self, session: AsyncSession) -> UserDatabase:
        """Make the user database of a request."""
        return UserDatabase(session, self.database.user)

    def user_manager(self, session: AsyncSession) -> Manager:
        """Make the user manager of a request."""
        return UserManager(self.user_db(session), PASSWORDS)

    def strategy(self, backend: str, store: Store, session: AsyncSession, request: HTTPConnection | None) -> Knox:
        """Make the strategy of a request at one of the backends."""
        return KnoxStrategy(
            store,
            self.settings.get(backend, DEFAULTS),
            request=request,
            user_db=self.user_db(session),
            listeners=self.listeners,
            clock=self.clock,
        )


@dataclass(frozen=True, kw_only=True)
class Served:
    """An application in a world: an ASGI application itself."""

    app: Any
    world: World

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Serve a connection."""
        await self.app({**scope, "state": {"world": self.world}}, receive, send)


# The dependencies of a request


async def get_world(connection: HTTPConnection) -> World:
    """Return the world that the request is made in."""
    world: World = connection.state.world
    return world


CurrentWorld = Annotated[World, Depends(get_world)]


async def get_session(world: CurrentWorld) -> AsyncIterator[AsyncSession]:
    """Open the session of a request."""
    async with world.database.session() as session:
        yield session


Session = Annotated[AsyncSession, Depends(get_session)]


async def get_store(world: CurrentWorld, session: Session) -> AsyncIterator[Store]:
    """Open the token store of a request."""
    async with world.database.store(session) as store:
        yield store


async def get_user_manager(world: CurrentWorld, session: Session) -> Manager:
    """Make the user manager of a request."""
    return world.user_manager(session)


# The application


def knox_backend(name: str = "knox", transport: Transport | None = None) -> Backend:
    """Return a backend of ours; the same arguments give the same backend.

    Args:
        name: The name, under which the world has the settings.
        transport: The transport, a bearer transport unless given.
    """
    chosen: Any = transport or bearer(f"{name}/login")  # a protocol, which type checkers take for unhashable
    return _knox_backend(name, chosen)


@cache
def _knox_backend(name: str, transport: Transport) -> Backend:
    async def get_strategy(
        request: HTTPConnection, world: CurrentWorld, store: Annotated[Store, Depends(get_store)], session: Session
    ) -> Strategy[Any, uuid.UUID]:
        return world.strategy(name, store, session, request)

    return AuthenticationBackend(name, transport, get_strategy)


@cache
def bearer(login_url: str = "knox/login", header_prefix: str = "Bearer") -> KnoxBearerTransport:
    """Return a bearer transport; the same arguments give the same transport, and so the same application."""
    return KnoxBearerTransport(login_url, header_prefix=header_prefix)


COOKIES = CookieTransport(cookie_name="knox")


def cookie_backend() -> Backend:
    """Return a backend of ours over FastAPI-Users' own cookies."""
    return knox_backend("cookie", COOKIES)


@cache
def jwt_backend() -> Backend:
    """Return a backend of FastAPI-Users' own."""

    async def get_strategy() -> Strategy[Any, uuid.UUID]:
        return JWTStrategy("the secret of a backend that is not ours", lifetime_seconds=3600)

    return AuthenticationBackend("jwt", bearer("jwt/login"), get_strategy)


def create_users(*backends: Backend, get_user_manager: Callable[..., Any] = get_user_manager) -> Users:
    """Set FastAPI-Users up."""
    return Users(get_user_manager, backends)


def shared(build: Callable[P, FastAPI]) -> Callable[P, FastAPI]:
    """Let all tests of a run share what a function builds: the same arguments give the same application.

    It is built untraced, which takes half the time; a test of the OpenAPI document measures the building of routers.
    """
    built: dict[object, FastAPI] = {}

    @wraps(build)
    def create(*args: P.args, **options: P.kwargs) -> FastAPI:
        key = (args, frozenset(options.items()))
        if key not in built:
            with untraced():
                app = build(*args, **options)
                for route in app.routes:  # FastAPI finishes a router when a request is first matched against it.
                    route.matches({"type": "http", "method": "GET", "path": "/nowhere", "root_path": "", "headers": []})
            built[key] = app
        return built[key]

    return create


def build_app(
    *backends: Backend,
    requires_verification: bool = False,
    renews_cookies: bool = False,
    explains_401: bool = False,
    registers: bool = True,
    get_user_manager: Callable[..., Any] = get_user_manager,
) -> FastAPI:
    """Build an application, to which a test module adds routes of its own.

    Args:
        backends: What users log in by; each has its routes under its name.
        requires_verification: Whether unverified users are refused.
        renews_cookies: Whether the cookie's middleware is added.
        explains_401: Whether our handler of 401 answers is added.
        registers: Whether FastAPI-Users' routers for users and for their registration are added.
        get_user_manager: The dependency that makes the user manager.
    """
    app, users = FastAPI(), create_users(*backends, get_user_manager=get_user_manager)
    if renews_cookies:
        app.add_middleware(KnoxCookieMiddleware)
    if explains_401:
        app.add_exception_handler(401, unauthorized)
    for backend in backends:
        prefix = f"/{backend.name}"
        app.include_router(users.get_auth_router(backend, requires_verification), prefix=prefix)
        app.include_router(get_knox_router(users, backend, requires_verification=requires_verification), prefix=prefix)
        app.include_router(get_knox_admin_router(users, backend), prefix=f"/admin{prefix}")
    if registers:
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


create_app = shared(build_app)


def _add_route(app: FastAPI, name: str, current_user: Callable[..., Any]) -> None:
    @app.get(f"/{name}")
    async def who(user: Annotated[User | None, Depends(current_user)]) -> str | None:
        return user.email if user else None

    @app.websocket(f"/ws/{name}")
    async def talk(websocket: WebSocket, user: Annotated[User | None, Depends(current_user)]) -> None:
        await websocket.accept()
        await websocket.send_text(user.email if user else "")
        await websocket.close()


# Its clients


def client_of(app: Any) -> AsyncClient:
    """Open a client; what the application raises reaches the test."""
    return AsyncClient(transport=ASGITransport(app), base_url="https://test")


def credentials(email: str = ADA, password: str = PASSWORD) -> dict[str, str]:
    """Fill in the login form."""
    return {"username": email, "password": password}


def bearing(token: str, prefix: str = "Bearer") -> dict[str, str]:
    """Present a token in the header."""
    return {"Authorization": f"{prefix} {token}"}


async def login(client: AsyncClient, backend: str = "knox", email: str = ADA, *, device: str | None = None) -> str:
    """Log in on a device of this name, and return the token."""
    headers = {"X-Device-Name": device} if device else {}
    response = await client.post(f"/{backend}/login", data=credentials(email), headers=headers)
    assert response.status_code == 200, response.text
    token: str = response.json()["access_token"]
    return token
