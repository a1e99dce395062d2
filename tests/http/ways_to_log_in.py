"""An application with every way to log in that FastAPI-Users has, the OAuth2 provider it trusts, and who goes them."""

import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from socket import create_server
from threading import Thread
from typing import Annotated, Any

from fastapi import APIRouter, Depends, FastAPI, Form, Header, HTTPException, Request, Response
from fastapi.requests import HTTPConnection
from fastapi.responses import RedirectResponse
from fastapi_users import BaseUserManager, FastAPIUsers, UUIDIDMixin
from fastapi_users.authentication import AuthenticationBackend, Strategy
from fastapi_users.jwt import decode_jwt, generate_jwt
from fastapi_users.router.common import ErrorCode
from fastapi_users_db_sqlalchemy import (
    SQLAlchemyBaseOAuthAccountTableUUID,
    SQLAlchemyBaseUserTableUUID,
    SQLAlchemyUserDatabase,
)
from httpx import URL, AsyncClient
from httpx import Response as Answer
from httpx_oauth.clients.openid import OpenID
from redis.asyncio import Redis, RedisCluster
from sqlalchemy import select, update
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker
from sqlalchemy.orm import DeclarativeBase, Mapped, relationship
from uvicorn import Config, Server

from fastapi_users_knox import (
    KnoxBearerTransport,
    KnoxCookieTransport,
    KnoxEvent,
    KnoxSettings,
    KnoxStrategy,
    TokenRecord,
)
from fastapi_users_knox.redis import RedisTokenStore
from fastapi_users_knox.sqlalchemy import SQLAlchemyBaseKnoxTokenTableUUID, SQLAlchemyTokenStore
from tests.site import HASHED, PASSWORD, PASSWORDS, UserCreate, credentials
from tests.strategies import DEFAULTS, Clock

SECRET = "secret-of-the-tests-that-is-long-enough"
IN_THE_MAIL = ["application:in-the-mail"]


class Base(DeclarativeBase):
    """The application's metadata."""


class OAuthAccount(SQLAlchemyBaseOAuthAccountTableUUID, Base):
    """A user's account at a provider."""


class User(SQLAlchemyBaseUserTableUUID, Base):
    """A user."""

    oauth_accounts: Mapped[list[OAuthAccount]] = relationship(lazy="joined")


class KnoxToken(SQLAlchemyBaseKnoxTokenTableUUID, Base):
    """A user's token record."""


Knox = KnoxStrategy[User, uuid.UUID]
MakeStrategy = Callable[..., Knox]


class UserManager(UUIDIDMixin, BaseUserManager[User, uuid.UUID]):
    """A user manager that greets whoever logs in."""

    def __init__(self, session: AsyncSession, greeted: list[str]) -> None:
        """Take the session, and the list of those who were greeted."""
        super().__init__(SQLAlchemyUserDatabase(session, User, OAuthAccount), PASSWORDS)
        self._greeted = greeted

    async def on_after_login(
        self, user: User, request: Request | None = None, response: Response | None = None
    ) -> None:
        """Greet."""
        del request, response
        self._greeted.append(user.email)


def sql_strategy(session: AsyncSession, settings: KnoxSettings, **options: Any) -> Knox:
    """Make a strategy whose tokens are beside the users."""
    return KnoxStrategy(SQLAlchemyTokenStore(session, KnoxToken), settings, **options)


def redis_strategy(
    session: AsyncSession, settings: KnoxSettings, *, redis: Redis | RedisCluster, **options: Any
) -> Knox:
    """Make a strategy whose tokens are in Redis, and that looks at the users once more."""
    users: SQLAlchemyUserDatabase[User, uuid.UUID] = SQLAlchemyUserDatabase(session, User)
    return KnoxStrategy(RedisTokenStore(redis), settings, user_db=users, **options)


@dataclass(kw_only=True)
class Site:
    """What the application is set up with, and what has happened on it.

    Attributes:
        sessions: Where the users are.
        make_strategy: Where the tokens are.
        openid: The provider's client.
        settings: What tokens are like, from the next request on.
        meanwhile: What somebody else changes of a user between the check of a login and its write.
        clock: What time it is.
        events: What was told of tokens.
        greeted: Whom the user manager has greeted.
    """

    sessions: async_sessionmaker[AsyncSession]
    make_strategy: MakeStrategy
    openid: OpenID
    settings: KnoxSettings = DEFAULTS
    meanwhile: Mapping[str, object] = field(default_factory=dict)
    clock: Clock = field(default_factory=Clock)
    events: list[KnoxEvent[uuid.UUID]] = field(default_factory=list)
    greeted: list[str] = field(default_factory=list)

    async def session(self) -> AsyncIterator[AsyncSession]:
        """Open a request's session."""
        async with self.sessions() as session:
            yield session

    def strategy(self, session: AsyncSession, request: HTTPConnection | None = None) -> Knox:
        """Make a request's strategy."""
        return self.make_strategy(
            session, self.settings, request=request, listeners=[self.events.append], clock=self.clock
        )

    async def create_user(self, email: str) -> None:
        """Store a user, who has the password."""
        async with self.sessions() as session:
            session.add(User(email=email, hashed_password=HASHED))
            await session.commit()

    async def change_user(self, email: str, values: Mapping[str, object]) -> None:
        """Change a user, as another request does."""
        async with self.sessions() as session:
            await session.execute(update(User).where(User.__table__.c.email == email).values(**values))
            await session.commit()

    async def records(self, email: str) -> Sequence[TokenRecord[uuid.UUID]]:
        """List a user's live tokens; nobody has any who is not known."""
        async with self.sessions() as session:
            user = (await session.scalars(select(User).where(User.__table__.c.email == email))).unique().one_or_none()
            return [] if user is None else await self.strategy(session).list_records(user)


class Backend(AuthenticationBackend[User, uuid.UUID]):
    """A backend at which things happen between the check of a login and its write."""

    site: Site

    async def login(self, strategy: Strategy[User, uuid.UUID], user: User) -> Response:
        """Log a user in, who has just been changed."""
        if self.site.meanwhile:
            await self.site.change_user(user.email, self.site.meanwhile)
        return await super().login(strategy, user)


def create_app(site: Site) -> FastAPI:
    """Make the application: for tokens in the header and in a cookie, each under its name."""
    session_of_request = Depends(site.session)

    async def get_user_manager(session: Annotated[AsyncSession, session_of_request]) -> UserManager:
        return UserManager(session, site.greeted)

    async def get_strategy(
        request: HTTPConnection, session: Annotated[AsyncSession, session_of_request]
    ) -> Strategy[User, uuid.UUID]:
        return site.strategy(session, request)

    transports = {"bearer": KnoxBearerTransport("bearer/login"), "cookie": KnoxCookieTransport()}
    backends = [Backend(name, transport, get_strategy) for name, transport in transports.items()]
    users = FastAPIUsers[User, uuid.UUID](get_user_manager, backends)
    app = FastAPI()
    for backend in backends:
        backend.site = site
        prefix = f"/{backend.name}"
        app.include_router(users.get_auth_router(backend), prefix=prefix)
        oauth_router = users.get_oauth_router(site.openid, backend, SECRET, associate_by_email=True)
        app.include_router(oauth_router, prefix=f"{prefix}/oauth")
        app.include_router(_own_router(users, backend), prefix=prefix)
    return app


def _own_router(users: FastAPIUsers[User, uuid.UUID], backend: Backend) -> APIRouter:
    """Make the routes that the application has written itself."""
    router = APIRouter()
    current_user = users.current_user(active=True)
    Manager = Annotated[UserManager, Depends(users.get_user_manager)]  # noqa: N806 (a type)
    RequestStrategy = Annotated[Knox, Depends(backend.get_strategy)]  # noqa: N806 (a type)

    @router.get("/who")
    async def who(user: Annotated[User, Depends(current_user)]) -> str:
        return user.email

    @router.get("/link")
    async def follow_link(request: Request, link: str, user_manager: Manager, strategy: RequestStrategy) -> Response:
        user = await user_manager.get_by_email(decode_jwt(link, SECRET, IN_THE_MAIL)["sub"])
        if not user.is_active:
            raise HTTPException(400, ErrorCode.LOGIN_BAD_CREDENTIALS)
        response = await backend.login(strategy, user)
        await user_manager.on_after_login(user, request, response)
        return response

    @router.get("/careless-link")
    async def follow_careless_link(link: str, user_manager: Manager, strategy: RequestStrategy) -> Response:
        user = await user_manager.get_by_email(decode_jwt(link, SECRET, IN_THE_MAIL)["sub"])
        return await backend.login(strategy, user)

    @router.post("/register")
    async def register(
        request: Request, user_create: UserCreate, user_manager: Manager, strategy: RequestStrategy
    ) -> Response:
        user = await user_manager.create(user_create, safe=True, request=request)
        response = await backend.login(strategy, user)
        await user_manager.on_after_login(user, request, response)
        return response

    return router


def _create_provider() -> FastAPI:
    """Make an OpenID provider, whose codes and access tokens are the e-mail address that the browser asked for."""
    app = FastAPI()

    @app.get("/.well-known/openid-configuration")
    async def configuration(request: Request) -> dict[str, str]:
        routes = {"authorization_endpoint": "authorize", "token_endpoint": "token", "userinfo_endpoint": "userinfo"}
        return {endpoint: str(request.url_for(name)) for endpoint, name in routes.items()}

    @app.get("/authorize")
    async def authorize(redirect_uri: str, state: str, login_hint: str) -> RedirectResponse:
        return RedirectResponse(str(URL(redirect_uri, params={"code": login_hint, "state": state})))

    @app.post("/token")
    async def token(code: Annotated[str, Form()]) -> dict[str, str]:
        return {"access_token": code, "token_type": "bearer"}

    @app.get("/userinfo")
    async def userinfo(authorization: Annotated[str, Header()]) -> dict[str, str]:
        email = authorization.removeprefix("Bearer ")
        return {"sub": email, "email": email}

    return app


@contextmanager
def serving_provider() -> Iterator[OpenID]:
    """Serve the provider on a free port, and give the application's client of it."""
    with create_server(("127.0.0.1", 0)) as listening:
        server = Server(Config(_create_provider(), ws="none", lifespan="off", log_config=None))
        thread = Thread(target=server.run, kwargs={"sockets": [listening]})
        thread.start()
        try:
            host, port = listening.getsockname()
            yield OpenID("application", "secret", f"http://{host}:{port}/.well-known/openid-configuration")
        finally:
            server.should_exit = True
            thread.join()


Way = Callable[[AsyncClient, str, Mapping[str, str] | None], Awaitable[Answer]]


async def by_password(browser: AsyncClient, email: str, headers: Mapping[str, str] | None = None) -> Answer:
    """Fill in the login form."""
    return await browser.post("/login", data=credentials(email), headers=headers)


async def by_oauth(browser: AsyncClient, email: str, headers: Mapping[str, str] | None = None) -> Answer:
    """Go to the provider, and come back."""
    begun = await browser.get("/oauth/authorize")
    async with AsyncClient() as elsewhere:
        there = URL(begun.json()["authorization_url"]).copy_add_param("login_hint", email)
        sent_back = await elsewhere.get(there)
    return await browser.get(sent_back.headers["Location"], headers=headers)


async def by_link(browser: AsyncClient, email: str, headers: Mapping[str, str] | None = None) -> Answer:
    """Follow the link that was in the mail."""
    return await browser.get("/link", params={"link": _link(email)}, headers=headers)


async def by_careless_link(browser: AsyncClient, email: str, headers: Mapping[str, str] | None = None) -> Answer:
    """Follow the link, where the application does not look at who it was sent to."""
    return await browser.get("/careless-link", params={"link": _link(email)}, headers=headers)


async def by_registration(browser: AsyncClient, email: str, headers: Mapping[str, str] | None = None) -> Answer:
    """Register, and be logged in at once."""
    return await browser.post("/register", json={"email": email, "password": PASSWORD}, headers=headers)


def _link(email: str) -> str:
    return generate_jwt({"sub": email, "aud": IN_THE_MAIL[0]}, SECRET, 600)
