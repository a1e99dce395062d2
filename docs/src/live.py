"""An application with a WebSocket that is closed when its token is revoked or expires."""

import uuid
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Annotated

import anyio
from fastapi import Depends, FastAPI, WebSocket, WebSocketException, status
from fastapi_users import FastAPIUsers
from fastapi_users.authentication import AuthenticationBackend
from fastapi_users_knox import (
    KnoxCookieMiddleware,
    KnoxCookieTransport,
    KnoxEvent,
    KnoxStrategy,
    TokenExpired,
    TokenRecord,
    TokenRevoked,
    knox_strategy,
)

from app import lifespan
from db import Session, User, get_token_store
from settings import settings
from users import bearer_transport, get_user_manager

open_scopes: defaultdict[uuid.UUID, set[anyio.CancelScope]] = defaultdict(set)


def close_websockets(event: KnoxEvent[uuid.UUID]) -> None:
    """Close the WebSockets of this process that were opened with a token that is revoked or has expired."""
    if isinstance(event, TokenRevoked | TokenExpired):
        for scope in open_scopes.get(event.record.id, ()):
            scope.cancel()


@contextmanager
def open_till_end(record: TokenRecord[uuid.UUID]) -> Iterator[anyio.CancelScope]:
    """Note an open WebSocket by its token's record, and cancel its scope when the token is revoked or expires."""
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


get_knox_strategy = knox_strategy(get_token_store, settings, listeners=[close_websockets])
by_cookie = AuthenticationBackend("cookie", KnoxCookieTransport(), get_knox_strategy)
by_header = AuthenticationBackend("header", bearer_transport, get_knox_strategy)
fastapi_users = FastAPIUsers[User, uuid.UUID](get_user_manager, [by_cookie, by_header])

app = FastAPI(lifespan=lifespan)
app.add_middleware(KnoxCookieMiddleware)
app.include_router(fastapi_users.get_auth_router(by_cookie), prefix="/browser")
app.include_router(fastapi_users.get_auth_router(by_header), prefix="/auth")


async def get_live_record(
    token: str, strategy: KnoxStrategy[User, uuid.UUID], session: Session
) -> TokenRecord[uuid.UUID]:
    """Read a token, and return the connection to the pool, because the WebSocket may be open for hours."""
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
    session: Session,
) -> None:
    """Answer each message for as long as the token is live."""
    user, token = current
    with open_till_end(await get_live_record(token, strategy, session)) as scope:
        # The token may have been revoked just before the WebSocket was noted, so read it again.
        await get_live_record(token, strategy, session)
        with scope:
            await websocket.accept()
            async for text in websocket.iter_text():
                await websocket.send_text(f"{user.email} said {text}")
    if scope.cancelled_caught:
        await websocket.close(status.WS_1008_POLICY_VIOLATION)
