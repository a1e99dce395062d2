"""`current_token`, the dependency for the user and the token's record. In django-rest-knox: `request.auth`."""

from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from datetime import timedelta
from typing import Annotated, Any, Literal, TypeVar, overload

from fastapi import Depends, status
from fastapi.exceptions import HTTPException
from fastapi.requests import HTTPConnection
from fastapi_users import FastAPIUsers
from fastapi_users.authentication import AuthenticationBackend, Strategy
from fastapi_users.manager import BaseUserManager
from fastapi_users.models import ID, UP, UserProtocol

from fastapi_users_knox.records import TokenRecord
from fastapi_users_knox.routers.backends import (
    checked_strategy,
    presented_by,
    refuse_other_backends,
    strategy_without_users,
)
from fastapi_users_knox.strategy import KnoxStrategy
from fastapi_users_knox.transports.challenges import challenge_for, invalid_token, note_transport
from fastapi_users_knox.transports.presented import authenticated_record, note_authenticated

__all__ = ["current_token"]

T = TypeVar("T")
_Dependency = Callable[..., Coroutine[Any, Any, T]]

_CHALLENGE = "WWW-Authenticate"
_TOO_OLD = "The login is too long ago; log in again"


@overload
def current_token(
    fastapi_users: FastAPIUsers[UP, ID],
    backend: AuthenticationBackend[UP, ID],
    *,
    load_user: Literal[True] = True,
    optional: Literal[False] = False,
    active: bool = False,
    verified: bool = False,
    superuser: bool = False,
    touch: bool = True,
    fresh_within: timedelta | None = None,
) -> _Dependency[tuple[UP, TokenRecord[ID]]]: ...


@overload
def current_token(
    fastapi_users: FastAPIUsers[UP, ID],
    backend: AuthenticationBackend[UP, ID],
    *,
    load_user: Literal[True] = True,
    optional: bool,
    active: bool = False,
    verified: bool = False,
    superuser: bool = False,
    touch: bool = True,
    fresh_within: timedelta | None = None,
) -> _Dependency[tuple[UP, TokenRecord[ID]] | None]: ...


@overload
def current_token(
    fastapi_users: FastAPIUsers[UP, ID],
    backend: AuthenticationBackend[UP, ID],
    *,
    load_user: Literal[False],
    optional: Literal[False] = False,
    touch: bool = True,
    fresh_within: timedelta | None = None,
) -> _Dependency[TokenRecord[ID]]: ...


@overload
def current_token(
    fastapi_users: FastAPIUsers[UP, ID],
    backend: AuthenticationBackend[UP, ID],
    *,
    load_user: Literal[False],
    optional: bool,
    touch: bool = True,
    fresh_within: timedelta | None = None,
) -> _Dependency[TokenRecord[ID] | None]: ...


def current_token(
    fastapi_users: FastAPIUsers[UP, ID],
    backend: AuthenticationBackend[UP, ID],
    *,
    load_user: bool = True,
    optional: bool = False,
    active: bool = False,
    verified: bool = False,
    superuser: bool = False,
    touch: bool = True,
    fresh_within: timedelta | None = None,
) -> _Dependency[Any]:
    """Make a dependency that returns the user and the record of the presented token, with one read of the store.

    The dependency works for requests and WebSockets, and accepts only the tokens of this backend. A refusal names the
    error (RFC 6750 §3.1).

    Args:
        fastapi_users: The application's `FastAPIUsers` object.
        backend: A backend whose strategy is a `KnoxStrategy`.
        load_user: `False` returns the record alone, which has the user's id. It needs neither the user manager nor a
            query for the user. A store that sees the users, such as the one over SQL, still refuses the tokens of an
            inactive user. A store that does not, such as the one over Redis, refuses them only if
            `KnoxUserManagerMixin` has revoked them.
        optional: Whether to return `None` instead of raising an error if a condition is not met.
        active: Whether the user must be active, as in `current_user`. Even with `False`, the tokens of an inactive user
            are refused.
        verified: Whether the user must be verified. If the user is not, the response is 403.
        superuser: Whether the user must be a superuser. If the user is not, the response is 403.
        touch: Whether the call counts as a use of the token. `False` writes nothing and keeps no session alive.
        fresh_within: The longest time that may have passed since the user authenticated; the answer is 401 if more time
            has passed. Refresh and rotation do not make a login fresh again.

    Raises:
        TypeError: The backend's strategy is declared to be something other than a `KnoxStrategy`, or `verified` or
            `superuser` is combined with `load_user=False`.
    """
    refuse_other_backends(backend)
    if not load_user and (active or verified or superuser):
        raise TypeError("load_user=False does not load the user, so leave out active, verified and superuser")
    rules = _Rules(
        active=active,
        verified=verified,
        superuser=superuser,
        fresh_within=fresh_within,
        optional=optional,
        touch=touch,
    )
    return _with_user(fastapi_users, backend, rules) if load_user else _without_user(backend, rules)


@dataclass(frozen=True, kw_only=True)
class _Rules:
    """The conditions that a user and a login must meet in addition to a live token, and whether a read may write."""

    active: bool
    verified: bool
    superuser: bool
    fresh_within: timedelta | None
    optional: bool
    touch: bool

    def refusal_of_user(self, connection: HTTPConnection, user: UserProtocol[Any]) -> HTTPException | None:
        """Return the exception for the first unmet condition on the user, in FastAPI-Users' order."""
        if self.active and not user.is_active:
            return invalid_token(connection)
        if (self.verified and not user.is_verified) or (self.superuser and not user.is_superuser):
            challenge = challenge_for(connection, error="insufficient_scope")
            return HTTPException(status.HTTP_403_FORBIDDEN, headers={_CHALLENGE: challenge})
        return None

    def refusal_of_login(
        self, connection: HTTPConnection, record: TokenRecord[ID], strategy: KnoxStrategy[UP, ID]
    ) -> HTTPException | None:
        """Return the exception if the user authenticated too long ago."""
        if self.fresh_within is not None and not strategy.is_fresh(record, self.fresh_within):
            return invalid_token(connection, description=_TOO_OLD)
        return None

    def decide(
        self,
        connection: HTTPConnection,
        found: T | None,
        refusal: HTTPException | None,
        *,
        before: TokenRecord[Any] | None,
    ) -> T | None:
        """Return what was found. If there is a refusal, raise it, or return `None` if the token is optional.

        Args:
            connection: The request or WebSocket.
            found: What was found for the token; `None` if there is no live token.
            refusal: The exception if a condition is not met.
            before: The record that had authenticated the request before this dependency was called.
        """
        if found is None:
            refusal = HTTPException(status.HTTP_401_UNAUTHORIZED, headers={_CHALLENGE: challenge_for(connection)})
        if self.optional or refusal is not None:
            note_authenticated(connection, before)  # An optional or refused token authenticates no request.
        if refusal is not None and not self.optional:
            raise refusal
        return found if refusal is None else None


def _with_user(
    fastapi_users: FastAPIUsers[UP, ID], backend: AuthenticationBackend[UP, ID], rules: _Rules
) -> _Dependency[tuple[UP, TokenRecord[ID]] | None]:
    async def get_current_token(
        connection: HTTPConnection,
        user_manager: Annotated[BaseUserManager[UP, ID], Depends(fastapi_users.get_user_manager)],
        token: Annotated[str | None, Depends(presented_by(backend))],
        strategy: Annotated[Strategy[UP, ID], Depends(backend.get_strategy)],
    ) -> tuple[UP, TokenRecord[ID]] | None:
        knox, before = checked_strategy(strategy, backend), authenticated_record(connection)
        found = await knox.authenticate(token, user_manager, touch=rules.touch)
        note_transport(connection, scheme=None, presented=bool(token))  # FastAPI-Users' own transports make no note.
        refusal = found and (
            rules.refusal_of_user(connection, found[0]) or rules.refusal_of_login(connection, found[1], knox)
        )
        return rules.decide(connection, found, refusal, before=before)

    return get_current_token


def _without_user(backend: AuthenticationBackend[UP, ID], rules: _Rules) -> _Dependency[TokenRecord[ID] | None]:
    async def get_current_record(
        connection: HTTPConnection,
        token: Annotated[str | None, Depends(presented_by(backend))],
        strategy: Annotated[Strategy[UP, ID], Depends(backend.get_strategy)],
    ) -> TokenRecord[ID] | None:
        knox, before = strategy_without_users(strategy, backend), authenticated_record(connection)
        record = await knox.authenticate_record(token, touch=rules.touch)
        note_transport(connection, scheme=None, presented=bool(token))
        refusal = None if record is None else rules.refusal_of_login(connection, record, knox)
        return rules.decide(connection, record, refusal, before=before)

    return get_current_record
