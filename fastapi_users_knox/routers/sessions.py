"""The routes that complement FastAPI-Users' login and logout: a user's own sessions."""

from collections.abc import Callable, Coroutine
from datetime import timedelta
from typing import Annotated, Any
from uuid import UUID

from fastapi import APIRouter, Depends, Form, HTTPException, Response, status
from fastapi_users import FastAPIUsers
from fastapi_users.authentication import AuthenticationBackend
from fastapi_users.authentication.transport import TransportLogoutNotSupportedError
from fastapi_users.manager import BaseUserManager
from fastapi_users.models import ID, UP
from fastapi_users.openapi import OpenAPIResponseType

from fastapi_users_knox.records import TokenRecord
from fastapi_users_knox.routers.backends import presented_by
from fastapi_users_knox.routers.dependencies import current_token
from fastapi_users_knox.routers.passwords import user_with_password
from fastapi_users_knox.routers.responses import (
    SESSION_NOT_FOUND,
    forbid_caching,
    not_found_refusal,
    reauthentication_refusals,
    refusals,
)
from fastapi_users_knox.routers.schemas import SessionRead
from fastapi_users_knox.strategy import KnoxStrategy
from fastapi_users_knox.transports.responses import CACHING_FORBIDDEN

__all__ = ["get_knox_router"]

_GetCurrent = Callable[..., Coroutine[Any, Any, tuple[UP, TokenRecord[ID]]]]

_NO_SESSION = {SESSION_NOT_FOUND: "The user has no live session with this id."}


def get_knox_router(
    fastapi_users: FastAPIUsers[UP, ID],
    backend: AuthenticationBackend[UP, ID],
    *,
    requires_verification: bool = False,
    fresh_within: timedelta | None = None,
) -> APIRouter:
    """Make the router of an authentication backend whose strategy is a `KnoxStrategy`.

    The routes accept only tokens of this backend, and list and revoke only sessions of this backend. `POST /logout-all`
    revokes all sessions of the user. `POST /logout-others` revokes all sessions except the session of the request. `GET
    /sessions` lists the sessions, newest first, and `DELETE /sessions/{id}` revokes one session. `POST /rotate`
    replaces the token with a new token, and answers like a login. `POST /reauthenticate` does the same if the form has
    the user's `password`, and makes the login recent again. A route that revokes the session of its own request answers
    like a logout.

    Args:
        fastapi_users: The application's `FastAPIUsers` object.
        backend: The backend, whose strategy is a `KnoxStrategy`.
        requires_verification: Whether the user must be verified.
        fresh_within: The longest time that may have passed since the user authenticated, for the routes that list and
            revoke sessions (ASVS 7.5.2). If more time has passed, the answer is 401 `REAUTHENTICATION_REQUIRED`.

    Raises:
        TypeError: The backend's strategy is declared to be something other than a `KnoxStrategy`.
    """
    forbidden = "The user is not verified." if requires_verification else None
    router = APIRouter(responses=refusals(forbidden=forbidden))
    get_current, get_recent = (
        current_token(fastapi_users, backend, active=True, verified=requires_verification, fresh_within=within)
        for within in (None, fresh_within)
    )
    managing = APIRouter(responses=refusals(stale=fresh_within is not None))
    _add_logouts(managing, backend, get_current=get_recent)
    _add_sessions(managing, backend, get_current=get_recent)
    router.include_router(managing)
    _add_rotation(router, backend, get_current=get_current)
    _add_reauthentication(router, backend, get_current=get_current, get_user_manager=fastapi_users.get_user_manager)
    return router


def _add_logouts(
    router: APIRouter, backend: AuthenticationBackend[UP, ID], *, get_current: _GetCurrent[UP, ID]
) -> None:
    @router.post(
        "/logout-all",
        name=f"auth:{backend.name}.logout_all",
        status_code=status.HTTP_204_NO_CONTENT,
        responses=backend.transport.get_openapi_logout_responses_success(),
    )
    async def logout_all(
        current: Annotated[tuple[UP, TokenRecord[ID]], Depends(get_current)],
        strategy: Annotated[KnoxStrategy[UP, ID], Depends(backend.get_strategy)],
    ) -> Response:
        await strategy.logout_all(current[0])
        return await _logout_response(backend)

    @router.post("/logout-others", name=f"auth:{backend.name}.logout_others", status_code=status.HTTP_204_NO_CONTENT)
    async def logout_others(
        current: Annotated[tuple[UP, TokenRecord[ID]], Depends(get_current)],
        token: Annotated[str, Depends(presented_by(backend))],
        strategy: Annotated[KnoxStrategy[UP, ID], Depends(backend.get_strategy)],
    ) -> None:
        await strategy.logout_all(current[0], keep=token)


def _add_sessions(
    router: APIRouter, backend: AuthenticationBackend[UP, ID], *, get_current: _GetCurrent[UP, ID]
) -> None:
    @router.get("/sessions", name=f"auth:{backend.name}.sessions", dependencies=[Depends(forbid_caching)])
    async def sessions(
        current: Annotated[tuple[UP, TokenRecord[ID]], Depends(get_current)],
        strategy: Annotated[KnoxStrategy[UP, ID], Depends(backend.get_strategy)],
    ) -> list[SessionRead]:
        user, presented = current
        return [SessionRead.of(record, presented=presented) for record in await strategy.list_records(user)]

    @router.delete(
        "/sessions/{id}",
        name=f"auth:{backend.name}.revoke_session",
        status_code=status.HTTP_204_NO_CONTENT,
        responses=not_found_refusal(_NO_SESSION) | backend.transport.get_openapi_logout_responses_success(),
    )
    async def revoke_session(
        id: UUID,
        current: Annotated[tuple[UP, TokenRecord[ID]], Depends(get_current)],
        strategy: Annotated[KnoxStrategy[UP, ID], Depends(backend.get_strategy)],
    ) -> Response:
        user, presented = current
        if not await strategy.revoke(user, id):
            raise HTTPException(status.HTTP_404_NOT_FOUND, SESSION_NOT_FOUND)
        if id == presented.id:
            return await _logout_response(backend)
        return Response(status_code=status.HTTP_204_NO_CONTENT)


def _add_rotation(
    router: APIRouter, backend: AuthenticationBackend[UP, ID], *, get_current: _GetCurrent[UP, ID]
) -> None:
    success, responses = _login_success(backend)

    @router.post("/rotate", name=f"auth:{backend.name}.rotate", status_code=success, responses=responses)
    async def rotate(
        current: Annotated[tuple[UP, TokenRecord[ID]], Depends(get_current)],
        token: Annotated[str, Depends(presented_by(backend))],
        strategy: Annotated[KnoxStrategy[UP, ID], Depends(backend.get_strategy)],
    ) -> Response:
        return await _login_response(backend, await strategy.rotate_token(token, current[0]))


def _add_reauthentication(
    router: APIRouter,
    backend: AuthenticationBackend[UP, ID],
    *,
    get_current: _GetCurrent[UP, ID],
    get_user_manager: Callable[..., Any],
) -> None:
    success, responses = _login_success(backend)

    @router.post(
        "/reauthenticate",
        name=f"auth:{backend.name}.reauthenticate",
        status_code=success,
        responses=responses | reauthentication_refusals(),
    )
    async def reauthenticate(
        current: Annotated[tuple[UP, TokenRecord[ID]], Depends(get_current)],
        token: Annotated[str, Depends(presented_by(backend))],
        strategy: Annotated[KnoxStrategy[UP, ID], Depends(backend.get_strategy)],
        user_manager: Annotated[BaseUserManager[UP, ID], Depends(get_user_manager)],
        password: Annotated[str, Form(json_schema_extra={"format": "password"})],
    ) -> Response:
        user = await user_with_password(user_manager, current[0], password)
        return await _login_response(backend, await strategy.reauthenticate(token, user))


async def _login_response(backend: AuthenticationBackend[UP, ID], token: str) -> Response:
    """Answer like a login, and forbid caches to store the token with any transport."""
    response = await backend.transport.get_login_response(token)
    for header, value in CACHING_FORBIDDEN.items():
        response.headers.setdefault(header, value)
    return response


async def _logout_response(backend: AuthenticationBackend[UP, ID]) -> Response:
    try:
        return await backend.transport.get_logout_response()
    except TransportLogoutNotSupportedError:
        return Response(status_code=status.HTTP_204_NO_CONTENT)


def _login_success(backend: AuthenticationBackend[UP, ID]) -> tuple[int, OpenAPIResponseType]:
    """Return the status and the answers of a successful login. A rotation does not have all errors of a login."""
    documented = backend.transport.get_openapi_login_responses_success()
    codes = [code for code in documented if isinstance(code, int) and code < status.HTTP_300_MULTIPLE_CHOICES]
    return min(codes, default=status.HTTP_200_OK), {code: documented[code] for code in codes}
