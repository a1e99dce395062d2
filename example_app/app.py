"""The application: every router of FastAPI-Users and of this package, the admin pages, and routes of its own."""

import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Annotated
from uuid import UUID

from fastapi import Depends, FastAPI, Security, WebSocket

from example_app.admin import add_admin_pages
from example_app.db import User, create_tables
from example_app.schemas import UserCreate, UserRead, UserUpdate
from example_app.tokens import disconnect
from example_app.users import (
    api_backend,
    auth_backend,
    cookie_backend,
    current_active_user,
    current_session_or_api_token,
    fastapi_users,
)
from fastapi_users_knox import (
    KnoxCookieMiddleware,
    TokenRecord,
    get_api_token_router,
    get_knox_admin_router,
    get_knox_router,
    unauthorized_handler,
)

SCOPES = {"reports:read": "Read the reports.", "reports:write": "Change the reports."}

Current = tuple[User, TokenRecord[UUID]]


def configure_logging() -> None:
    """Show the events, which are logged at level INFO; by default Python shows only WARNING and above."""
    logging.basicConfig(format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    logging.getLogger("fastapi_users_knox").setLevel(logging.INFO)


@asynccontextmanager
async def lifespan(_app: FastAPI) -> AsyncIterator[None]:
    """Set up the log and create the tables at start, and close the connections to Redis at the end."""
    configure_logging()
    await create_tables()
    yield
    await disconnect()


app = FastAPI(title="fastapi-users-knox example", lifespan=lifespan)
app.add_middleware(KnoxCookieMiddleware)
app.add_exception_handler(401, unauthorized_handler)

app.include_router(fastapi_users.get_auth_router(auth_backend), prefix="/auth", tags=["auth"])
app.include_router(get_knox_router(fastapi_users, auth_backend), prefix="/auth", tags=["auth"])
app.include_router(fastapi_users.get_auth_router(cookie_backend), prefix="/browser", tags=["browser"])
app.include_router(get_knox_router(fastapi_users, cookie_backend), prefix="/browser", tags=["browser"])
app.include_router(get_knox_admin_router(fastapi_users, auth_backend), prefix="/users", tags=["users"])
app.include_router(fastapi_users.get_register_router(UserRead, UserCreate), prefix="/auth", tags=["auth"])
app.include_router(fastapi_users.get_reset_password_router(), prefix="/auth", tags=["auth"])
app.include_router(fastapi_users.get_verify_router(UserRead), prefix="/auth", tags=["auth"])
app.include_router(fastapi_users.get_users_router(UserRead, UserUpdate), prefix="/users", tags=["users"])
app.include_router(
    get_api_token_router(fastapi_users, auth_backend, api_backend, scopes=SCOPES),
    prefix="/api-tokens",
    tags=["api tokens"],
)
add_admin_pages(app)


@app.get("/authenticated-route")
async def authenticated_route(user: Annotated[User, Depends(current_active_user)]) -> dict[str, str]:
    """Greet the user of a live token."""
    return {"message": f"Hello {user.email}!"}


@app.get("/reports")
async def read_reports(
    current: Annotated[Current, Security(current_session_or_api_token, scopes=["reports:read"])],
) -> dict[str, str]:
    """Return the reports to a user, or to a program with an API token that may read them."""
    user, record = current
    return {"reports": f"of {user.email}", "read_by": record.name or "a person"}


@app.post("/reports")
async def write_report(
    current: Annotated[Current, Security(current_session_or_api_token, scopes=["reports:write"])],
) -> dict[str, str]:
    """Let a user, or a program with an API token that may change the reports, add a report."""
    user, _record = current
    return {"added_for": user.email}


@app.websocket("/authenticated-websocket")
async def authenticated_websocket(websocket: WebSocket, user: Annotated[User, Depends(current_active_user)]) -> None:
    """Greet the user of a live token, in the header or in the cookie."""
    await websocket.accept()
    await websocket.send_json({"message": f"Hello {user.email}!"})
    await websocket.close()
