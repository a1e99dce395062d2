"""A WebSocket that is opened by cookie or header, and closed when its token ends."""

import uuid
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Annotated

import anyio
from fastapi import Depends, FastAPI, WebSocket, WebSocketException, status
from fastapi.requests import HTTPConnection
from fastapi_users import FastAPIUsers
from fastapi_users.authentication import AuthenticationBackend
from fastapi_users_db_sqlalchemy import SQLAlchemyUserDatabase
from sqlalchemy.ext.asyncio import AsyncSession

from example_app.db import User, get_async_session, get_user_db
from example_app.tokens import get_token_store
from example_app.users import get_user_manager, settings
from fastapi_users_knox import (
    KnoxBearerTransport,
    KnoxCookieMiddleware,
    KnoxCookieTransport,
    KnoxEvent,
    KnoxStrategy,
    TokenExpired,
    TokenRecord,
    TokenRevoked,
    TokenStore,
)

open_scopes: defaultdict[uuid.UUID, set[anyio.CancelScope]] = defaultdict(set)


def close_websockets(event: KnoxEvent[uuid.UUID]) -> None:
    """Close what is open in this process for a token that has ended: a listener."""
    if isinstance(event, TokenRevoked | TokenExpired):
        for scope in open_scopes.get(event.record.id, ()):
            scope.cancel()


@contextmanager
def open_till_end(record: TokenRecord[uuid.UUID]) -> Iterator[anyio.CancelScope]:
    """Note a WebSocket by its token's record; the scope is cancelled when the token is ended or expires."""
    scope = anyio.CancelScope()
    if record.expires_at is not None:
        scope.deadline = anyio.current_time() + (record.expires_at - datetime.now(UTC)).total_seconds()
    open_scopes[record.id].add(scope)
    try:
        yield scope
    finally:
        open_scopes[record.id].remove(scope)
        if not open_scopes[record.id]:
            del open_scopes[record.id]


async def get_knox_strategy(
    request: HTTPConnection,
    store: Annotated[TokenStore[User, uuid.UUID], Depends(get_token_store)],
    user_db: Annotated[SQLAlchemyUserDatabase[User, uuid.UUID], Depends(get_user_db)],
) -> KnoxStrategy[User, uuid.UUID]:
    """Give the strategy."""
    return KnoxStrategy(store, settings, request=request, user_db=user_db, listeners=[close_websockets])


by_cookie = AuthenticationBackend("cookie", KnoxCookieTransport(), get_knox_strategy)
by_header = AuthenticationBackend("header", KnoxBearerTransport("auth/login"), get_knox_strategy)
fastapi_users = FastAPIUsers[User, uuid.UUID](get_user_manager, [by_cookie, by_header])

app = FastAPI()
app.add_middleware(KnoxCookieMiddleware)
app.include_router(fastapi_users.get_auth_router(by_cookie), prefix="/browser")
app.include_router(fastapi_users.get_auth_router(by_header), prefix="/auth")


async def get_live_record(
    token: str, strategy: KnoxStrategy[User, uuid.UUID], session: AsyncSession
) -> TokenRecord[uuid.UUID]:
    """Look at a token, and give the connection to the database back: a WebSocket may be open for hours."""
    record = await strategy.read_record(token)
    await session.close()
    if record is None:
        raise WebSocketException(status.WS_1008_POLICY_VIOLATION)
    return record


@app.websocket("/ws")
async def talk(
    websocket: WebSocket,
    current: Annotated[tuple[User, str], Depends(fastapi_users.authenticator.current_user_token(active=True))],
    strategy: Annotated[KnoxStrategy[User, uuid.UUID], Depends(get_knox_strategy)],
    session: Annotated[AsyncSession, Depends(get_async_session)],
) -> None:
    """Answer what is said for as long as the token lives."""
    user, token = current
    with open_till_end(await get_live_record(token, strategy, session)) as scope:
        # The token may have ended just before the WebSocket was noted, so look again.
        await get_live_record(token, strategy, session)
        with scope:
            await websocket.accept()
            async for text in websocket.iter_text():
                await websocket.send_text(f"{user.email} said {text}")
    if scope.cancelled_caught:
        await websocket.close(status.WS_1008_POLICY_VIOLATION)
