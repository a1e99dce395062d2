"""The routes with which superusers list and revoke the sessions of any user."""

from collections.abc import Callable, Coroutine
from typing import Annotated, Any
from uuid import UUID

from fastapi import APIRouter, Depends, HTTPException, status
from fastapi_users import FastAPIUsers
from fastapi_users.authentication import AuthenticationBackend
from fastapi_users.exceptions import InvalidID, UserNotExists
from fastapi_users.manager import BaseUserManager
from fastapi_users.models import ID, UP

from fastapi_users_knox.routers.backends import refuse_other_backends, strategy_of
from fastapi_users_knox.routers.responses import SESSION_NOT_FOUND, forbid_caching, refusals
from fastapi_users_knox.routers.schemas import SessionRead
from fastapi_users_knox.strategy import KnoxStrategy

__all__ = ["get_knox_admin_router"]

_GetUser = Callable[..., Coroutine[Any, Any, UP]]

_NO_SESSION = {SESSION_NOT_FOUND: "The user has no live session with this id."}
_NO_USER = {"Not Found": "The user does not exist."}


def get_knox_admin_router(fastapi_users: FastAPIUsers[UP, ID], backend: AuthenticationBackend[UP, ID]) -> APIRouter:
    """Make the router with which superusers list and revoke the sessions of any user (ASVS 7.4.5).

    `GET /{user_id}/sessions` lists the sessions of this backend, `DELETE /{user_id}/sessions` revokes all sessions of
    every audience, and `DELETE /{user_id}/sessions/{id}` revokes one session. A superuser may authenticate with any
    backend of `fastapi_users`, as with FastAPI-Users' users router.

    Args:
        fastapi_users: The application's `FastAPIUsers` object, which authenticates the superusers.
        backend: The backend whose sessions the routes list and revoke. Its strategy is a `KnoxStrategy`.

    Raises:
        TypeError: The backend's strategy is declared to be something other than a `KnoxStrategy`.
    """
    refuse_other_backends(backend)
    superuser = fastapi_users.current_user(active=True, superuser=True)
    # Only superusers may learn whether a user exists, so this check comes before the user is loaded.
    router = APIRouter(
        dependencies=[Depends(superuser)],
        responses=refusals(forbidden="Not a superuser.", not_found=_NO_USER),
    )
    get_user = _user_or_404(fastapi_users)
    _add_administration(router, backend, get_user=get_user)
    _add_administration_of_one(router, backend, get_user=get_user)
    return router


def _add_administration(router: APIRouter, backend: AuthenticationBackend[UP, ID], *, get_user: _GetUser[UP]) -> None:
    get_strategy = strategy_of(backend)

    @router.get("/{user_id}/sessions", name=f"users:{backend.name}.sessions", dependencies=[Depends(forbid_caching)])
    async def sessions(
        user: Annotated[UP, Depends(get_user)],
        strategy: Annotated[KnoxStrategy[UP, ID], Depends(get_strategy)],
    ) -> list[SessionRead]:
        presented = strategy.presented_record(user)
        return [SessionRead.of(record, presented=presented) for record in await strategy.list_records(user)]

    @router.delete(
        "/{user_id}/sessions",
        name=f"users:{backend.name}.revoke_sessions",
        status_code=status.HTTP_204_NO_CONTENT,
    )
    async def revoke_sessions(
        user: Annotated[UP, Depends(get_user)],
        strategy: Annotated[KnoxStrategy[UP, ID], Depends(get_strategy)],
    ) -> None:
        await strategy.revoke_all(user.id, reason="admin")


def _add_administration_of_one(
    router: APIRouter, backend: AuthenticationBackend[UP, ID], *, get_user: _GetUser[UP]
) -> None:
    get_strategy = strategy_of(backend)

    @router.delete(
        "/{user_id}/sessions/{id}",
        name=f"users:{backend.name}.revoke_session",
        status_code=status.HTTP_204_NO_CONTENT,
        responses=refusals(not_found=_NO_USER | _NO_SESSION),
    )
    async def revoke_session(
        id: UUID,
        user: Annotated[UP, Depends(get_user)],
        strategy: Annotated[KnoxStrategy[UP, ID], Depends(get_strategy)],
    ) -> None:
        if not await strategy.revoke(user, id, reason="admin"):
            raise HTTPException(status.HTTP_404_NOT_FOUND, SESSION_NOT_FOUND)


def _user_or_404(fastapi_users: FastAPIUsers[UP, ID]) -> Callable[..., Coroutine[Any, Any, UP]]:
    """Make the dependency that loads the user by the `user_id` in the path, as in FastAPI-Users' users router."""

    async def get_user(
        user_id: str, user_manager: Annotated[BaseUserManager[UP, ID], Depends(fastapi_users.get_user_manager)]
    ) -> UP:
        try:
            return await user_manager.get(user_manager.parse_id(user_id))
        except (UserNotExists, InvalidID) as error:
            raise HTTPException(status.HTTP_404_NOT_FOUND) from error

    return get_user
