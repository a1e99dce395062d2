"""An application with every way to log in that FastAPI-Users offers, its OAuth2 provider, and clients for each way."""

import uuid
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from socket import create_server
from ssl import create_default_context
from threading import Thread
from typing import Annotated, Any

from fastapi import APIRouter, Depends, FastAPI, Form, Header, HTTPException, Request, Response
from fastapi.requests import HTTPConnection
from fastapi.responses import RedirectResponse
from fastapi_users import BaseUserManager, UUIDIDMixin
from fastapi_users.jwt import decode_jwt, generate_jwt
from fastapi_users.router.common import ErrorCode
from fastapi_users_db_sqlalchemy import (
    SQLAlchemyBaseOAuthAccountTableUUID,
    SQLAlchemyBaseUserTableUUID,
)
from httpx import URL, AsyncClient
from httpx import Response as Answer
from httpx_oauth.clients.openid import OpenID
from sqlalchemy import select, update
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import DeclarativeBase, Mapped, relationship
from uvicorn import Config, Server

from fastapi_users_knox import (
    IssuedToken,
    KnoxCookieTransport,
    KnoxEvent,
    KnoxSettings,
    KnoxStrategy,
    TokenRecord,
)
from fastapi_users_knox.sqlalchemy import SQLAlchemyBaseKnoxTokenTableUUID
from tests.site import (
    PASSWORD,
    PASSWORDS,
    Backend,
    Knox,
    Manager,
    Store,
    UserCreate,
    UserDatabase,
    Users,
    World,
    build_app,
    create_users,
    credentials,
    knox_backend,
)
from tests.strategies import DEFAULTS

SECRET = "secret-of-the-tests-that-is-long-enough"
TLS = create_default_context()  # made once, because it takes as long as a login
IN_THE_MAIL = ["application:in-the-mail"]


class Base(DeclarativeBase):
    """The metadata of the application's tables."""


class OAuthAccount(SQLAlchemyBaseOAuthAccountTableUUID, Base):
    """A user's account at an OAuth2 provider."""


# The other tables have the same names and columns as the tables in tests.models.
OAUTH_ACCOUNTS = Base.metadata.tables["oauth_account"]


class User(SQLAlchemyBaseUserTableUUID, Base):
    """A user with OAuth accounts."""

    oauth_accounts: Mapped[list[OAuthAccount]] = relationship(lazy="joined")


class KnoxToken(SQLAlchemyBaseKnoxTokenTableUUID, Base):
    """A user's token record."""


class UserManager(UUIDIDMixin, BaseUserManager[User, uuid.UUID]):
    """A user manager that remembers who has logged in."""

    def __init__(self, user_db: UserDatabase, notes: list[str]) -> None:
        """Take the user database and the list to which logins are appended."""
        super().__init__(user_db, PASSWORDS)
        self._notes = notes

    async def on_after_login(
        self, user: User, request: Request | None = None, response: Response | None = None
    ) -> None:
        """Append the user's e-mail address, which must be readable after the token was written."""
        del request, response
        self._notes.append(user.email)


@dataclass(frozen=True, kw_only=True)
class Site(World):
    """The application's database, clock and settings, and the events that its requests have published.

    Attributes:
        settings: The settings of each backend, from the next request on.
        meanwhile: The values of a user that another request changes after a login is checked and before its token is
            written.
        events: The published events.
    """

    settings: dict[str, KnoxSettings] = field(default_factory=dict)
    meanwhile: dict[str, object] = field(default_factory=dict)
    events: list[KnoxEvent[uuid.UUID]] = field(default_factory=list)

    def user_db(self, session: AsyncSession) -> UserDatabase:
        """Return a request's user database, which includes OAuth accounts."""
        return UserDatabase(session, User, OAuthAccount)

    def user_manager(self, session: AsyncSession) -> Manager:
        """Return a request's user manager."""
        return UserManager(self.user_db(session), self.notes)

    def strategy(self, backend: str, store: Store, session: AsyncSession, request: HTTPConnection | None) -> Knox:
        """Return a request's strategy, which another request overtakes if `meanwhile` is set."""
        make = partial(Overtaken, self) if self.meanwhile else KnoxStrategy
        return make(
            store,
            self.settings.get(backend, DEFAULTS),
            request=request,
            user_db=self.user_db(session),
            listeners=[self.events.append],
            clock=self.clock,
        )

    async def change_user(self, email: str, values: Mapping[str, object]) -> None:
        """Change a user on another session, as another request does."""
        async with self.database.session() as session:
            await session.execute(update(User).where(User.__table__.c.email == email).values(**values))
            await session.commit()

    async def records(self, email: str) -> Sequence[TokenRecord[uuid.UUID]]:
        """Return the live records of a user, or nothing for an unknown user."""
        async with self.database.session() as session, self.database.store(session) as store:
            user = (await session.scalars(select(User).where(User.__table__.c.email == email))).unique().one_or_none()
            return [] if user is None else await self.strategy("bearer", store, session, None).list_records(user)


class Overtaken(KnoxStrategy[Any, uuid.UUID]):
    """A strategy that lets another request change the user after a login is checked and before it is written."""

    def __init__(self, site: Site, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self._site = site

    async def write_token(self, user: Any) -> IssuedToken:
        """Change the user, then write the token."""
        await self._site.change_user(user.email, self._site.meanwhile)
        return await super().write_token(user)


def create_app(openid: OpenID) -> FastAPI:
    """Build the application, with one backend for the header and one for the cookie."""
    backends = [knox_backend("bearer"), knox_backend("cookie", KnoxCookieTransport())]
    app, users = build_app(*backends, registers=False), create_users(*backends)
    for backend in backends:
        prefix = f"/{backend.name}"
        oauth_router = users.get_oauth_router(openid, backend, SECRET, associate_by_email=True)
        app.include_router(oauth_router, prefix=f"{prefix}/oauth")
        app.include_router(_own_router(users, backend), prefix=prefix)
    return app


def _own_router(users: Users, backend: Backend) -> APIRouter:
    """Return the routes that the application adds to FastAPI-Users' own."""
    router = APIRouter()
    current_user = users.current_user(active=True)
    CurrentManager = Annotated[UserManager, Depends(users.get_user_manager)]  # noqa: N806 (a type)
    RequestStrategy = Annotated[Knox, Depends(backend.get_strategy)]  # noqa: N806 (a type)

    @router.get("/who")
    async def who(user: Annotated[User, Depends(current_user)]) -> str:
        return user.email

    @router.get("/link")
    async def follow_link(
        request: Request, link: str, user_manager: CurrentManager, strategy: RequestStrategy
    ) -> Response:
        user = await user_manager.get_by_email(decode_jwt(link, SECRET, IN_THE_MAIL)["sub"])
        if not user.is_active:
            raise HTTPException(400, ErrorCode.LOGIN_BAD_CREDENTIALS)
        response = await backend.login(strategy, user)
        await user_manager.on_after_login(user, request, response)
        return response

    @router.get("/careless-link")
    async def follow_careless_link(link: str, user_manager: CurrentManager, strategy: RequestStrategy) -> Response:
        user = await user_manager.get_by_email(decode_jwt(link, SECRET, IN_THE_MAIL)["sub"])
        return await backend.login(strategy, user)

    @router.post("/register")
    async def register(
        request: Request, user_create: UserCreate, user_manager: CurrentManager, strategy: RequestStrategy
    ) -> Response:
        user = await user_manager.create(user_create, safe=True, request=request)
        response = await backend.login(strategy, user)
        await user_manager.on_after_login(user, request, response)
        return response

    return router


def _create_provider() -> FastAPI:
    """Return an OpenID provider. Its codes and access tokens are the e-mail address in the login hint."""
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


class Client(OpenID):
    """The application's client of the provider, which shares one TLS context between its requests."""

    def get_httpx_client(self) -> AsyncClient:
        """Open an HTTP client."""
        return AsyncClient(verify=TLS)


@contextmanager
def serving_provider() -> Iterator[OpenID]:
    """Serve the provider on a free port and yield the application's client of it."""
    with create_server(("127.0.0.1", 0)) as listening:
        server = Server(Config(_create_provider(), ws="none", lifespan="off", log_config=None))
        thread = Thread(target=server.run, kwargs={"sockets": [listening]})
        thread.start()
        try:
            host, port = listening.getsockname()
            yield Client("application", "secret", f"http://{host}:{port}/.well-known/openid-configuration")
        finally:
            server.should_exit = True
            thread.join()


Way = Callable[[AsyncClient, str, Mapping[str, str] | None], Awaitable[Answer]]


async def by_password(browser: AsyncClient, email: str, headers: Mapping[str, str] | None = None) -> Answer:
    """Log in with the login form."""
    return await browser.post("/login", data=credentials(email), headers=headers)


async def by_oauth(browser: AsyncClient, email: str, headers: Mapping[str, str] | None = None) -> Answer:
    """Log in at the provider and return to the application's callback."""
    begun = await browser.get("/oauth/authorize")
    async with AsyncClient(verify=TLS) as elsewhere:
        there = URL(begun.json()["authorization_url"]).copy_add_param("login_hint", email)
        sent_back = await elsewhere.get(there)
    return await browser.get(sent_back.headers["Location"], headers=headers)


async def by_link(browser: AsyncClient, email: str, headers: Mapping[str, str] | None = None) -> Answer:
    """Log in with a link from an e-mail."""
    return await browser.get("/link", params={"link": _link(email)}, headers=headers)


async def by_careless_link(browser: AsyncClient, email: str, headers: Mapping[str, str] | None = None) -> Answer:
    """Log in with a link from an e-mail, at a route that does not check whether the user is active."""
    return await browser.get("/careless-link", params={"link": _link(email)}, headers=headers)


async def by_registration(browser: AsyncClient, email: str, headers: Mapping[str, str] | None = None) -> Answer:
    """Register, at a route that logs the new user in."""
    return await browser.post("/register", json={"email": email, "password": PASSWORD}, headers=headers)


def _link(email: str) -> str:
    """Return the token in the link of an e-mail."""
    return generate_jwt({"sub": email, "aud": IN_THE_MAIL[0]}, SECRET, 600)
