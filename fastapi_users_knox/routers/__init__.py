"""The parts that an application passes to FastAPI: routers, schemas, dependencies and an exception handler."""

from fastapi_users_knox.routers.administration import get_knox_admin_router
from fastapi_users_knox.routers.api_token_schemas import ApiTokenCreated, ApiTokenRead
from fastapi_users_knox.routers.api_tokens import get_api_token_router
from fastapi_users_knox.routers.backends import knox_strategy
from fastapi_users_knox.routers.dependencies import current_token
from fastapi_users_knox.routers.exception_handlers import unauthorized_handler
from fastapi_users_knox.routers.schemas import SessionRead
from fastapi_users_knox.routers.sessions import get_knox_router

__all__ = [
    "ApiTokenCreated",
    "ApiTokenRead",
    "SessionRead",
    "current_token",
    "get_api_token_router",
    "get_knox_admin_router",
    "get_knox_router",
    "knox_strategy",
    "unauthorized_handler",
]
