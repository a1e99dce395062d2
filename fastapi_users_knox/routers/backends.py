"""The strategy of a backend: the dependency that makes the strategy, and the check that it is a `KnoxStrategy`."""

from collections.abc import Callable, Coroutine, Iterable
from contextlib import suppress
from datetime import datetime
from functools import partial
from types import EllipsisType
from typing import Annotated, Any, cast, get_origin, get_type_hints

from fastapi import Depends
from fastapi.requests import HTTPConnection
from fastapi_users.authentication import AuthenticationBackend, Strategy
from fastapi_users.db import BaseUserDatabase
from fastapi_users.models import ID, UP
from fastapi_users.types import DependencyCallable

from fastapi_users_knox.events import ClientInfo, Listener, describe_client
from fastapi_users_knox.settings import GetLoginOptions, KnoxSettings, utc_now
from fastapi_users_knox.store import TokenStore
from fastapi_users_knox.strategy import KnoxStrategy
from fastapi_users_knox.verbs.context import check_login_options

__all__ = [
    "checked_strategy",
    "knox_strategy",
    "presented_by",
    "refuse_other_backends",
    "strategy_of",
    "strategy_without_users",
]

GetStrategy = Callable[..., Coroutine[Any, Any, KnoxStrategy[UP, ID]]]


def knox_strategy(
    get_token_store: DependencyCallable[TokenStore[UP, ID]],
    settings: KnoxSettings = KnoxSettings(),
    *,
    get_user_db: DependencyCallable[BaseUserDatabase[UP, ID]] | EllipsisType | None = ...,
    listeners: Iterable[Listener] = (),
    describe_client: Callable[[HTTPConnection], ClientInfo] = describe_client,
    login_options: GetLoginOptions | None = None,
    clock: Callable[[], datetime] = utc_now,
) -> GetStrategy[UP, ID]:
    """Make a dependency for `AuthenticationBackend(get_strategy=...)`; it always passes the request to the strategy.

    Use the same dependency for all backends that share these settings, and for the user manager:
    `UserManager(user_db, knox=strategy)`. If you need more control, write the dependency yourself; see `KnoxStrategy`.

    Args:
        get_token_store: The dependency that returns or yields the token store.
        settings: The settings of the tokens.
        get_user_db: The dependency that returns or yields the user database adapter of FastAPI-Users. This dependency
            is required if the store cannot see the users, as with `RedisTokenStore`. `None` turns off the checks that
            need the adapter.
        listeners: Functions called with every event, after the write.
        describe_client: A function that returns the client information to store at login.
        login_options: A function, `async` or not, that is called with the user and the request (`None` in scripts)
            before a token is issued, and returns the `LoginOptions` for this token.
        clock: A function that returns the current time, timezone-aware.

    Raises:
        TypeError: A dependency or the settings have the wrong type, for example a `Depends` object.
    """
    _check_dependency("get_token_store", get_token_store)
    if not isinstance(settings, KnoxSettings):
        raise TypeError(f"settings must be KnoxSettings, not {type(settings).__name__}")
    check_login_options(login_options)
    make: Callable[..., KnoxStrategy[UP, ID]] = partial(
        KnoxStrategy,
        settings=settings,
        listeners=tuple(listeners),
        describe_client=describe_client,
        login_options=login_options,
        clock=clock,
    )
    if get_user_db is not None and not isinstance(get_user_db, EllipsisType):
        return _strategy_with_users(make, get_token_store, get_user_db)

    async def get_strategy(
        request: HTTPConnection, store: Annotated[TokenStore[UP, ID], Depends(get_token_store)]
    ) -> KnoxStrategy[UP, ID]:
        return make(store, request=request, user_db=get_user_db)

    return get_strategy


def _strategy_with_users(
    make: Callable[..., KnoxStrategy[UP, ID]],
    get_token_store: DependencyCallable[TokenStore[UP, ID]],
    get_user_db: DependencyCallable[BaseUserDatabase[UP, ID]],
) -> GetStrategy[UP, ID]:
    _check_dependency("get_user_db", get_user_db)

    async def get_strategy(
        request: HTTPConnection,
        store: Annotated[TokenStore[UP, ID], Depends(get_token_store)],
        user_db: Annotated[BaseUserDatabase[UP, ID], Depends(get_user_db)],
    ) -> KnoxStrategy[UP, ID]:
        return make(store, request=request, user_db=user_db)

    return get_strategy


def _check_dependency(argument: str, dependency: object) -> None:
    if not callable(dependency):
        raise TypeError(f"{argument} must be a dependency, which is a function for Depends(), not {dependency!r}")


def refuse_other_backends(backend: AuthenticationBackend[Any, Any]) -> None:
    """Raise `TypeError` if the backend's `get_strategy` is declared to return something other than a `KnoxStrategy`."""
    declared = None
    with suppress(Exception):  # A callable may have no type hints, or type hints that cannot be evaluated.
        declared = get_type_hints(backend.get_strategy).get("return")
    origin = get_origin(declared) or declared
    bases = origin.__mro__[1:] if isinstance(origin, type) else ()
    if Strategy in bases and KnoxStrategy not in (origin, *bases):
        raise _not_knox(cast("type", origin), backend)


def strategy_of(backend: AuthenticationBackend[UP, ID]) -> GetStrategy[UP, ID]:
    """Make a dependency that returns a backend's strategy, or raises `TypeError` if it is not a `KnoxStrategy`."""

    async def get_strategy(
        strategy: Annotated[Strategy[UP, ID], Depends(backend.get_strategy)],
    ) -> KnoxStrategy[UP, ID]:
        return checked_strategy(strategy, backend)

    return get_strategy


def checked_strategy(strategy: Strategy[UP, ID], backend: AuthenticationBackend[Any, Any]) -> KnoxStrategy[UP, ID]:
    """Return a backend's strategy, or raise `TypeError` if it is not a `KnoxStrategy`."""
    if not isinstance(strategy, KnoxStrategy):
        raise _not_knox(type(strategy), backend)
    return strategy


def strategy_without_users(
    strategy: Strategy[UP, ID], backend: AuthenticationBackend[Any, Any]
) -> KnoxStrategy[UP, ID]:
    """Return a backend's strategy for authentication without the user.

    Raises:
        TypeError: It is not a `KnoxStrategy`, or its class decides itself who is authenticated, but only with the user.
    """
    knox, plain = checked_strategy(strategy, backend), KnoxStrategy
    own = type(knox)
    if own.authenticate is not plain.authenticate and own.authenticate_record is plain.authenticate_record:
        raise TypeError(f"{own.__name__} overrides authenticate: for load_user=False override authenticate_record too")
    return knox


def presented_by(backend: AuthenticationBackend[Any, Any]) -> Callable[..., Any]:
    """Return the dependency that returns the presented text; FastAPI calls it only once for each request."""
    return cast("Callable[..., Any]", backend.transport.scheme)


def _not_knox(strategy: type, backend: AuthenticationBackend[Any, Any]) -> TypeError:
    return TypeError(
        f"backend {backend.name!r} must have a KnoxStrategy, but its get_strategy returns a {strategy.__name__}: "
        "pass the backend whose get_strategy returns a KnoxStrategy"
    )
