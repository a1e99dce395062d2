"""Sessions that users see and end, and administrators too."""

from fastapi import FastAPI

from example_app.users import auth_backend, fastapi_users
from fastapi_users_knox import get_knox_admin_router, get_knox_router, unauthorized

app = FastAPI()
app.add_exception_handler(401, unauthorized)
app.include_router(fastapi_users.get_auth_router(auth_backend), prefix="/auth")
app.include_router(get_knox_router(fastapi_users, auth_backend), prefix="/auth")
app.include_router(get_knox_admin_router(fastapi_users, auth_backend), prefix="/users")
