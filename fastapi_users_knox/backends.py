"""A backend's strategy, which must be a `KnoxStrategy` where our routes and dependencies are to use it."""

from collections.abc import Callable, Coroutine
from contextlib import suppress
from typing import Annotated, Any, cast, get_origin, get_type_hints

from fastapi import Depends
from fastapi_users.authentication import AuthenticationBackend, Strategy
from fastapi_users.models import ID, UP

from fastapi_users_knox.strategy import KnoxStrategy

__all__ = ["checked_strategy", "refuse_other_backends", "strategy_of"]


def refuse_other_backends(backend: AuthenticationBackend[Any, Any]) -> None:
    """Raise TypeError if the backend's `get_strategy` is declared to return a strategy that is no `KnoxStrategy`."""
    declared = None
    with suppress(Exception):  # Not every callable has type hints, nor can all be evaluated.
        declared = get_type_hints(backend.get_strategy).get("return")
    origin = get_origin(declared) or declared
    bases = origin.__mro__[1:] if isinstance(origin, type) else ()
    if Strategy in bases and KnoxStrategy not in (origin, *bases):
        raise _not_knox(cast("type", origin), backend)


def strategy_of(
    backend: AuthenticationBackend[UP, ID],
) -> Callable[..., Coroutine[Any, Any, KnoxStrategy[UP, ID]]]:
    """Make the dependency that gives a backend's strategy, and raises TypeError if that is no `KnoxStrategy`."""

    async def get_strategy(
        strategy: Annotated[Strategy[UP, ID], Depends(backend.get_strategy)],
    ) -> KnoxStrategy[UP, ID]:
        return checked_strategy(strategy, backend)

    return get_strategy


def checked_strategy(strategy: Strategy[UP, ID], backend: AuthenticationBackend[Any, Any]) -> KnoxStrategy[UP, ID]:
    """Return a backend's strategy; raise TypeError if it is no `KnoxStrategy`."""
    if not isinstance(strategy, KnoxStrategy):
        raise _not_knox(type(strategy), backend)
    return strategy


def _not_knox(strategy: type, backend: AuthenticationBackend[Any, Any]) -> TypeError:
    return TypeError(
        f"backend {backend.name!r} must have a KnoxStrategy, and its get_strategy returns a {strategy.__name__}: "
        "pass the backend whose get_strategy returns a KnoxStrategy"
    )
