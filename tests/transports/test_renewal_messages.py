"""`KnoxCookieMiddleware` handles every message of the ASGI specification."""

import uuid
from typing import Any

import pytest
from fastapi.requests import HTTPConnection

from fastapi_users_knox import (
    KnoxCookieMiddleware,
    KnoxCookieTransport,
    TokenRecord,
)
from fastapi_users_knox.transports.renewal import note_refreshed
from tests.strategies import HOUR, NOW

RECORD = TokenRecord(id=uuid.UUID(int=1), user_id=1, audience="", created_at=NOW, expires_at=NOW + HOUR)


@pytest.mark.parametrize(
    ("sent", "received"),
    [
        ({"type": "http.response.start"}, [b"cache-control", b"set-cookie"]),
        ({"type": "http.response.start", "headers": []}, [b"cache-control", b"set-cookie"]),
        ({"type": "http.response.start", "headers": iter([[b"X", b"1"]])}, [b"x", b"cache-control", b"set-cookie"]),
        ({"type": "http.response.start", "headers": ((b"Cache-Control", b"x"),)}, [b"cache-control", b"set-cookie"]),
        ({"type": "http.response.start", "headers": [(b"Set-Cookie", b"__Host-knox=x")]}, [b"Set-Cookie"]),
        ({"type": "http.response.start", "headers": [(b"set-cookie", b" __Host-knox = x")]}, [b"set-cookie"]),
        ({"type": "http.response.body", "body": b""}, []),
        ({"type": "websocket.http.response.start"}, [b"cache-control", b"set-cookie"]),
        ({"type": "websocket.close"}, []),
    ],
)
async def test_answers_in_any_form_are_understood(sent: dict[str, Any], received: list[bytes]) -> None:
    """Response headers may be missing, any iterable, and in any case of letters, as ASGI allows."""
    answers: list[Any] = []

    async def app(scope: Any, _receive: object, send: Any) -> None:
        connection = HTTPConnection(scope)
        scheme: Any = KnoxCookieTransport().scheme
        assert await scheme(connection) == "knox_secret"
        note_refreshed(connection, "knox_secret", record=RECORD)
        await send(sent)

    async def channel(*messages: Any) -> Any:
        answers.extend(messages)

    scope = {"type": "http", "method": "GET", "headers": [(b"cookie", b"__Host-knox=knox_secret")]}
    await KnoxCookieMiddleware(app)(scope, channel, channel)

    assert [name for name, _ in answers[0].get("headers", ())] == received


async def test_what_is_no_connection_passes() -> None:
    """Messages that belong to no connection, such as lifespan, reach the application unchanged."""
    seen: list[Any] = []

    async def app(*arguments: Any) -> None:
        seen.extend(arguments)

    async def channel(*_: Any) -> Any:
        """Do nothing."""

    scope = {"type": "lifespan"}
    await KnoxCookieMiddleware(app)(scope, channel, channel)

    assert seen == [scope, channel, channel]
    assert scope == {"type": "lifespan"}
