"""Write an audit log."""

import logging
import uuid
from typing import Annotated

from fastapi import Depends
from fastapi.requests import HTTPConnection
from fastapi_users_db_sqlalchemy import SQLAlchemyUserDatabase

from example_app.db import User, get_user_db
from example_app.tokens import get_token_store
from example_app.users import settings
from fastapi_users_knox import KnoxEvent, KnoxStrategy, TokenIssued, TokenLimitHit, TokenRevoked, TokenStore

logger = logging.getLogger("audit")


def audit(event: KnoxEvent[uuid.UUID]) -> None:
    """Log who comes, who goes and who is kept out."""
    match event:
        case TokenIssued(record=record):
            logger.info("%s logged in from %s: token %s", event.user_id, record.ip_address, record.id)
        case TokenRevoked(record=record, reason=reason):
            logger.info("%s lost token %s: %s", event.user_id, record.id, reason)
        case TokenLimitHit(limit=limit):
            logger.warning("%s has %d tokens already", event.user_id, limit)


async def get_knox_strategy(
    request: HTTPConnection,
    store: Annotated[TokenStore[User, uuid.UUID], Depends(get_token_store)],
    user_db: Annotated[SQLAlchemyUserDatabase[User, uuid.UUID], Depends(get_user_db)],
) -> KnoxStrategy[User, uuid.UUID]:
    """Give the strategy."""
    return KnoxStrategy(store, settings, request=request, user_db=user_db, listeners=[audit])
