"""The tutorial's application, with routes for administrators to see and revoke the sessions of all users."""

from fastapi_users_knox import get_knox_admin_router, unauthorized_handler

from app import app
from users import auth_backend, fastapi_users

app.add_exception_handler(401, unauthorized_handler)
app.include_router(get_knox_admin_router(fastapi_users, auth_backend), prefix="/users", tags=["users"])
