"""Two kinds of tokens in one table: sessions of people, and tokens that people create for their machines."""

import uuid
from datetime import timedelta
from typing import Annotated

from fastapi import Depends, FastAPI, Response
from fastapi_users import FastAPIUsers
from fastapi_users.authentication import AuthenticationBackend
from fastapi_users_knox import (
    KnoxBearerTransport,
    KnoxSettings,
    KnoxStrategy,
    TokenRecord,
    current_token,
    get_knox_router,
    knox_strategy,
)

from app import lifespan
from db import User, get_token_store
from users import get_user_manager

web_settings = KnoxSettings(audience="web", token_ttl=timedelta(hours=1), auto_refresh=True)
api_settings = KnoxSettings(audience="api", token_ttl=None, token_prefix="api_", token_limit_per_user=10)

get_web_strategy = knox_strategy(get_token_store, web_settings)
get_api_strategy = knox_strategy(get_token_store, api_settings)

web = AuthenticationBackend("web", KnoxBearerTransport(tokenUrl="auth/login"), get_web_strategy)
api = AuthenticationBackend("api", KnoxBearerTransport(tokenUrl="auth/login", scheme_name="ApiToken"), get_api_strategy)

people = FastAPIUsers[User, uuid.UUID](get_user_manager, [web])
anyone = FastAPIUsers[User, uuid.UUID](get_user_manager, [web, api])

app = FastAPI(lifespan=lifespan)
app.include_router(people.get_auth_router(web), prefix="/auth")
app.include_router(get_knox_router(people, web), prefix="/auth")
app.include_router(get_knox_router(anyone, api), prefix="/api-tokens")


@app.post("/api-tokens")
async def create_api_token(
    name: str,
    current: Annotated[tuple[User, TokenRecord[uuid.UUID]], Depends(current_token(people, web, active=True))],
    strategy: Annotated[KnoxStrategy[User, uuid.UUID], Depends(get_api_strategy)],
) -> Response:
    """Create a token for a machine, if the person's session is still live when the token is stored."""
    user, session = current
    token = await strategy.issue(user, by=session, name=name, replace=False)
    return await api.transport.get_login_response(token)


@app.get("/authenticated-route")
async def authenticated_route(user: Annotated[User, Depends(anyone.current_user(active=True))]) -> dict[str, str]:
    """Greet people and machines alike."""
    return {"message": f"Hello {user.email}!"}
