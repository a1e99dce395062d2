"""The middleware that keeps the admin pages out of caches and out of the frames of other pages."""

from starlette.datastructures import MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

__all__ = ["PrivatePages"]

_HEADERS = {"Cache-Control": "private, no-store", "X-Frame-Options": "DENY"}


class PrivatePages:
    """Forbid caches to store the pages (ASVS 14.3.2), and other pages to show them in a frame.

    Otherwise, the browser's Back button would show the pages even after the logout, and a page of the same site could
    lay the buttons under its own. Scripts and style sheets contain nothing private, so they may be cached.
    """

    def __init__(self, app: ASGIApp) -> None:
        """Wrap an ASGI application."""
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve a connection, and add the headers to the start of the answer."""

        async def send_private(message: Message) -> None:
            if message["type"] == "http.response.start" and "/statics/" not in scope["path"]:
                MutableHeaders(scope=message).update(_HEADERS)
            await send(message)

        await self._app(scope, receive, send_private)
