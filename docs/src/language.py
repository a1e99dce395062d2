"""The tutorial's application, with a route that reads the data of the session."""

import uuid
from typing import Annotated

from fastapi import Depends
from fastapi_users_knox import TokenRecord, current_token

from app import app
from users import auth_backend, fastapi_users

current_record = current_token(fastapi_users, auth_backend, load_user=False)


@app.get("/greeting")
async def greet(record: Annotated[TokenRecord[uuid.UUID], Depends(current_record)]) -> str:
    """Greet the user in the language of the session."""
    return {"de": "Guten Tag", "fr": "Bonjour"}.get(record.data.get("language", ""), "Hello")
