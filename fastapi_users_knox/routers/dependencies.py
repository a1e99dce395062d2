"""`current_token`, the dependency for the user and the token's record. In django-rest-knox: `request.auth`."""

from collections.abc import Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from inspect import Parameter, Signature
from typing import Annotated, Any, Generic, Literal, TypeVar, overload

from fastapi import Depends, status
from fastapi.exceptions import HTTPException
from fastapi.requests import HTTPConnection
from fastapi.security import SecurityScopes
from fastapi_users import FastAPIUsers
from fastapi_users.authentication import AuthenticationBackend, Strategy
from fastapi_users.manager import BaseUserManager
from fastapi_users.models import ID, UP

from fastapi_users_knox.errors import InsufficientScope
from fastapi_users_knox.records import TokenRecord
from fastapi_users_knox.routers.backends import (
    checked_strategy,
    presented_by,
    refuse_other_backends,
    strategy_without_users,
)
from fastapi_users_knox.strategy import KnoxStrategy
from fastapi_users_knox.transports.challenges import (
    challenge_for,
    invalid_token,
    note_transport,
    reauthentication_required,
)
from fastapi_users_knox.transports.presented import authenticated_record, note_authenticated

__all__ = ["current_token"]

T = TypeVar("T")
_Dependency = Callable[..., Coroutine[Any, Any, T]]
_Backends = AuthenticationBackend[UP, ID] | Sequence[AuthenticationBackend[UP, ID]]
_Found = tuple[Any, TokenRecord[ID]]
"""The user, or `None` if the user is not loaded, and the record."""

_CHALLENGE = "WWW-Authenticate"


@overload
def current_token(
    fastapi_users: FastAPIUsers[UP, ID],
    backend: _Backends[UP, ID],
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
    backend: _Backends[UP, ID],
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
    backend: _Backends[UP, ID],
    *,
    load_user: Literal[False],
    optional: Literal[False] = False,
    touch: bool = True,
    fresh_within: timedelta | None = None,
) -> _Dependency[TokenRecord[ID]]: ...


@overload
def current_token(
    fastapi_users: FastAPIUsers[UP, ID],
    backend: _Backends[UP, ID],
    *,
    load_user: Literal[False],
    optional: bool,
    touch: bool = True,
    fresh_within: timedelta | None = None,
) -> _Dependency[TokenRecord[ID] | None]: ...


def current_token(
    fastapi_users: FastAPIUsers[UP, ID],
    backend: _Backends[UP, ID],
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

    The dependency works for requests and WebSockets, and accepts only the tokens of these backends. The header
    `WWW-Authenticate` of a refusal contains an error code (RFC 6750 §3.1).

    `Depends(current_token(...))` accepts sessions only. `Security(current_token(...), scopes=["reports:read"])` also
    accepts an API token that has all scopes that the route and its dependencies name. If it lacks a scope, the answer
    is 403. `Depends(current_token(...))` inside a dependency that names scopes accepts API tokens too, because FastAPI
    passes these scopes on.

    Args:
        fastapi_users: The application's `FastAPIUsers` object.
        backend: A backend whose strategy is a `KnoxStrategy`, or several such backends. The first backend that accepts
            its token decides.
        load_user: `False` returns only the record, which has the user's id, without the user manager and a query for
            the user. The SQL store sees the users, so it still refuses the tokens of an inactive user. The Redis store
            does not. It refuses them only if `KnoxUserManagerMixin` has revoked them.
        optional: Whether to return `None` instead of raising an error if a condition is not met.
        active: Whether the user must be active, as in `current_user`. Even with `False`, the tokens of an inactive user
            are refused.
        verified: Whether the user must be verified. If the user is not, the response is 403.
        superuser: Whether the user must be a superuser. If the user is not, the response is 403.
        touch: Whether the call counts as a use of the token. `False` writes nothing and keeps no session alive.
        fresh_within: The longest time that may have passed since the user authenticated. If more time has passed, the
            answer is 401 `REAUTHENTICATION_REQUIRED`. Refresh and rotation do not count as a new login. An API token
            has the time of the session by which it was issued.

    Raises:
        TypeError: A backend's strategy is declared to be something other than a `KnoxStrategy`, there is no backend, or
            `active`, `verified` or `superuser` is combined with `load_user=False`.
    """
    backends = (backend,) if isinstance(backend, AuthenticationBackend) else tuple(backend)
    if not backends:
        raise TypeError("current_token needs at least one backend")
    for each in backends:
        refuse_other_backends(each)
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
    return _CurrentToken(backends, rules, fastapi_users.get_user_manager if load_user else None)


@dataclass(frozen=True, kw_only=True)
class _Rules:
    """The conditions that a user and a login must meet in addition to a live token, and whether a read may write."""

    active: bool
    verified: bool
    superuser: bool
    fresh_within: timedelta | None
    optional: bool
    touch: bool

    def refusal(
        self, connection: HTTPConnection, found: _Found[ID], strategy: KnoxStrategy[UP, ID]
    ) -> HTTPException | None:
        """Return the exception for the first unmet condition, in FastAPI-Users' order."""
        user, record = found
        if self.active and not user.is_active:
            return invalid_token(connection)
        if (self.verified and not user.is_verified) or (self.superuser and not user.is_superuser):
            challenge = challenge_for(connection, error="insufficient_scope")
            return HTTPException(status.HTTP_403_FORBIDDEN, headers={_CHALLENGE: challenge})
        if self.fresh_within is not None and not strategy.is_fresh(record, self.fresh_within):
            return reauthentication_required(connection, self.fresh_within)
        return None


class _CurrentToken(Generic[UP, ID]):
    """The dependency that `current_token` makes. FastAPI reads its parameters from `__signature__`."""

    def __init__(
        self,
        backends: Sequence[AuthenticationBackend[UP, ID]],
        rules: _Rules,
        get_user_manager: Callable[..., Any] | None,
    ) -> None:
        """Declare a parameter for each value that FastAPI has to pass."""
        self._backends, self._rules, self._loads_user = backends, rules, get_user_manager is not None
        given: dict[str, Any] = {"connection": HTTPConnection, "security_scopes": SecurityScopes}
        if get_user_manager is not None:
            given["user_manager"] = Annotated[BaseUserManager[Any, Any], Depends(get_user_manager)]
        for number, backend in enumerate(backends):
            given[f"token_{number}"] = Annotated[str | None, Depends(presented_by(backend))]
            given[f"strategy_{number}"] = Annotated[Strategy[Any, Any], Depends(backend.get_strategy)]
        parameters = [Parameter(name, Parameter.KEYWORD_ONLY, annotation=kind) for name, kind in given.items()]
        self.__signature__ = Signature(parameters)

    async def __call__(self, *, connection: HTTPConnection, security_scopes: SecurityScopes, **given: Any) -> Any:  # noqa: ANN401 (as declared by the overloads)
        """Return the result of the first backend that accepts its token, or raise the exception of a refusal."""
        before = authenticated_record(connection)
        found = await self._find(connection, security_scopes.scopes, given)
        if self._rules.optional or isinstance(found, HTTPException):
            note_authenticated(connection, before)  # An optional or refused token does not authenticate a request.
        if not isinstance(found, HTTPException):
            return found if self._loads_user else found[1]
        if not self._rules.optional:
            raise found
        return None

    async def _find(
        self, connection: HTTPConnection, scopes: Sequence[str], given: Mapping[str, Any]
    ) -> _Found[ID] | HTTPException:
        """Return the user and the record, or an exception if there is no live token or a condition is not met."""
        insufficient: InsufficientScope | None = None
        for number, backend in enumerate(self._backends):
            token, strategy = given[f"token_{number}"], given[f"strategy_{number}"]
            note_transport(connection, scheme=None, presented=bool(token))  # FastAPI-Users' transports do not.
            try:
                found = await self._authenticate(backend, strategy, token, given.get("user_manager"), scopes)
            except InsufficientScope as error:
                insufficient = error
                continue
            if found is not None:
                return self._rules.refusal(connection, found, strategy) or found
        challenge = {_CHALLENGE: challenge_for(connection)}
        return insufficient or HTTPException(status.HTTP_401_UNAUTHORIZED, headers=challenge)

    async def _authenticate(
        self,
        backend: AuthenticationBackend[UP, ID],
        strategy: Strategy[UP, ID],
        token: str | None,
        user_manager: BaseUserManager[UP, ID] | None,
        scopes: Sequence[str],
    ) -> _Found[ID] | None:
        touch = self._rules.touch
        if user_manager is not None:
            knox = checked_strategy(strategy, backend)
            return await knox.authenticate(token, user_manager, touch=touch, scopes=scopes)
        record = await strategy_without_users(strategy, backend).authenticate_record(token, touch=touch, scopes=scopes)
        return None if record is None else (None, record)
