"""The routes that stand beside FastAPI-Users' login and logout."""

from typing import Annotated

from fastapi import APIRouter, Depends, Response, status
from fastapi_users import FastAPIUsers
from fastapi_users.authentication import AuthenticationBackend, Authenticator
from fastapi_users.authentication.transport import TransportLogoutNotSupportedError
from fastapi_users.models import ID, UP

from fastapi_users_knox.strategy import KnoxStrategy

__all__ = ["get_knox_router"]


def get_knox_router(
    fastapi_users: FastAPIUsers[UP, ID],
    backend: AuthenticationBackend[UP, ID],
    *,
    requires_verification: bool = False,
) -> APIRouter:
    """Make the router of an authentication backend whose strategy is a `KnoxStrategy`.

    Its routes accept this backend's tokens alone. `POST /logout-all` ends all of the user's tokens and answers as the
    transport's logout does.

    Args:
        fastapi_users: The application's.
        backend: Whose tokens the routes take and end.
        requires_verification: Whether the user must be verified.
    """
    router = APIRouter()
    authenticator = Authenticator([backend], fastapi_users.get_user_manager)
    current_user = authenticator.current_user(active=True, verified=requires_verification)

    @router.post(
        "/logout-all",
        name=f"auth:{backend.name}.logout_all",
        status_code=status.HTTP_204_NO_CONTENT,
        responses={
            status.HTTP_401_UNAUTHORIZED: {"description": "Missing token or inactive user."},
            status.HTTP_503_SERVICE_UNAVAILABLE: {"description": "The token store cannot answer."},
            **backend.transport.get_openapi_logout_responses_success(),
        },
    )
    async def logout_all(
        user: Annotated[UP, Depends(current_user)],
        strategy: Annotated[KnoxStrategy[UP, ID], Depends(backend.get_strategy)],
    ) -> Response:
        await strategy.logout_all(user)
        return await _logout_response(backend)

    return router


async def _logout_response(backend: AuthenticationBackend[UP, ID]) -> Response:
    try:
        return await backend.transport.get_logout_response()
    except TransportLogoutNotSupportedError:
        return Response(status_code=status.HTTP_204_NO_CONTENT)
