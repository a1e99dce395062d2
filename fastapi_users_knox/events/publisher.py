"""Publishing: each event is passed to the listeners of the application."""

import inspect
import logging
from collections.abc import Awaitable, Callable, Iterable
from functools import partial
from typing import Any

from fastapi.requests import HTTPConnection

from fastapi_users_knox.events.clients import ClientInfo
from fastapi_users_knox.events.events import KnoxEvent
from fastapi_users_knox.records import ID

__all__ = ["Listener", "Publisher"]

_logger = logging.getLogger("fastapi_users_knox")

Listener = Callable[[Any], Awaitable[None] | None]
"""A function, `async` or not, that is called with every event. A listener can choose events by `isinstance`."""


class Publisher:
    """Publish events to the listeners.

    Args:
        listeners: The listeners, called in this order. An error that a listener raises is logged, and has no other
            effect.
        request: The request or WebSocket, if there is one.
        describe_client: A function that returns what an event says about the client.
    """

    def __init__(
        self,
        listeners: Iterable[Listener],
        request: HTTPConnection | None,
        describe_client: Callable[[HTTPConnection], ClientInfo],
    ) -> None:
        self._listeners, self._request = tuple(listeners), request
        self._describe_client = ClientInfo if request is None else partial(describe_client, request)
        self._client: ClientInfo | None = None

    def client(self) -> ClientInfo:
        """Return the description of the client, which is made only once, and is empty outside of a request."""
        if self._client is None:
            try:
                self._client = self._describe_client()
            except Exception:
                _logger.exception("describe_client raised an error, so the client is not described")
                self._client = ClientInfo()
        return self._client

    async def publish(self, event: Callable[..., KnoxEvent[ID]], user_id: ID, **details: object) -> None:
        """Publish an event. If there are no listeners, this costs nothing."""
        if not self._listeners:
            return
        published = event(user_id=user_id, client=self.client(), request=self._request, **details)
        for listener in self._listeners:
            await _call(listener, published)


async def _call(listener: Listener, event: KnoxEvent[ID]) -> None:
    try:
        outcome = listener(event)
        if inspect.isawaitable(outcome):
            await outcome
    except Exception:
        _logger.exception("A listener raised an error when it was called with a %s", type(event).__name__)
