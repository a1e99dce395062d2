"""The routes by which superusers see and end anybody's sessions."""

from collections.abc import Callable, Coroutine
from typing import Annotated, Any
from uuid import UUID

from fastapi import APIRouter, Depends, HTTPException, status
from fastapi_users import FastAPIUsers
from fastapi_users.authentication import AuthenticationBackend
from fastapi_users.models import ID, UP

from fastapi_users_knox.backends import refuse_other_backends, strategy_of
from fastapi_users_knox.dependencies import forbid_caching, user_or_404
from fastapi_users_knox.schemas import SESSION_NOT_FOUND, SessionRead, refusals
from fastapi_users_knox.strategy import KnoxStrategy

__all__ = ["get_knox_admin_router"]

_GetUser = Callable[..., Coroutine[Any, Any, UP]]

_NO_SESSION = {SESSION_NOT_FOUND: "The user has no such live session."}
_NO_USER = {"Not Found": "The user does not exist."}


def get_knox_admin_router(fastapi_users: FastAPIUsers[UP, ID], backend: AuthenticationBackend[UP, ID]) -> APIRouter:
    """Make the router by which superusers see and end the sessions of any user (ASVS 7.4.5).

    `GET /{user_id}/sessions` lists them, `DELETE /{user_id}/sessions` ends all of every
    audience, `DELETE /{user_id}/sessions/{id}` one.
    A superuser logs in by any backend of `fastapi_users`, as for FastAPI-Users' users router.

    Args:
        fastapi_users: Who may be a superuser here.
        backend: Whose sessions the routes list and end; its strategy is a `KnoxStrategy`.

    Raises:
        TypeError: The backend's strategy is declared to be another one.
    """
    refuse_other_backends(backend)
    superuser = fastapi_users.current_user(active=True, superuser=True)
    # Whether a user exists is told to superusers alone, so this comes before the user is looked up.
    router = APIRouter(
        dependencies=[Depends(superuser)],
        responses=refusals(forbidden="Not a superuser.", not_found=_NO_USER),
    )
    get_user = user_or_404(fastapi_users)
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
