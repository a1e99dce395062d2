"""The tutorial's application, with routes that know which token was presented."""

import uuid
from datetime import timedelta
from typing import Annotated

from fastapi import Depends
from fastapi_users_knox import SessionRead, TokenRecord, current_token

from app import app
from db import User
from users import auth_backend, fastapi_users

Current = tuple[User, TokenRecord[uuid.UUID]]

anyone = current_token(fastapi_users, auth_backend, active=True)
record_only = current_token(fastapi_users, auth_backend, load_user=False)
passive = current_token(fastapi_users, auth_backend, active=True, touch=False)
fresh = current_token(fastapi_users, auth_backend, active=True, fresh_within=timedelta(minutes=5))


@app.get("/session")
async def session(current: Annotated[Current, Depends(anyone)]) -> SessionRead:
    """Return the session that sends the request."""
    _user, record = current
    return SessionRead.of(record, presented=record)


@app.get("/id")
async def user_id(record: Annotated[TokenRecord[uuid.UUID], Depends(record_only)]) -> uuid.UUID:
    """Return the id of the user who sends the request, without loading the user."""
    return record.user_id


@app.get("/unread")
async def count_unread(current: Annotated[Current, Depends(passive)]) -> str:
    """Return how many messages there are, to a page that asks every few seconds."""
    return "3 messages"


@app.delete("/account")
async def delete_account(current: Annotated[Current, Depends(fresh)]) -> str:
    """Do what only a user who has just logged in may do."""
    user, _record = current
    return f"Goodbye {user.email}!"
