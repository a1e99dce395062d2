"""A real browser, and applications behind a server that it can reach."""

import asyncio
import shutil
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from playwright.async_api import Browser, async_playwright
from uvicorn import Config, Server

from tests.servers import ServerUnavailable, skip_if_unavailable

CHROMIUM_ARGUMENTS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
]


@dataclass(kw_only=True)
class Online:
    """An application behind a server, with a list of the requests that it answered."""

    app: Any
    port: int = 0
    answers: list[tuple[str, bool, int]] = field(default_factory=list)

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Serve a connection, and remember its type, whether it had a cookie, and the status."""
        has_cookie = any(name == b"cookie" for name, _ in scope["headers"])

        async def note(message: Any) -> None:
            if message["type"] in {"http.response.start", "websocket.http.response.start"}:
                self.answers.append((scope["type"], has_cookie, message["status"]))
            await send(message)

        await self.app(scope, receive, note)


@asynccontextmanager
async def serving(app: Any) -> AsyncIterator[Online]:
    """Serve an application on a free local port."""
    served = Online(app=app)
    with socket.create_server(("127.0.0.1", 0)) as listening:
        served.port = listening.getsockname()[1]
        server = Server(Config(served, ws="wsproto", lifespan="off", log_config=None))
        running = asyncio.create_task(server.serve(sockets=[listening]))
        yield served
        server.should_exit = True
        await running


@asynccontextmanager
async def open_chromium() -> AsyncIterator[Browser]:
    """Start the Chromium that is installed on this machine."""
    with skip_if_unavailable():
        if (chromium := shutil.which("chromium")) is None:
            raise ServerUnavailable("no chromium on the PATH")
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=chromium, args=CHROMIUM_ARGUMENTS)
        yield browser
        await browser.close()
