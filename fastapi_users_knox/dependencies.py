"""The user together with the record of the token that was presented: knox's `request.auth`."""

from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from datetime import timedelta
from typing import Annotated, Any, Literal, cast, overload

from fastapi import Depends, Response, status
from fastapi.exceptions import HTTPException
from fastapi.requests import HTTPConnection
from fastapi.responses import JSONResponse
from fastapi_users import FastAPIUsers
from fastapi_users.authentication import AuthenticationBackend, Strategy
from fastapi_users.exceptions import InvalidID, UserNotExists
from fastapi_users.manager import BaseUserManager
from fastapi_users.models import ID, UP
from starlette.exceptions import HTTPException as AnyHTTPException

from fastapi_users_knox.backends import checked_strategy, refuse_other_backends
from fastapi_users_knox.challenges import challenge_for, invalid_token, note_transport
from fastapi_users_knox.presented import authenticated_record, note_authenticated
from fastapi_users_knox.store import TokenRecord
from fastapi_users_knox.strategy import KnoxStrategy

__all__ = [
    "current_token",
    "forbid_caching",
    "presented_by",
    "unauthorized",
    "user_or_404",
]

_CHALLENGE = "WWW-Authenticate"
_TOO_OLD = "The login is too long ago; log in again"


@overload
def current_token(
    fastapi_users: FastAPIUsers[UP, ID],
    backend: AuthenticationBackend[UP, ID],
    *,
    optional: Literal[False] = False,
    active: bool = False,
    verified: bool = False,
    superuser: bool = False,
    touch: bool = True,
    fresh_within: timedelta | None = None,
) -> Callable[..., Coroutine[Any, Any, tuple[UP, TokenRecord[ID]]]]: ...


@overload
def current_token(
    fastapi_users: FastAPIUsers[UP, ID],
    backend: AuthenticationBackend[UP, ID],
    *,
    optional: bool,
    active: bool = False,
    verified: bool = False,
    superuser: bool = False,
    touch: bool = True,
    fresh_within: timedelta | None = None,
) -> Callable[..., Coroutine[Any, Any, tuple[UP, TokenRecord[ID]] | None]]: ...


def current_token(
    fastapi_users: FastAPIUsers[UP, ID],
    backend: AuthenticationBackend[UP, ID],
    *,
    optional: bool = False,
    active: bool = False,
    verified: bool = False,
    superuser: bool = False,
    touch: bool = True,
    fresh_within: timedelta | None = None,
) -> Callable[..., Coroutine[Any, Any, tuple[UP, TokenRecord[ID]] | None]]:
    """Make a dependency that gives the user and the record of the token presented, by one read.

    It is for requests and WebSockets, takes this backend's tokens alone, and says why it refuses (RFC 6750 §3.1).

    Args:
        fastapi_users: The application's.
        backend: One whose strategy is a `KnoxStrategy`.
        optional: Whether whoever does not meet the rest gets `None` instead of an error.
        active: As in `current_user`; an inactive user's tokens are refused in any case.
        verified: Whether the user must be verified; 403 if not.
        superuser: Whether the user must be a superuser; 403 if not.
        touch: Whether this counts as use; `False` writes nothing and keeps no session alive.
        fresh_within: How long ago the user may have authenticated; 401 if it was earlier. Neither refresh nor rotation
            makes a login fresh again.

    Raises:
        TypeError: The backend's strategy is declared to be another one.
    """
    refuse_other_backends(backend)
    rules = _Rules(active=active, verified=verified, superuser=superuser, fresh_within=fresh_within)
    return _current_token(fastapi_users, backend, rules=rules, optional=optional, touch=touch)


def presented_by(backend: AuthenticationBackend[Any, Any]) -> Callable[..., Any]:
    """Return the dependency that gives the text presented; FastAPI asks it once for all who depend on it."""
    return cast("Callable[..., Any]", backend.transport.scheme)


def user_or_404(fastapi_users: FastAPIUsers[UP, ID]) -> Callable[..., Coroutine[Any, Any, UP]]:
    """Make the dependency that gives the user of a path's `user_id`, as FastAPI-Users' users router does."""

    async def get_user(
        user_id: str, user_manager: Annotated[BaseUserManager[UP, ID], Depends(fastapi_users.get_user_manager)]
    ) -> UP:
        try:
            return await user_manager.get(user_manager.parse_id(user_id))
        except (UserNotExists, InvalidID) as error:
            raise HTTPException(status.HTTP_404_NOT_FOUND) from error

    return get_user


def forbid_caching(response: Response) -> None:
    """Let no cache keep what the route answers (ASVS 14.3.2)."""
    response.headers["Cache-Control"] = "no-store"


async def unauthorized(request: HTTPConnection, error: Exception) -> JSONResponse:
    """Answer a 401 as it is, with `WWW-Authenticate` where it has none: FastAPI-Users' own 401s have not.

    It is an exception handler: `app.add_exception_handler(401, unauthorized)`. The header names the scheme of the
    transports that looked for a token in this request, and the error only where there was one (RFC 6750 §3.1), on a
    refused WebSocket handshake too.
    """
    if not isinstance(error, AnyHTTPException):
        raise error
    response = JSONResponse({"detail": error.detail}, error.status_code, headers=dict(error.headers or {}))
    response.headers.setdefault(_CHALLENGE, challenge_for(request))
    return response


@dataclass(frozen=True, kw_only=True)
class _Rules:
    """What is asked of a user and a login beyond a live token."""

    active: bool
    verified: bool
    superuser: bool
    fresh_within: timedelta | None

    def refusal(
        self, connection: HTTPConnection, found: tuple[UP, TokenRecord[ID]], strategy: KnoxStrategy[UP, ID]
    ) -> HTTPException | None:
        """Return the answer to whoever does not meet the rules, in FastAPI-Users' order; freshness comes last."""
        user, record = found
        if self.active and not user.is_active:
            return invalid_token(connection)
        if (self.verified and not user.is_verified) or (self.superuser and not user.is_superuser):
            challenge = challenge_for(connection, error="insufficient_scope")
            return HTTPException(status.HTTP_403_FORBIDDEN, headers={_CHALLENGE: challenge})
        if self.fresh_within is not None and not strategy.is_fresh(record, self.fresh_within):
            return invalid_token(connection, description=_TOO_OLD)
        return None


def _current_token(
    fastapi_users: FastAPIUsers[UP, ID],
    backend: AuthenticationBackend[UP, ID],
    *,
    rules: _Rules,
    optional: bool,
    touch: bool,
) -> Callable[..., Coroutine[Any, Any, tuple[UP, TokenRecord[ID]] | None]]:
    async def get_current_token(
        connection: HTTPConnection,
        user_manager: Annotated[BaseUserManager[UP, ID], Depends(fastapi_users.get_user_manager)],
        token: Annotated[str | None, Depends(presented_by(backend))],
        strategy: Annotated[Strategy[UP, ID], Depends(backend.get_strategy)],
    ) -> tuple[UP, TokenRecord[ID]] | None:
        knox = checked_strategy(strategy, backend)
        before = authenticated_record(connection)
        found = await knox.authenticate(token, user_manager, touch=touch)
        note_transport(connection, scheme=None, presented=bool(token))  # FastAPI-Users' own transports do not.
        refusal = _not_authenticated(connection) if found is None else rules.refusal(connection, found, knox)
        if optional or refusal is not None:
            note_authenticated(connection, before)  # It lets nobody in, so it does not authenticate the request.
        if refusal is not None and not optional:
            raise refusal
        return found if refusal is None else None

    return get_current_token


def _not_authenticated(connection: HTTPConnection) -> HTTPException:
    """Return the answer to a request without a live token."""
    return HTTPException(status.HTTP_401_UNAUTHORIZED, headers={_CHALLENGE: challenge_for(connection)})
