"""A route whose answer to an invalid request does not repeat what the client sent."""

from collections.abc import Callable, Coroutine
from typing import Any

from fastapi import Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.routing import APIRoute

__all__ = ["ReticentRoute"]


class ReticentRoute(APIRoute):
    """A route whose 422 says what is wrong, but does not repeat what the client sent.

    A body may contain a secret that was pasted into the wrong field. And FastAPI cannot repeat every value that it can
    parse: `NaN` and half of a surrogate pair would cause a 500.
    """

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """Return the handler of the route, which leaves the input out of the errors."""
        handle = super().get_route_handler()

        async def handle_reticently(request: Request) -> Response:
            try:
                return await handle(request)
            except RequestValidationError as error:
                raise RequestValidationError([_without_input(each) for each in error.errors()]) from None

        return handle_reticently


def _without_input(error: dict[str, Any]) -> dict[str, Any]:
    place = [part if isinstance(part, int) else part.encode("ascii", "replace").decode() for part in error["loc"]]
    return {"type": error["type"], "loc": place, "msg": error["msg"]}
