"""The routes with which users create, list, roll and end their API tokens."""

from collections.abc import Callable, Coroutine, Mapping
from dataclasses import dataclass
from datetime import timedelta
from types import MappingProxyType
from typing import Annotated, Any, Generic, TypeVar
from uuid import UUID

from fastapi import APIRouter, Depends, status
from fastapi_users import FastAPIUsers
from fastapi_users.authentication import AuthenticationBackend
from fastapi_users.models import ID, UP
from fastapi_users.openapi import OpenAPIResponseType
from pydantic import BaseModel

from fastapi_users_knox.records import TokenRecord
from fastapi_users_knox.records.fields import checked_scopes
from fastapi_users_knox.routers.api_token_issuing import (
    ALREADY_ROLLED,
    NOT_FOUND,
    SCOPE_WITHDRAWN,
    ApiTokens,
    GetApiTokens,
    api_tokens_of,
)
from fastapi_users_knox.routers.api_token_schemas import (
    ApiTokenCreate,
    ApiTokenCreated,
    ApiTokenRead,
    ApiTokenRoll,
    create_schema,
    roll_schema,
)
from fastapi_users_knox.routers.backends import refuse_other_backends
from fastapi_users_knox.routers.dependencies import current_token
from fastapi_users_knox.routers.responses import forbid_caching, refusals
from fastapi_users_knox.routers.reticent_route import ReticentRoute
from fastapi_users_knox.settings.types import check_ttl

__all__ = ["get_api_token_router"]

M = TypeVar("M", bound=BaseModel)
_GetCurrent = Callable[..., Coroutine[Any, Any, tuple[UP, TokenRecord[ID]]]]

_NOTHING: Mapping[int, dict[str, str]] = MappingProxyType({})
_NO_TOKEN = {NOT_FOUND: "The user has no live API token with this id."}
_ISSUING = {
    status.HTTP_400_BAD_REQUEST: {"LOGIN_BAD_CREDENTIALS": "The user was changed during the request."},
    status.HTTP_403_FORBIDDEN: {"LOGIN_TOKEN_LIMIT_REACHED": "The user has too many live API tokens."},
}
_ROLLING = {
    status.HTTP_409_CONFLICT: {
        ALREADY_ROLLED: "The token has been rolled already, perhaps by another request a moment ago.",
        SCOPE_WITHDRAWN: "The token has a scope that users may not choose any more.",
    }
}


def get_api_token_router(
    fastapi_users: FastAPIUsers[UP, ID],
    backend: AuthenticationBackend[UP, ID],
    api_backend: AuthenticationBackend[UP, ID],
    *,
    scopes: Mapping[str, str],
    fresh_within: timedelta | None = timedelta(minutes=10),
    max_ttl: timedelta | None = timedelta(days=365),
    requires_verification: bool = False,
) -> APIRouter:
    """Make the router with which users create, list, roll and end tokens for their programs.

    Every route needs a session of `backend`, and no route accepts an API token. `POST /` issues a token and returns its
    text, which is shown only once. `GET /` lists the live tokens, newest first, and `DELETE /{id}` ends one token.
    `POST /{id}/roll` issues a successor with the same name, scopes and lifetime, while the old token stays valid for
    `overlap` seconds.

    Args:
        fastapi_users: The application's `FastAPIUsers` object.
        backend: The backend of the sessions, whose strategy is a `KnoxStrategy`.
        api_backend: The backend whose strategy, a `KnoxStrategy` with `ApiTokenSettings`, issues the API tokens. It has
            the same store as that of the sessions, and another audience.
        scopes: The names of the scopes that users may choose, each with what it allows, for the OpenAPI document.
        fresh_within: The longest time that may have passed since the user authenticated. If more time has passed, the
            answer is 401 `REAUTHENTICATION_REQUIRED`; `None` accepts any session.
        max_ttl: The longest lifetime that a user may choose, at least a second, to which the default lifetime is cut
            too; `None` allows any. A refresh gives a token its lifetime again, so limit refreshed tokens with
            `auto_refresh_max_ttl`.
        requires_verification: Whether the user must be verified.

    Raises:
        TypeError: A backend's strategy is declared to be something other than a `KnoxStrategy`, or the scopes are not a
            mapping.
        ValueError: A name of a scope is not valid, there is no scope, or `max_ttl` is not valid.
    """
    for each in (backend, api_backend):
        refuse_other_backends(each)
    _check_options(scopes, max_ttl)
    router = APIRouter(route_class=ReticentRoute)
    add = _Adding(
        router=router,
        name=f"auth:{api_backend.name}",
        get_current=current_token(
            fastapi_users, backend, active=True, verified=requires_verification, fresh_within=fresh_within
        ),
        get_tokens=api_tokens_of(backend, api_backend, scopes=frozenset(scopes), max_ttl=max_ttl),
        forbidden="The user is not verified." if requires_verification else None,
        needs_fresh_login=fresh_within is not None,
    )
    _add_creation(add, create_schema(scopes, max_ttl))
    _add_list(add)
    _add_end(add)
    _add_roll(add, roll_schema(max_ttl))
    return router


@dataclass(frozen=True, kw_only=True)
class _Adding(Generic[UP, ID]):
    """What all routes of one router have in common.

    Attributes:
        router: The router.
        name: The beginning of the routes' names.
        get_current: The dependency that returns the user and the session.
        get_tokens: The dependency that returns the API tokens.
        forbidden: Why any route may answer 403; `None` if it does not.
        needs_fresh_login: Whether any route may answer that the login is too long ago.
    """

    router: APIRouter
    name: str
    get_current: _GetCurrent[UP, ID]
    get_tokens: GetApiTokens[UP, ID]
    forbidden: str | None
    needs_fresh_login: bool

    def document(
        self, more: Mapping[int, dict[str, str]] = _NOTHING, *, not_found: dict[str, str] | None = None
    ) -> OpenAPIResponseType:
        """Document the errors of a route."""
        return refusals(forbidden=self.forbidden, not_found=not_found, stale=self.needs_fresh_login, more=more)


def _add_creation(add: _Adding[UP, ID], schema: type[ApiTokenCreate]) -> None:
    @add.router.post(
        "/",
        name=f"{add.name}.create_api_token",
        status_code=status.HTTP_201_CREATED,
        responses=add.document(_ISSUING),
        dependencies=[Depends(forbid_caching)],
    )
    async def create_api_token(
        current: Annotated[tuple[UP, TokenRecord[ID]], Depends(add.get_current)],
        tokens: Annotated[ApiTokens[UP, ID], Depends(add.get_tokens)],
        wanted: Annotated[ApiTokenCreate, Depends(_body_of(schema))],
    ) -> ApiTokenCreated:
        user, session = current
        return ApiTokenCreated.of(await tokens.issue(user, session, wanted))


def _add_list(add: _Adding[UP, ID]) -> None:
    @add.router.get(
        "/", name=f"{add.name}.api_tokens", responses=add.document(), dependencies=[Depends(forbid_caching)]
    )
    async def api_tokens(
        current: Annotated[tuple[UP, TokenRecord[ID]], Depends(add.get_current)],
        tokens: Annotated[ApiTokens[UP, ID], Depends(add.get_tokens)],
    ) -> list[ApiTokenRead]:
        return [ApiTokenRead.of(record) for record in await tokens.list(current[0])]


def _add_end(add: _Adding[UP, ID]) -> None:
    @add.router.delete(
        "/{id}",
        name=f"{add.name}.end_api_token",
        status_code=status.HTTP_204_NO_CONTENT,
        responses=add.document(not_found=_NO_TOKEN),
    )
    async def end_api_token(
        id: UUID,
        current: Annotated[tuple[UP, TokenRecord[ID]], Depends(add.get_current)],
        tokens: Annotated[ApiTokens[UP, ID], Depends(add.get_tokens)],
    ) -> None:
        await tokens.end(current[0], id)


def _add_roll(add: _Adding[UP, ID], schema: type[ApiTokenRoll]) -> None:
    @add.router.post(
        "/{id}/roll",
        name=f"{add.name}.roll_api_token",
        status_code=status.HTTP_201_CREATED,
        responses=add.document(_ISSUING | _ROLLING, not_found=_NO_TOKEN),
        dependencies=[Depends(forbid_caching)],
    )
    async def roll_api_token(
        id: UUID,
        current: Annotated[tuple[UP, TokenRecord[ID]], Depends(add.get_current)],
        tokens: Annotated[ApiTokens[UP, ID], Depends(add.get_tokens)],
        wanted: Annotated[ApiTokenRoll, Depends(_body_of(schema))],
    ) -> ApiTokenCreated:
        user, session = current
        return ApiTokenCreated.of(await tokens.roll(user, session, id, overlap=timedelta(seconds=wanted.overlap)))


def _body_of(schema: type[M]) -> Callable[..., Coroutine[Any, Any, M]]:
    """Make the dependency that returns the body of a request, checked by a schema that is known only here."""

    async def get_body(body: Any) -> M:  # noqa: ANN401 (the annotation is replaced)
        checked: M = body
        return checked

    get_body.__annotations__["body"] = schema
    return get_body


def _check_options(scopes: Mapping[str, str], max_ttl: timedelta | None) -> None:
    if not isinstance(scopes, Mapping):
        raise TypeError(
            "scopes must be a mapping of names to what they allow, such as {'reports:read': 'Read reports'}"
        )
    checked_scopes(scopes)
    if max_ttl is not None and check_ttl(max_ttl) < timedelta(seconds=1):
        raise ValueError("max_ttl must be at least a second")
