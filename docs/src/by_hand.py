"""A strategy with settings that depend on the request."""

import uuid
from datetime import timedelta
from typing import Annotated

from fastapi import Depends
from fastapi.requests import HTTPConnection
from fastapi_users_knox import KnoxSettings, KnoxStrategy
from fastapi_users_knox.sqlalchemy import SQLAlchemyTokenStore

from db import User, get_token_store
from settings import settings

staff_settings = KnoxSettings(token_ttl=timedelta(hours=1))


async def get_knox_strategy(
    request: HTTPConnection,
    store: Annotated[SQLAlchemyTokenStore[User, uuid.UUID], Depends(get_token_store)],
) -> KnoxStrategy[User, uuid.UUID]:
    """Return the strategy. A login at the staff's host lasts for only an hour."""
    chosen = staff_settings if request.url.hostname == "staff.example.org" else settings
    return KnoxStrategy(store, chosen, request=request)
