"""The tests' application: The routers of FastAPI-Users and of this package, combined as a developer would.

FastAPI takes longer to build an application than most tests take, so each application is built once and shared. What
differs from one test to the next (the database, the clock, the settings) is in a `World`. Each request finds the world
in the state of its ASGI scope, in which the state of a lifespan is also passed.
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
    GetLoginOptions,
    KnoxBearerTransport,
    KnoxCookieMiddleware,
    KnoxSettings,
    KnoxStrategy,
    Listener,
    TokenStore,
    get_knox_admin_router,
    get_knox_router,
    unauthorized_handler,
)
from fastapi_users_knox.redis import RedisTokenStore
from fastapi_users_knox.sqlalchemy import SQLAlchemyTokenStore
from tests.conftest import untraced
from tests.models import KnoxToken, User, UserManager
from tests.strategies import DEFAULTS, Clock

PASSWORD = "correct horse battery staple"
# The real hash function with its smallest parameters, because no test is about its cost.
PASSWORDS = PasswordHelper(PasswordHash((Argon2Hasher(time_cost=1, memory_cost=8, parallelism=1),)))
HASHED = PASSWORDS.hash(PASSWORD)
# A hash of the same password that was made with other parameters, so the next check replaces it.
OLD_HASH = PasswordHash((Argon2Hasher(time_cost=2, memory_cost=8, parallelism=1),)).hash(PASSWORD)
ADA = "ada@example.org"

P = ParamSpec("P")
# The manager takes any user class, because some test modules have their own.
Backend = AuthenticationBackend[Any, uuid.UUID]
Users = FastAPIUsers[Any, uuid.UUID]
Store = TokenStore[Any, uuid.UUID]
Knox = KnoxStrategy[Any, uuid.UUID]
Manager = BaseUserManager[Any, uuid.UUID]
UserDatabase = SQLAlchemyUserDatabase[Any, uuid.UUID]


class UserRead(schemas.BaseUser[uuid.UUID]):
    """The schema with which the application returns a user."""


class UserCreate(schemas.BaseUserCreate):
    """The schema with which a user registers."""


class UserUpdate(schemas.BaseUserUpdate):
    """The schema with which a user is changed."""


# what differs from test to test


@dataclass(frozen=True, kw_only=True)
class Database:
    """An engine for the users and their tokens.

    Attributes:
        engine: The engine.
        expire_on_commit: Whether a commit expires the objects of a request's session, which is SQLAlchemy's default.
        user: The mapped class of the users.
        token: The mapped class of their token records.
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
        """Yield the token store of a request, over the request's session."""
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
    """An engine for the users and another engine for their tokens."""

    tokens: AsyncEngine

    @asynccontextmanager
    async def store(self, session: AsyncSession) -> AsyncIterator[Store]:
        """Yield the token store of a request, over a separate session."""
        del session
        async with AsyncSession(self.tokens) as own:
            yield SQLAlchemyTokenStore(own, self.token)


@dataclass(frozen=True, kw_only=True)
class RedisDatabase(Database):
    """An engine for the users and a Redis for their tokens."""

    redis: Redis | RedisCluster

    @asynccontextmanager
    async def store(self, session: AsyncSession) -> AsyncIterator[Store]:
        """Yield the token store of a request, over the client that all requests share."""
        del session
        yield RedisTokenStore(self.redis)


@dataclass(frozen=True, kw_only=True)
class World:
    """The database, clock, listeners and settings with which an application serves the requests of one test.

    Attributes:
        database: The database of the users and their tokens.
        clock: The clock of all strategies.
        listeners: The listeners of all strategies.
        settings: The settings of each backend by its name; other backends have the defaults.
        login_options: The function that chooses the options of each login, if there is one.
        notes: Texts that the application's own code leaves for the test.
    """

    database: Database
    clock: Clock = field(default_factory=Clock)
    listeners: Sequence[Listener] = ()
    settings: Mapping[str, KnoxSettings] = field(default_factory=dict)
    login_options: GetLoginOptions | None = None
    notes: list[str] = field(default_factory=list)

    def having(self, **settings: KnoxSettings) -> "World":
        """Return a copy with other settings for some backends."""
        return replace(self, settings={**self.settings, **settings})

    def serving(self, app: Any) -> "Served":
        """Return an application that serves its requests in this world."""
        return Served(app=app, world=self)

    def client(self, *backends: Backend, **options: Any) -> AsyncClient:
        """Open a client of an application with these backends; see `build_app` for the options."""
        return client_of(self.serving(create_app(*backends, **options)))

    def user_db(self, session: AsyncSession) -> UserDatabase:
        """Return a request's user database."""
        return UserDatabase(session, self.database.user)

    def user_manager(self, session: AsyncSession) -> Manager:
        """Return a request's user manager."""
        return UserManager(self.user_db(session), PASSWORDS)

    def strategy(self, backend: str, store: Store, session: AsyncSession, request: HTTPConnection | None) -> Knox:
        """Return a request's strategy at one of the backends."""
        return KnoxStrategy(
            store,
            self.settings.get(backend, DEFAULTS),
            request=request,
            user_db=self.user_db(session),
            listeners=self.listeners,
            login_options=self.login_options,
            clock=self.clock,
        )


@dataclass(frozen=True, kw_only=True)
class Served:
    """An ASGI application that serves its requests in a world."""

    app: Any
    world: World

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Serve a connection."""
        await self.app({**scope, "state": {"world": self.world}}, receive, send)


# the dependencies of a request


async def get_world(connection: HTTPConnection) -> World:
    """Return the world of the request."""
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
    """Return the user manager of a request."""
    return world.user_manager(session)


# the application


def knox_backend(name: str = "knox", transport: Transport | None = None) -> Backend:
    """Return a backend of this package. The same arguments return the same backend.

    Args:
        name: The name under which the world has the backend's settings.
        transport: The transport, by default a bearer transport.
    """
    chosen: Any = transport or bearer(f"{name}/login")  # type checkers consider this protocol unhashable
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
    """Return a bearer transport. The same arguments return the same transport, so that applications can be shared."""
    return KnoxBearerTransport(login_url, header_prefix=header_prefix)


COOKIES = CookieTransport(cookie_name="knox")


def cookie_backend() -> Backend:
    """Return a backend with a `KnoxStrategy` and FastAPI-Users' `CookieTransport`."""
    return knox_backend("cookie", COOKIES)


@cache
def jwt_backend() -> Backend:
    """Return a backend with FastAPI-Users' `JWTStrategy`."""

    async def get_strategy() -> Strategy[Any, uuid.UUID]:
        return JWTStrategy("the secret of a backend that is not ours", lifetime_seconds=3600)

    return AuthenticationBackend("jwt", bearer("jwt/login"), get_strategy)


def create_users(*backends: Backend, get_user_manager: Callable[..., Any] = get_user_manager) -> Users:
    """Return FastAPI-Users with these backends."""
    return Users(get_user_manager, backends)


def shared(build: Callable[P, FastAPI]) -> Callable[P, FastAPI]:
    """Share the built applications between all tests of a run: the same arguments return the same application.

    The building is not traced for coverage, so it takes half the time. Tests of the OpenAPI document build their own
    applications.
    """
    built: dict[object, FastAPI] = {}

    @wraps(build)
    def create(*args: P.args, **options: P.kwargs) -> FastAPI:
        key = (args, frozenset(options.items()))
        if key not in built:
            with untraced():
                app = build(*args, **options)
                for route in app.routes:  # FastAPI finishes a router at its first request.
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
    """Build an application, to which a test module may add routes.

    Args:
        backends: The backends by which users log in. The path of a backend's routes begins with its name.
        requires_verification: Whether unverified users are refused.
        renews_cookies: Whether `KnoxCookieMiddleware` is added.
        explains_401: Whether `unauthorized_handler` is added for 401.
        registers: Whether FastAPI-Users' routers for registration and users are added.
        get_user_manager: The dependency that returns the user manager.
    """
    app, users = FastAPI(), create_users(*backends, get_user_manager=get_user_manager)
    if renews_cookies:
        app.add_middleware(KnoxCookieMiddleware)
    if explains_401:
        app.add_exception_handler(401, unauthorized_handler)
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
    """Add a route and a WebSocket that return the e-mail address of the current user."""

    @app.get(f"/{name}")
    async def who(user: Annotated[User | None, Depends(current_user)]) -> str | None:
        return user.email if user else None

    @app.websocket(f"/ws/{name}")
    async def talk(websocket: WebSocket, user: Annotated[User | None, Depends(current_user)]) -> None:
        await websocket.accept()
        await websocket.send_text(user.email if user else "")
        await websocket.close()


# clients of the application


def client_of(app: Any) -> AsyncClient:
    """Open a client. If the application raises an exception, the test gets that exception."""
    return AsyncClient(transport=ASGITransport(app), base_url="https://test")


def credentials(email: str = ADA, password: str = PASSWORD) -> dict[str, str]:
    """Return the fields of the login form."""
    return {"username": email, "password": password}


def bearing(token: str, prefix: str = "Bearer") -> dict[str, str]:
    """Return the header that presents a token."""
    return {"Authorization": f"{prefix} {token}"}


async def login(client: AsyncClient, backend: str = "knox", email: str = ADA, *, device: str | None = None) -> str:
    """Log in on a device with this name, and return the token."""
    headers = {"X-Device-Name": device} if device else {}
    response = await client.post(f"/{backend}/login", data=credentials(email), headers=headers)
    assert response.status_code == 200, response.text
    token: str = response.json()["access_token"]
    return token
