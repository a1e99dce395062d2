"""`current_token`, the dependency for the user and the token's record. In django-rest-knox: `request.auth`."""

from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from datetime import timedelta
from typing import Annotated, Any, Literal, overload

from fastapi import Depends, status
from fastapi.exceptions import HTTPException
from fastapi.requests import HTTPConnection
from fastapi_users import FastAPIUsers
from fastapi_users.authentication import AuthenticationBackend, Strategy
from fastapi_users.manager import BaseUserManager
from fastapi_users.models import ID, UP

from fastapi_users_knox.records import TokenRecord
from fastapi_users_knox.routers.backends import checked_strategy, presented_by, refuse_other_backends
from fastapi_users_knox.strategy import KnoxStrategy
from fastapi_users_knox.transports.challenges import challenge_for, invalid_token, note_transport
from fastapi_users_knox.transports.presented import authenticated_record, note_authenticated

__all__ = ["current_token"]

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
    """Make a dependency that returns the user and the record of the presented token, with one read of the store.

    It works for requests and WebSockets, and accepts only the tokens of this backend. A refusal names the error (RFC
    6750 §3.1).

    Args:
        fastapi_users: The application's `FastAPIUsers` object.
        backend: A backend whose strategy is a `KnoxStrategy`.
        optional: Whether to return `None` instead of raising if a condition is not met.
        active: As in `current_user`. The tokens of an inactive user are refused even without it.
        verified: Whether the user must be verified; the answer is 403 otherwise.
        superuser: Whether the user must be a superuser; the answer is 403 otherwise.
        touch: Whether this counts as use of the token. `False` writes nothing, so it does not keep a session alive.
        fresh_within: The longest time since the user authenticated; the answer is 401 if more time has passed. Refresh
            and rotation do not make a login fresh again.

    Raises:
        TypeError: The backend's strategy is declared to be something other than a `KnoxStrategy`.
    """
    refuse_other_backends(backend)
    rules = _Rules(active=active, verified=verified, superuser=superuser, fresh_within=fresh_within)
    return _current_token(fastapi_users, backend, rules=rules, optional=optional, touch=touch)


@dataclass(frozen=True, kw_only=True)
class _Rules:
    """The conditions that a user and a login must meet, in addition to a live token."""

    active: bool
    verified: bool
    superuser: bool
    fresh_within: timedelta | None

    def refusal(
        self, connection: HTTPConnection, found: tuple[UP, TokenRecord[ID]], strategy: KnoxStrategy[UP, ID]
    ) -> HTTPException | None:
        """Return the exception for the first condition that is not met, in FastAPI-Users' order and freshness last."""
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
        note_transport(connection, scheme=None, presented=bool(token))  # FastAPI-Users' own transports make no note.
        refusal = _not_authenticated(connection) if found is None else rules.refusal(connection, found, knox)
        if optional or refusal is not None:
            note_authenticated(connection, before)  # Neither an optional dependency nor a refusal authenticates.
        if refusal is not None and not optional:
            raise refusal
        return found if refusal is None else None

    return get_current_token


def _not_authenticated(connection: HTTPConnection) -> HTTPException:
    """Return the exception for a request without a live token."""
    return HTTPException(status.HTTP_401_UNAUTHORIZED, headers={_CHALLENGE: challenge_for(connection)})
