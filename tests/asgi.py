"""Connections as a server passes them to an application, with any bytes, even bytes that no client would send."""

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

RawHeaders = Sequence[tuple[bytes, bytes]]


@dataclass(frozen=True, kw_only=True)
class Answer:
    """The response of an application."""

    status: int
    headers: dict[bytes, bytes]
    body: bytes


def _scope(kind: str, path: str, headers: RawHeaders, **more: object) -> dict[str, Any]:
    """Return the ASGI scope of a connection."""
    return {
        "type": kind,
        "asgi": {"version": "3.0", "spec_version": "2.4"},
        "http_version": "1.1",
        "path": path,
        "raw_path": path.encode(),
        "root_path": "",
        "query_string": b"",
        "headers": [(b"host", b"test"), *headers],
        "client": ("192.0.2.1", 1234),
        "server": ("test", 80),
    } | more


async def send(
    app: Any,
    path: str,
    headers: RawHeaders = (),
    *,
    method: str = "GET",
    body: bytes = b"",
    address: str | None = "192.0.2.1",
) -> Answer:
    """Send a request with these exact headers, and return the response; without an address as over a Unix socket."""
    sent: list[dict[str, Any]] = []

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": body, "more_body": False}

    async def take(message: Any) -> None:
        sent.append(message)

    client = None if address is None else (address, 1234)
    await app(_scope("http", path, headers, method=method, scheme="http", client=client), receive, take)

    start, *rest = sent
    content = b"".join(message.get("body", b"") for message in rest)
    return Answer(status=start["status"], headers=dict(start["headers"]), body=content)


async def talk(app: Any, path: str, headers: RawHeaders = ()) -> list[dict[str, Any]]:
    """Open a WebSocket, and return every message that the application sent until it closed the connection."""
    sent: list[dict[str, Any]] = []

    async def receive() -> dict[str, Any]:
        return {"type": "websocket.connect"}

    async def take(message: Any) -> None:
        sent.append(message)

    await app(_scope("websocket", path, headers, scheme="ws", subprotocols=[]), receive, take)
    return sent


class Socket:
    """The client's end of a WebSocket."""

    def __init__(self, app: Any, path: str, headers: Mapping[str, str], scheme: str) -> None:
        """Send the handshake to the application."""
        self._incoming: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
        self._outgoing: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
        raw = [(name.lower().encode(), value.encode()) for name, value in headers.items()]
        scope = _scope("websocket", path, raw, scheme=scheme, subprotocols=[])
        self.served = asyncio.ensure_future(app(scope, self._incoming.get, self._take))
        self._incoming.put_nowait({"type": "websocket.connect"})

    async def _take(self, message: Any) -> None:
        """Receive a message of the application, and acknowledge a close as a server does."""
        if message["type"] == "websocket.close":
            self._incoming.put_nowait({"type": "websocket.disconnect", "code": message["code"]})
        await self._outgoing.put(message)

    async def receive(self) -> dict[str, Any]:
        """Wait for the application's next message."""
        return await asyncio.wait_for(self._outgoing.get(), timeout=60)

    def send(self, text: str) -> None:
        """Send the application a message."""
        self._incoming.put_nowait({"type": "websocket.receive", "text": text})

    def close(self) -> None:
        """Close the connection."""
        self._incoming.put_nowait({"type": "websocket.disconnect", "code": 1001})


@asynccontextmanager
async def socket_to(app: Any, path: str, headers: Mapping[str, str], *, scheme: str = "wss") -> AsyncIterator[Socket]:
    """Open a WebSocket, and close it at the end."""
    socket = Socket(app, path, headers, scheme)
    yield socket
    socket.close()
    await asyncio.wait_for(socket.served, timeout=60)


def set_cookies(headers: Sequence[tuple[bytes, bytes]]) -> list[str]:
    """Return the `Set-Cookie` headers of a message."""
    return [value.decode() for name, value in headers if name == b"set-cookie"]
