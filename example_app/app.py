"""The application: every router of FastAPI-Users, ours, and one protected route."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Annotated

from fastapi import Depends, FastAPI

from example_app.db import User, create_tables
from example_app.schemas import UserCreate, UserRead, UserUpdate
from example_app.tokens import disconnect
from example_app.users import auth_backend, current_active_user, fastapi_users
from fastapi_users_knox import get_knox_router


@asynccontextmanager
async def lifespan(_app: FastAPI) -> AsyncIterator[None]:
    """Create the tables at start, and let go of Redis at the end."""
    await create_tables()
    yield
    await disconnect()


app = FastAPI(title="fastapi-users-knox example", lifespan=lifespan)

app.include_router(fastapi_users.get_auth_router(auth_backend), prefix="/auth", tags=["auth"])
app.include_router(get_knox_router(fastapi_users, auth_backend), prefix="/auth", tags=["auth"])
app.include_router(fastapi_users.get_register_router(UserRead, UserCreate), prefix="/auth", tags=["auth"])
app.include_router(fastapi_users.get_reset_password_router(), prefix="/auth", tags=["auth"])
app.include_router(fastapi_users.get_verify_router(UserRead), prefix="/auth", tags=["auth"])
app.include_router(fastapi_users.get_users_router(UserRead, UserUpdate), prefix="/users", tags=["users"])


@app.get("/authenticated-route")
async def authenticated_route(user: Annotated[User, Depends(current_active_user)]) -> dict[str, str]:
    """Greet whoever has a live token."""
    return {"message": f"Hello {user.email}!"}
