"""The tutorial's application, whose users create API tokens for their programs."""

import uuid
from typing import Annotated

from fastapi import Security
from fastapi_users.authentication import AuthenticationBackend
from fastapi_users_knox import (
    ApiTokenSettings,
    KnoxBearerTransport,
    TokenRecord,
    current_token,
    get_api_token_router,
    knox_strategy,
)

from app import app
from db import User, get_token_store
from users import auth_backend, fastapi_users

SCOPES = {
    "reports:read": "Read the reports.",
    "reports:write": "Add reports.",
}

get_api_strategy = knox_strategy(get_token_store, ApiTokenSettings(token_limit_per_user=20))
api_backend = AuthenticationBackend("api", KnoxBearerTransport(tokenUrl=None, scheme_name="ApiToken"), get_api_strategy)

app.include_router(
    get_api_token_router(fastapi_users, auth_backend, api_backend, scopes=SCOPES),
    prefix="/api-tokens",
    tags=["api tokens"],
)

Current = tuple[User, TokenRecord[uuid.UUID]]

anyone = current_token(fastapi_users, [auth_backend, api_backend], active=True)


@app.get("/reports")
async def read_reports(current: Annotated[Current, Security(anyone, scopes=["reports:read"])]) -> list[str]:
    """Return the reports to the user, or to a program that may read them."""
    user, _record = current
    return [f"Sales of {user.email}"]


@app.post("/reports")
async def add_report(
    title: str, current: Annotated[Current, Security(anyone, scopes=["reports:write"])]
) -> dict[str, str | None]:
    """Let the user, or a program that may write reports, add a report."""
    _user, record = current
    return {"title": title, "added_by": record.name}
