"""The listeners of the page on events work as the page describes."""

import json
import logging
import uuid
from datetime import UTC, datetime
from pathlib import Path

import pytest
from sqlalchemy import select

from fastapi_users_knox import ClientInfo, TokenLimitHit, TokenRecord, TokenRevoked, log_event
from tests.docs.folder import SRC, calling, changed_by, load, log_in, register

NOW = datetime(2030, 1, 1, 12, tzinfo=UTC)


async def test_the_audit_table_has_what_happened(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The audit table holds a login, a logout-all and a refused login, with records and reasons."""
    changed_by("audit_table.diff", folder, monkeypatch)
    async with calling(load("app").app) as client:
        user_id = uuid.UUID(await register(client))
        await client.post("/auth/logout-all", headers=await log_in(client))
    module, db = load("audit_table"), load("db")
    client_info = ClientInfo(ip_address="192.0.2.1")
    await module.write_audit_entry(TokenLimitHit(user_id=user_id, client=client_info, limit=5))

    async with db.async_session_maker() as session:
        entries = (await session.execute(select(module.AuditEntry).order_by(module.AuditEntry.at))).scalars().all()
    await db.engine.dispose()
    assert [(entry.event, entry.reason, entry.ip_address) for entry in entries] == [
        ("TokenIssued", None, "127.0.0.1"),
        ("TokenRevoked", "logout_all", "127.0.0.1"),
        ("TokenLimitHit", None, "192.0.2.1"),
    ]
    first, second, third = [entry.record_id for entry in entries]
    assert (first == second, first is None, third) == (True, False, None)


async def test_a_mail_is_sent_for_a_new_device(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A mail is sent for a login from a device that was not used before, but not for the first device."""
    changed_by("new_device.diff", folder, monkeypatch)
    async with calling(load("app").app) as client:
        user_id = await register(client)
        for agent in ("laptop", "laptop", "phone", "phone"):
            await log_in(client, **{"User-Agent": agent})
    await load("db").engine.dispose()

    assert capsys.readouterr().out == f"New login of user {user_id} from phone\n"


async def test_events_are_counted(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each event is counted under its name and reason, and the counters are served."""
    changed_by("counters.diff", folder, monkeypatch)
    async with calling(load("app").app) as client:
        await register(client)
        headers = [await log_in(client) for _ in range(2)]
        await client.post("/auth/logout-all", headers=headers[0])

        served = (await client.get("/metrics/")).text
    await load("db").engine.dispose()

    assert 'knox_events_total{event="TokenIssued",reason=""} 2.0' in served
    assert 'knox_events_total{event="TokenRevoked",reason="logout_all"} 2.0' in served


async def test_the_events_are_logged_as_shown(
    folder: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """With the change shown, a login writes a line to the log, without the token."""
    changed_by("log_event.diff", folder, monkeypatch)
    async with calling(load("app").app) as client:
        await register(client)
        headers = await log_in(client)
    await load("db").engine.dispose()

    [line] = [record for record in caplog.records if record.name == "fastapi_users_knox.events"]
    assert json.loads(line.getMessage())["event"] == "TokenIssued"
    assert headers["Authorization"].split()[-1] not in caplog.text


def test_the_line_in_the_log_is_as_shown(caplog: pytest.LogCaptureFixture) -> None:
    """The line that `log_event` writes for a logout is the line on the page."""
    shown = json.loads((SRC / "log_event.json").read_text())
    caplog.set_level(logging.INFO, "fastapi_users_knox.events")
    record = TokenRecord(
        id=uuid.UUID(shown["id"]), user_id=uuid.UUID(shown["user_id"]), audience="", created_at=NOW, expires_at=None
    )

    client = ClientInfo(ip_address=shown["ip_address"])
    log_event(TokenRevoked(user_id=record.user_id, client=client, record=record, reason="logout"))

    assert json.loads(caplog.messages[0]) == shown
