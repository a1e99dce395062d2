"""An application whose users log in by cookie, and what calls it: a browser, as far as cookies go, and WebSockets."""

import asyncio
import uuid
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Annotated, Any

from fastapi import Depends, FastAPI, HTTPException, Request, Response, WebSocket
from fastapi.requests import HTTPConnection
from fastapi.responses import StreamingResponse
from fastapi_users import FastAPIUsers
from fastapi_users.authentication import AuthenticationBackend, Transport
from fastapi_users.password import PasswordHelper
from fastapi_users_db_sqlalchemy import SQLAlchemyUserDatabase
from httpx import ASGITransport, AsyncClient
from pwdlib import PasswordHash
from pwdlib.hashers.argon2 import Argon2Hasher
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession
from starlette.background import BackgroundTask

from fastapi_users_knox import (
    KnoxBearerTransport,
    KnoxCookieMiddleware,
    KnoxCookieTransport,
    KnoxSettings,
    KnoxStrategy,
    get_knox_router,
)
from tests.models import User, UserManager, store_on
from tests.strategies import HOUR, Clock

PASSWORDS = PasswordHelper(PasswordHash((Argon2Hasher(time_cost=1, memory_cost=8, parallelism=1),)))  # in no time
HASHED = PASSWORDS.hash("correct horse")
LOGIN = {"username": "ada@example.org", "password": "correct horse"}
REFRESHING = KnoxSettings(token_ttl=HOUR, auto_refresh=True)
EVERY_METHOD = ["GET", "HEAD", "OPTIONS", "POST", "PUT", "PATCH", "DELETE"]
SHARED = Response("the same for all")

Session = Annotated[AsyncSession, Depends(AsyncSession)]
Strategy = KnoxStrategy[User, uuid.UUID]
Transports = Mapping[str, Transport]


async def create_user(engine: AsyncEngine, email: str = "ada@example.org") -> User:
    """Store a user, who has the password."""
    async with AsyncSession(engine, expire_on_commit=False) as session:
        user = User(email=email, hashed_password=HASHED)
        session.add(user)
        await session.commit()
        return user


def bearer_and_cookie() -> Transports:
    """Make the usual transports, by the names of their backends."""
    return {"cookie": KnoxCookieTransport(), "bearer": KnoxBearerTransport("bearer/login")}


def create_app(
    engine: AsyncEngine, clock: Clock, transports: Transports, settings: KnoxSettings = REFRESHING
) -> FastAPI:
    """Make an application: each backend's routes under its name, and a few that need a user of any of them."""

    async def get_session() -> AsyncIterator[AsyncSession]:
        async with AsyncSession(engine) as session:
            yield session

    session_of_request = Depends(get_session)

    async def get_user_manager(session: Annotated[AsyncSession, session_of_request]) -> UserManager:
        return UserManager(SQLAlchemyUserDatabase(session, User), PASSWORDS)

    async def get_strategy(request: HTTPConnection, session: Annotated[AsyncSession, session_of_request]) -> Strategy:
        return KnoxStrategy(store_on(session), settings, request=request, clock=clock)

    backends = [AuthenticationBackend(name, transport, get_strategy) for name, transport in transports.items()]
    users = FastAPIUsers[User, uuid.UUID](get_user_manager, backends)
    app = FastAPI()
    app.add_middleware(KnoxCookieMiddleware)
    for backend in backends:
        app.include_router(users.get_auth_router(backend), prefix=f"/{backend.name}")
        app.include_router(get_knox_router(users, backend), prefix=f"/{backend.name}")
    _add_routes(app, users, get_strategy)
    _add_endings(app, users, get_strategy)
    return app


def _add_routes(app: FastAPI, users: FastAPIUsers[User, uuid.UUID], get_strategy: Any) -> None:
    """Add what a route can answer with."""
    current_user = users.current_user()
    needs_user = [Depends(current_user)]

    @app.api_route("/plain", methods=EVERY_METHOD, include_in_schema=False)
    async def plain(user: Annotated[User, Depends(current_user)]) -> str:
        return user.email

    @app.get("/own", dependencies=needs_user)
    async def own() -> Response:
        caching = {"Cache-Control": "public, max-age=60", "CDN-Cache-Control": "max-age=60", "Surrogate-Control": "x"}
        return Response("own", headers=caching | {"ETag": '"1"', "Set-Cookie": "theme=dark"})

    @app.get("/stream", dependencies=needs_user)
    async def stream() -> Response:
        return StreamingResponse(iter(["str", "eam"]))

    @app.get("/background", dependencies=needs_user)
    async def background(request: Request) -> Response:
        return Response("background", background=BackgroundTask(setattr, request.app.state, "has_run", True))  # noqa: FBT003

    @app.get("/shared", dependencies=needs_user)
    async def shared() -> Response:
        return SHARED

    @app.get("/error", dependencies=needs_user)
    async def error() -> Response:
        raise HTTPException(418)

    @app.get("/passive")
    async def passive(strategy: Annotated[Strategy, Depends(get_strategy)], request: Request) -> bool:
        """Look at the token without using it."""
        return await strategy.read_record(request.cookies.get("__Host-knox")) is not None

    @app.websocket("/ws")
    async def talk(websocket: WebSocket, user: Annotated[User, Depends(current_user)]) -> None:
        await websocket.accept()
        await websocket.send_text(user.email)
        await websocket.close()


def _add_endings(app: FastAPI, users: FastAPIUsers[User, uuid.UUID], get_strategy: Any) -> None:
    """Add routes that end or swap the presented token, and answer as if they had not."""
    Current = Annotated[tuple[User, str], Depends(users.authenticator.current_user_token())]  # noqa: N806
    OfRequest = Annotated[Strategy, Depends(get_strategy)]  # noqa: N806

    @app.post("/quietly/logout")
    async def logout(current: Current, strategy: OfRequest) -> None:
        await strategy.destroy_token(current[1], current[0])

    @app.post("/quietly/logout-all")
    async def logout_all(current: Current, strategy: OfRequest) -> None:
        await strategy.logout_all(current[0])

    @app.post("/quietly/logout-others")
    async def logout_others(current: Current, strategy: OfRequest) -> None:
        await strategy.logout_all(current[0], keep=current[1])

    @app.post("/quietly/rotate")
    async def rotate(current: Current, strategy: OfRequest) -> None:
        await strategy.rotate_token(current[1], current[0])

    @app.post("/quietly/login")
    async def login(current: Current, strategy: OfRequest) -> None:
        await strategy.issue(current[0])

    @app.post("/quietly/issue")
    async def issue(current: Current, strategy: OfRequest) -> None:
        await strategy.issue(current[0], replace=False)


def browser_of(app: Any) -> AsyncClient:
    """Open a client that keeps cookies as a browser does; what the application raises is the test's to see."""
    return AsyncClient(transport=ASGITransport(app), base_url="https://test")


async def log_in(client: AsyncClient, backend: str = "cookie", username: str = "ada@example.org") -> None:
    """Log in by cookie."""
    response = await client.post(f"/{backend}/login", data=LOGIN | {"username": username})
    assert response.status_code == 204, response.text


class Socket:
    """The browser's end of a WebSocket, as a server hands it to an application."""

    def __init__(self, app: Any, path: str, headers: Mapping[str, str], scheme: str) -> None:
        """Prepare the handshake."""
        self._incoming: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
        self._outgoing: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
        raw = {"Host": "test"} | dict(headers)
        scope = {
            "type": "websocket",
            "asgi": {"version": "3.0", "spec_version": "2.4"},
            "http_version": "1.1",
            "scheme": scheme,
            "path": path,
            "raw_path": path.encode(),
            "root_path": "",
            "query_string": b"",
            "headers": [(name.lower().encode(), value.encode()) for name, value in raw.items()],
            "client": ("192.0.2.1", 1234),
            "server": ("test", 443),
            "subprotocols": [],
        }
        self.served = asyncio.ensure_future(app(scope, self._incoming.get, self._take))
        self._incoming.put_nowait({"type": "websocket.connect"})

    async def _take(self, message: Any) -> None:
        if message["type"] == "websocket.close":  # as a server tells the application
            self._incoming.put_nowait({"type": "websocket.disconnect", "code": message["code"]})
        await self._outgoing.put(message)

    async def receive(self) -> dict[str, Any]:
        """Wait for what the application sends next."""
        return await asyncio.wait_for(self._outgoing.get(), timeout=10)

    def send(self, text: str) -> None:
        """Send the application a message."""
        self._incoming.put_nowait({"type": "websocket.receive", "text": text})

    def close(self) -> None:
        """Go away."""
        self._incoming.put_nowait({"type": "websocket.disconnect", "code": 1001})


@asynccontextmanager
async def socket_to(app: Any, path: str, headers: Mapping[str, str], *, scheme: str = "wss") -> AsyncIterator[Socket]:
    """Open a WebSocket, and close it at the end."""
    socket = Socket(app, path, headers, scheme)
    yield socket
    socket.close()
    await asyncio.wait_for(socket.served, timeout=10)


def set_cookies(headers: Sequence[tuple[bytes, bytes]]) -> list[str]:
    """Return the `Set-Cookie` headers of a message."""
    return [value.decode() for name, value in headers if name == b"set-cookie"]
