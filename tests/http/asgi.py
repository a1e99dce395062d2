"""Requests as a server hands them to an application: any bytes, also those that clients refuse to send."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from fastapi import FastAPI

RawHeaders = Sequence[tuple[bytes, bytes]]


@dataclass(frozen=True, kw_only=True)
class Answer:
    """What an application sent back."""

    status: int
    headers: dict[bytes, bytes]
    body: bytes


def _scope(kind: str, path: str, headers: RawHeaders, **more: object) -> dict[str, Any]:
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


async def send(app: FastAPI, path: str, headers: RawHeaders = (), *, method: str = "GET", body: bytes = b"") -> Answer:
    """Send a request with these very headers."""
    sent: list[dict[str, Any]] = []

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": body, "more_body": False}

    async def take(message: Any) -> None:
        sent.append(message)

    await app(_scope("http", path, headers, method=method, scheme="http"), receive, take)

    start, *rest = sent
    content = b"".join(message.get("body", b"") for message in rest)
    return Answer(status=start["status"], headers=dict(start["headers"]), body=content)


async def talk(app: FastAPI, path: str, headers: RawHeaders = ()) -> list[dict[str, Any]]:
    """Open a WebSocket, and return what the application sent till it closed it."""
    sent: list[dict[str, Any]] = []

    async def receive() -> dict[str, Any]:
        return {"type": "websocket.connect"}

    async def take(message: Any) -> None:
        sent.append(message)

    await app(_scope("websocket", path, headers, scheme="ws", subprotocols=[]), receive, take)
    return sent
