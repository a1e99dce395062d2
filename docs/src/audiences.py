"""Two kinds of tokens in one table: people's, and those that people make for their machines."""

import uuid
from datetime import timedelta
from typing import Annotated

from fastapi import Depends, FastAPI, Response
from fastapi.requests import HTTPConnection
from fastapi_users import FastAPIUsers
from fastapi_users.authentication import AuthenticationBackend
from fastapi_users_db_sqlalchemy import SQLAlchemyUserDatabase

from example_app.db import User, get_user_db
from example_app.tokens import get_token_store
from example_app.users import get_user_manager
from fastapi_users_knox import (
    KnoxBearerTransport,
    KnoxSettings,
    KnoxStrategy,
    TokenRecord,
    TokenStore,
    current_token,
    get_knox_router,
)

Store = Annotated[TokenStore[User, uuid.UUID], Depends(get_token_store)]
UserDatabase = Annotated[SQLAlchemyUserDatabase[User, uuid.UUID], Depends(get_user_db)]
Strategy = KnoxStrategy[User, uuid.UUID]

web_settings = KnoxSettings(audience="web", token_ttl=timedelta(hours=1), auto_refresh=True)
api_settings = KnoxSettings(audience="api", token_ttl=None, token_prefix="api_", token_limit_per_user=10)


async def get_web_strategy(request: HTTPConnection, store: Store, user_db: UserDatabase) -> Strategy:
    """Give the strategy for people."""
    return KnoxStrategy(store, web_settings, request=request, user_db=user_db)


async def get_api_strategy(request: HTTPConnection, store: Store, user_db: UserDatabase) -> Strategy:
    """Give the strategy for machines."""
    return KnoxStrategy(store, api_settings, request=request, user_db=user_db)


web = AuthenticationBackend("web", KnoxBearerTransport(tokenUrl="auth/login"), get_web_strategy)
api = AuthenticationBackend("api", KnoxBearerTransport(tokenUrl="auth/login", scheme_name="ApiToken"), get_api_strategy)

people = FastAPIUsers[User, uuid.UUID](get_user_manager, [web])
anyone = FastAPIUsers[User, uuid.UUID](get_user_manager, [web, api])

app = FastAPI()
app.include_router(people.get_auth_router(web), prefix="/auth")
app.include_router(get_knox_router(people, web), prefix="/auth")
app.include_router(get_knox_router(anyone, api), prefix="/api-tokens")


@app.post("/api-tokens")
async def create_api_token(
    name: str,
    current: Annotated[tuple[User, TokenRecord[uuid.UUID]], Depends(current_token(people, web, active=True))],
    strategy: Annotated[Strategy, Depends(get_api_strategy)],
) -> Response:
    """Make a token for a machine; only people can, with a session that is live when the token is stored."""
    user, session = current
    token = await strategy.issue(user, by=session, name=name, replace=False)
    return await api.transport.get_login_response(token)


@app.get("/authenticated-route")
async def authenticated_route(user: Annotated[User, Depends(anyone.current_user(active=True))]) -> str:
    """Greet people and machines alike."""
    return f"Hello {user.email}!"
