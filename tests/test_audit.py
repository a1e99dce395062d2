"""The ready listener `log_event` writes one line for each event, without secrets."""

import json
import logging
import uuid
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import pytest

from fastapi_users_knox import (
    ClientInfo,
    KnoxEvent,
    LoginFailed,
    LoginThrottled,
    TokenExpired,
    TokenIssued,
    TokenLimitHit,
    TokenReauthenticated,
    TokenRecord,
    TokenRefreshed,
    TokenRevoked,
    TokenRotated,
    log_event,
)
from tests.strategies import request

NOW = datetime(2030, 1, 1, tzinfo=UTC)
USER_ID = uuid.UUID(int=7)
RECORD = TokenRecord(
    id=uuid.UUID(int=8), user_id=USER_ID, audience="web", created_at=NOW, expires_at=None, user_agent="agent\nforged"
)
CLIENT = ClientInfo(ip_address="192.0.2.1", user_agent="agent\nforged")
SENT = request(("Authorization", "Bearer knox_secret"))
ALL: dict[str, object] = {"user_id": str(USER_ID), "ip_address": "192.0.2.1"}
OF_A_RECORD: dict[str, object] = {**ALL, "id": str(RECORD.id), "audience": "web"}

KINDS: tuple[Callable[..., KnoxEvent[Any]], ...] = (
    *(TokenIssued, TokenRefreshed, TokenRotated, TokenReauthenticated, TokenExpired),
)
OF_RECORDS = [kind(user_id=USER_ID, client=CLIENT, record=RECORD, request=SENT) for kind in KINDS]
EVENTS: list[tuple[KnoxEvent[Any], dict[str, object]]] = [
    *[(event, {"event": type(event).__name__, **OF_A_RECORD}) for event in OF_RECORDS],
    (
        TokenRevoked(user_id=USER_ID, client=CLIENT, record=RECORD, request=SENT, reason="logout"),
        {"event": "TokenRevoked", "reason": "logout", **OF_A_RECORD},
    ),
    (
        TokenLimitHit(user_id=USER_ID, client=CLIENT, limit=5, request=SENT),
        {"event": "TokenLimitHit", "limit": 5, **ALL},
    ),
    (
        LoginFailed(user_id=None, client=CLIENT, request=SENT, action="login"),
        {"event": "LoginFailed", "action": "login", "ip_address": "192.0.2.1"},
    ),
    (
        LoginThrottled(
            user_id=USER_ID, client=CLIENT, request=SENT, action="login", counter="account", limit="5", retry_after=9
        ),
        {"event": "LoginThrottled", "action": "login", "counter": "account", "limit": "5", "retry_after": 9, **ALL},
    ),
]


@pytest.mark.parametrize(("event", "fields"), EVENTS, ids=lambda value: type(value).__name__)
def test_an_event_is_one_line(
    event: KnoxEvent[Any], fields: dict[str, object], caplog: pytest.LogCaptureFixture
) -> None:
    """An event is logged as one line of JSON, with the same fields in the log record and no text of the client."""
    caplog.set_level(logging.INFO, "fastapi_users_knox.events")

    log_event(event)

    [line] = caplog.records
    assert json.loads(line.getMessage()) == fields
    assert vars(line)["knox"] == fields
    assert "\n" not in line.getMessage()
    assert "secret" not in caplog.text
    assert "forged" not in caplog.text


def test_an_event_outside_of_requests_has_no_address(caplog: pytest.LogCaptureFixture) -> None:
    """An event without a client's address is logged without the field."""
    caplog.set_level(logging.INFO, "fastapi_users_knox.events")

    log_event(TokenIssued(user_id=USER_ID, client=ClientInfo(), record=RECORD))

    assert "ip_address" not in json.loads(caplog.records[0].getMessage())
