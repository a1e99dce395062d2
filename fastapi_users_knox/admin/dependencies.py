"""The application's dependencies in the pages of sqladmin, which are not routes of FastAPI."""

from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from inspect import Parameter, Signature
from typing import Annotated, Any, Generic, TypeVar

from fastapi import Depends, FastAPI, Request, Response
from fastapi.routing import APIRoute
from fastapi_users import FastAPIUsers
from fastapi_users.authentication import AuthenticationBackend
from fastapi_users.manager import BaseUserManager
from fastapi_users.models import ID, UP
from starlette.types import Message

from fastapi_users_knox.routers.backends import refuse_other_backends, strategy_of
from fastapi_users_knox.strategy import KnoxStrategy

__all__ = ["Dependencies", "Opened"]

T = TypeVar("T")

_SCOPE_KEY = "fastapi_users_knox.admin"


@dataclass(frozen=True, kw_only=True)
class Opened(Generic[UP, ID]):
    """The application's objects for one request, which are closed when the work with them is done.

    Attributes:
        user_manager: The user manager.
        strategies: The strategies of the backends, in the order of the backends.
    """

    user_manager: BaseUserManager[UP, ID]
    strategies: Sequence[KnoxStrategy[UP, ID]]

    @property
    def by_audience(self) -> Mapping[str, KnoxStrategy[UP, ID]]:
        """The first strategy of each audience, in the order of the backends."""
        found: dict[str, KnoxStrategy[UP, ID]] = {}
        for strategy in self.strategies:
            found.setdefault(strategy.settings.audience, strategy)
        return found


class Dependencies(Generic[UP, ID]):
    """Resolve the dependencies that return the user manager and the strategies, as FastAPI does for a route.

    Args:
        app: The application. Its `dependency_overrides` apply, and dependencies find it as `request.app`.
        fastapi_users: The application's `FastAPIUsers` object.
        backends: The backends, each with a `KnoxStrategy`.

    Raises:
        TypeError: A backend's strategy is declared to be something other than a `KnoxStrategy`.
    """

    def __init__(
        self, app: FastAPI, fastapi_users: FastAPIUsers[UP, ID], backends: Iterable[AuthenticationBackend[UP, ID]]
    ) -> None:
        """Let FastAPI analyze the dependencies once."""
        given: dict[str, Any] = {
            "user_manager": Annotated[BaseUserManager[Any, Any], Depends(fastapi_users.get_user_manager)]
        }
        for number, backend in enumerate(backends):
            refuse_other_backends(backend)
            given[f"strategy_{number}"] = Annotated[KnoxStrategy[Any, Any], Depends(strategy_of(backend))]

        async def endpoint(request: Request, opened: Annotated[Opened[Any, Any], Depends(_Opening(given))]) -> Response:
            await request.scope[_SCOPE_KEY](opened)
            return Response()

        self._app = app
        self._route = APIRoute("/", endpoint, name="knox admin", dependency_overrides_provider=app)

    async def run(self, request: Request, work: Callable[[Opened[UP, ID]], Awaitable[T]]) -> T:
        """Resolve the dependencies for a request, do some work with them, close them, and return the result."""
        results: list[T] = []

        async def keep_result(opened: Opened[UP, ID]) -> None:
            results.append(await work(opened))

        scope = {**request.scope, "app": self._app, _SCOPE_KEY: keep_result}
        scope.pop("starlette.exception_handlers", None)  # An exception is raised here, for sqladmin to handle.
        await self._route.app(scope, request.receive, _discard)
        return results[0]


class _Opening:
    """The dependency that collects the application's objects. FastAPI reads its parameters from `__signature__`."""

    def __init__(self, given: Mapping[str, Any]) -> None:
        parameters = [Parameter(name, Parameter.KEYWORD_ONLY, annotation=kind) for name, kind in given.items()]
        self.__signature__ = Signature(parameters)

    async def __call__(self, *, user_manager: BaseUserManager[UP, ID], **given: KnoxStrategy[UP, ID]) -> Opened[UP, ID]:
        """Collect the objects."""
        strategies = [given[f"strategy_{number}"] for number in range(len(given))]
        return Opened(user_manager=user_manager, strategies=strategies)


async def _discard(message: Message) -> None:
    """Send no response, because sqladmin sends its own."""
