"""An application whose users create API tokens, and the routes that accept them."""

import uuid
from collections.abc import Sequence
from datetime import timedelta
from typing import Annotated, Any

from fastapi import APIRouter, Depends, FastAPI, Security, WebSocket
from httpx import AsyncClient, Response

from fastapi_users_knox import (
    ApiTokenSettings,
    KnoxBearerTransport,
    KnoxCookieTransport,
    TokenRecord,
    current_token,
    get_api_token_router,
    get_knox_admin_router,
)
from tests.models import User
from tests.routers.device import Device
from tests.site import Backend, build_app, create_users, knox_backend, shared

READ, WRITE = "reports:read", "reports:write"
SCOPES = {READ: "Read the reports.", WRITE: "Change the reports."}
NIGHTLY = {"name": "Nightly report", "scopes": [READ]}
API_SETTINGS = ApiTokenSettings()
COOKIE_NAME = "__Host-knox"

Current = tuple[User, TokenRecord[uuid.UUID]]

_API = KnoxBearerTransport(None, scheme_name="ApiToken")
_COOKIE = KnoxCookieTransport(COOKIE_NAME)


def api_backend() -> Backend:
    """Return the backend of the API tokens, which no login route issues."""
    return knox_backend("api", _API)


def browser_backend() -> Backend:
    """Return the backend of the sessions in cookies."""
    return knox_backend("browser", _COOKIE)


def build_site(
    *,
    fresh_within: timedelta | None = timedelta(minutes=10),
    max_ttl: timedelta | None = timedelta(days=365),
    requires_verification: bool = False,
    scopes: tuple[str, ...] = (READ, WRITE),
) -> FastAPI:
    """Build the application. The paths of the API tokens begin with the name of the sessions' backend."""
    backends = knox_backend(), browser_backend()
    app, users = build_app(*backends), create_users(*backends)
    for backend in backends:
        router = get_api_token_router(
            users,
            backend,
            api_backend(),
            scopes={name: SCOPES[name] for name in scopes},
            fresh_within=fresh_within,
            max_ttl=max_ttl,
            requires_verification=requires_verification,
        )
        app.include_router(router, prefix=f"/{backend.name}/api-tokens")
    app.include_router(get_knox_admin_router(users, api_backend()), prefix="/admin/api")
    _add_reports(app, [*backends, api_backend()])
    _add_combinations(app, [*backends, api_backend()])
    return app


create_site = shared(build_site)


def _add_reports(app: FastAPI, backends: Sequence[Backend]) -> None:
    """Add routes and a WebSocket that accept sessions, and API tokens with some scopes."""
    anyone: Any = current_token(create_users(*backends), backends)

    @app.get("/reports")
    async def read(current: Annotated[Current, Security(anyone, scopes=[READ])]) -> str:
        return current[0].email

    @app.put("/reports")
    async def write(current: Annotated[Current, Security(anyone, scopes=[WRITE])]) -> str:
        return current[0].email

    @app.delete("/reports")
    async def delete(current: Annotated[Current, Depends(anyone)]) -> str:
        return current[0].email

    @app.websocket("/ws/reports")
    async def talk(websocket: WebSocket, current: Annotated[Current, Security(anyone, scopes=[READ])]) -> None:
        await websocket.accept()
        await websocket.send_text(current[0].email)
        await websocket.close()


def _add_combinations(app: FastAPI, backends: Sequence[Backend]) -> None:
    """Add routes whose scopes are those of a dependency or a router too, or whose token is optional or of one kind."""
    users = create_users(*backends)
    anyone: Any = current_token(users, backends)
    optional: Any = current_token(users, backends, optional=True)
    only_api: Any = current_token(users, api_backend())
    router = APIRouter(dependencies=[Security(anyone, scopes=[WRITE])])

    async def read_own(current: Annotated[Current, Security(anyone, scopes=[READ])]) -> Current:
        return current

    @app.patch("/reports")
    async def change(current: Annotated[Current, Security(read_own, scopes=[WRITE])]) -> str:
        return current[0].email

    @app.get("/optional-reports")
    async def may_read(current: Annotated[Current | None, Security(optional, scopes=[READ])]) -> str | None:
        return current[0].email if current else None

    @app.get("/machine-reports")
    async def machine(current: Annotated[Current, Security(only_api, scopes=[READ])]) -> str:
        return current[0].email

    @router.get("/archive")
    async def archive() -> str:
        return "archive"

    @router.get("/archive/own")
    async def own_archive(current: Annotated[Current, Security(anyone, scopes=[READ])]) -> str:
        return current[0].email

    app.include_router(router)


async def create(device: Device, **body: object) -> Response:
    """Ask for an API token, by default to read the reports."""
    return await device.call("POST", "/knox/api-tokens/", {**NIGHTLY, **body})


async def roll(device: Device, id: str, overlap: object = 0) -> Response:
    """Roll an API token."""
    return await device.call("POST", f"/knox/api-tokens/{id}/roll", {"overlap": overlap})


async def created(device: Device, **body: object) -> dict[str, Any]:
    """Create an API token, and return the body of the answer."""
    response = await create(device, **body)
    assert response.status_code == 201, response.text
    answer: dict[str, Any] = response.json()
    return answer


async def machine_of(device: Device, **body: object) -> Device:
    """Return a client that sends a new API token of the device's user."""
    return Device(http=device.http, token=(await created(device, **body))["token"])


async def listed(device: Device) -> list[dict[str, Any]]:
    """Return the list of the user's API tokens."""
    response = await device.call("GET", "/knox/api-tokens/")
    assert response.status_code == 200, response.text
    answer: list[dict[str, Any]] = response.json()
    return answer


async def reads(client: AsyncClient, token: str) -> int:
    """Read the reports with a token, and return the status."""
    return (await Device(http=client, token=token).call("GET", "/reports")).status_code
