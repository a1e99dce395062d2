"""The tutorial's application, with a health check."""

from typing import Annotated

from fastapi import Depends
from fastapi_users_knox import TokenStore

from app import app
from db import User, get_token_store


@app.get("/health")
async def health(store: Annotated[TokenStore[User, object], Depends(get_token_store)]) -> dict[str, str]:
    """Answer 200 if the token store can answer, and 503 otherwise."""
    await store.ping()
    return {"status": "ok"}
