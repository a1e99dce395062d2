"""An application whose users log in by cookie: routes with different responses, and routes that revoke the token."""

from typing import Annotated, Any

import httpx
from fastapi import Depends, FastAPI, HTTPException, Request, Response, WebSocket
from fastapi.requests import HTTPConnection
from fastapi.responses import StreamingResponse
from httpx import AsyncClient
from starlette.background import BackgroundTask

from fastapi_users_knox import KnoxCookieTransport, KnoxSettings, LoginOptions
from tests.models import User
from tests.site import (
    Backend,
    CurrentWorld,
    Knox,
    Manager,
    Users,
    build_app,
    create_users,
    credentials,
    knox_backend,
    shared,
)
from tests.strategies import HOUR

REFRESHING = KnoxSettings(token_ttl=HOUR, auto_refresh=True)
EVERY_METHOD = ["GET", "HEAD", "OPTIONS", "POST", "PUT", "PATCH", "DELETE"]
SHARED = Response("the same for all")

COOKIE = knox_backend("cookie", KnoxCookieTransport())
BEARER = knox_backend("bearer")


@shared
def create_app(*backends: Backend, renews_cookies: bool = True) -> FastAPI:
    """Build an application with each backend's routes under its name, and pages that require a user."""
    app, users = build_app(*backends, renews_cookies=renews_cookies, registers=False), create_users(*backends)
    get_strategy = backends[0].get_strategy
    _add_routes(app, users, get_strategy)
    _add_early_route(app, users, get_strategy)
    _add_revoking_routes(app, users, get_strategy)
    return app


def _add_early_route(app: FastAPI, users: Users, get_strategy: Any) -> None:
    """Add a route whose own dependency reads the token before the transport looks for it."""

    async def read_early(
        request: Request,
        strategy: Annotated[Knox, Depends(get_strategy)],
        user_manager: Annotated[Manager, Depends(users.get_user_manager)],
    ) -> None:
        await strategy.read_token(request.cookies[KnoxCookieTransport().cookie_name], user_manager)

    @app.get("/early")
    async def early(
        _read: Annotated[None, Depends(read_early)], user: Annotated[User, Depends(users.current_user())]
    ) -> str:
        return user.email


def _add_routes(app: FastAPI, users: Users, get_strategy: Any) -> None:
    """Add routes with every kind of response."""
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
    async def background(world: CurrentWorld) -> Response:
        return Response("background", background=BackgroundTask(world.notes.append, "the task has run"))

    @app.get("/shared", dependencies=needs_user)
    async def shared() -> Response:
        return SHARED

    @app.get("/error", dependencies=needs_user)
    async def error() -> Response:
        raise HTTPException(418)

    @app.get("/passive")
    async def passive(strategy: Annotated[Knox, Depends(get_strategy)], request: Request) -> bool:
        """Read the token without recording its use."""
        return await strategy.read_record(request.cookies.get("__Host-knox")) is not None

    @app.websocket("/ws")
    async def talk(websocket: WebSocket, user: Annotated[User, Depends(current_user)]) -> None:
        await websocket.accept()
        await websocket.send_text(user.email)
        await websocket.close()


def _add_revoking_routes(app: FastAPI, users: Users, get_strategy: Any) -> None:
    """Add routes that revoke or rotate the presented token, but return an ordinary response."""
    Current = Annotated[tuple[User, str], Depends(users.authenticator.current_user_token())]  # noqa: N806
    OfRequest = Annotated[Knox, Depends(get_strategy)]  # noqa: N806

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


async def remember_me(_user: User, connection: HTTPConnection | None) -> LoginOptions:
    """Let the cookie end with the browser, unless the checkbox of the login form is ticked."""
    form = await connection.form() if isinstance(connection, Request) else {}
    return LoginOptions(browser_session="remember" not in form)


async def log_in(
    client: AsyncClient, backend: str = "cookie", username: str = "ada@example.org", **fields: str
) -> httpx.Response:
    """Log in by cookie, with more fields in the form."""
    response = await client.post(f"/{backend}/login", data={**credentials(username), **fields})
    assert response.status_code == 204, response.text
    return response
