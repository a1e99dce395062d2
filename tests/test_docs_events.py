"""What the pages on events and accounts show is what runs."""

import json
import logging
import uuid
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from fastapi import FastAPI
from fastapi_users_db_sqlalchemy import SQLAlchemyUserDatabase
from prometheus_client import REGISTRY
from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession, async_sessionmaker

from example_app import db, users
from example_app.app import app as example_app
from example_app.schemas import UserRead, UserUpdate
from fastapi_users_knox import ClientInfo, KnoxStrategy, TokenLimitHit, TokenRecord, TokenRevoked, log_event
from fastapi_users_knox.sqlalchemy import SQLAlchemyTokenStore
from tests.test_docs import NOW, SRC, load
from tests.test_example_app import calling, example_database, knock, log_in, register

pytestmark = pytest.mark.anyio


@pytest.fixture
async def engine(tmp_path: Path) -> AsyncIterator[AsyncEngine]:
    """Open a database with the example's tables and one user."""
    async with example_database(tmp_path) as engine:
        async with calling(example_app, engine) as client:
            await register(client)
        yield engine


@pytest.fixture
async def session(engine: AsyncEngine) -> AsyncIterator[AsyncSession]:
    """Open a session."""
    async with AsyncSession(engine, expire_on_commit=False) as session:
        yield session


@pytest.fixture
async def jane(session: AsyncSession) -> db.User:
    """Load the user."""
    return (await session.execute(select(db.User))).scalar_one()


async def test_a_change_of_password_ends_the_other_sessions(engine: AsyncEngine) -> None:
    """Who changes the password stays in; the other device is out, and so it is after a second factor is set up."""
    module, app = load("accounts"), FastAPI()
    app.include_router(module.fastapi_users.get_auth_router(module.auth_backend), prefix="/auth")
    app.include_router(module.fastapi_users.get_users_router(UserRead, UserUpdate), prefix="/users")
    app.include_router(module.router)
    async with calling(app, engine) as client:
        laptop, phone = await log_in(client), await log_in(client)
        changed = await client.patch("/users/me", headers=laptop, json={"password": "a new one, and a better"})
        after_change = [(await client.get("/users/me", headers=each)).status_code for each in (laptop, phone)]
        tablet = await log_in(client, "a new one, and a better")
        set_up = await client.post("/second-factor", headers=tablet)
        after_factor = [(await client.get("/users/me", headers=each)).status_code for each in (laptop, tablet)]

    assert changed.status_code == 200
    assert after_change == [200, 401]
    assert set_up.json() == {"ended": 1}
    assert after_factor == [401, 200]


async def test_a_soft_deletion_ends_the_sessions(session: AsyncSession, jane: db.User) -> None:
    """The user stays in the database, and the token is refused."""
    strategy = KnoxStrategy(SQLAlchemyTokenStore[db.User, uuid.UUID](session, db.KnoxToken), request=None)
    token = await strategy.issue(jane)
    manager = load("soft_deletion").UserManager(SQLAlchemyUserDatabase(session, db.User), knox=strategy)

    await manager.delete(jane)

    assert await strategy.read_token(token, manager) is None
    assert jane.email == f"{jane.id}@deleted.invalid"


async def test_a_user_manager_may_take_more(session: AsyncSession, jane: db.User) -> None:
    """The mail about a reset is sent by what `__init__` takes."""
    mails: list[str] = []

    class Mailer:
        async def send(self, to: str, text: str) -> None:
            mails.append(f"{to}: {text}")

    strategy = KnoxStrategy(SQLAlchemyTokenStore[db.User, uuid.UUID](session, db.KnoxToken), request=None)
    users: SQLAlchemyUserDatabase[db.User, uuid.UUID] = SQLAlchemyUserDatabase(session, db.User)
    manager = load("own_init").UserManager(users, Mailer(), knox=strategy)

    await manager.on_after_reset_password(jane)

    assert mails == [f"{jane.email}: Your password was reset, and all your devices were logged out."]


async def test_the_audit_table_has_what_happened(
    engine: AsyncEngine, session: AsyncSession, jane: db.User, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A login and a logout-all are in the table, in a session of their own."""
    module = load("audit_table")
    monkeypatch.setattr(module, "async_session_maker", async_sessionmaker(engine))
    async with engine.begin() as connection:
        await connection.run_sync(db.Base.metadata.create_all)
    store = SQLAlchemyTokenStore[db.User, uuid.UUID](session, db.KnoxToken)
    strategy = KnoxStrategy(store, listeners=[module.write_audit_entry], request=None)

    token = await strategy.issue(jane)
    await strategy.logout_all(jane)
    await module.write_audit_entry(TokenLimitHit(user_id=jane.id, client=ClientInfo(ip_address="192.0.2.1"), limit=5))

    entries = (await session.execute(select(module.AuditEntry).order_by(module.AuditEntry.at))).scalars().all()
    assert [(entry.event, entry.reason) for entry in entries] == [
        ("TokenIssued", None),
        ("TokenRevoked", "logout_all"),
        ("TokenLimitHit", None),
    ]
    assert [entry.record_id for entry in entries] == [token.record.id, token.record.id, None]


async def test_a_mail_is_sent_for_a_new_device(engine: AsyncEngine, monkeypatch: pytest.MonkeyPatch) -> None:
    """The first device and a known one give no mail; another one does."""
    module = load("new_device")
    mails: list[str | None] = []

    async def send_mail(record: TokenRecord[uuid.UUID]) -> None:
        mails.append(record.user_agent)

    monkeypatch.setattr(module, "send_mail", send_mail)
    async with calling(example_app, engine) as client:
        example_app.dependency_overrides[users.get_knox_strategy] = module.get_knox_strategy
        for agent in ("laptop", "laptop", "phone", "phone"):
            client.headers["User-Agent"] = agent
            headers = await log_in(client)
        answers = await knock(client, headers)

    assert answers == [200]
    assert mails == ["phone"]


async def test_events_are_counted(session: AsyncSession, jane: db.User) -> None:
    """Each event counts under its name and reason."""
    module = load("counters")
    store = SQLAlchemyTokenStore[db.User, uuid.UUID](session, db.KnoxToken)
    strategy = KnoxStrategy(store, listeners=[module.count], request=None)

    for _ in range(2):
        await strategy.issue(jane)
    await strategy.logout_all(jane)

    def counted(event: str, reason: str) -> float | None:
        return REGISTRY.get_sample_value("knox_events_total", {"event": event, "reason": reason})

    assert counted("TokenIssued", "") == 2
    assert counted("TokenRevoked", "logout_all") == 2


def test_the_line_in_the_log_is_as_shown(caplog: pytest.LogCaptureFixture) -> None:
    """What the ready listener writes of a logout is what the page shows."""
    shown = json.loads((SRC / "log_event.json").read_text())
    caplog.set_level(logging.INFO, "fastapi_users_knox.events")
    record = TokenRecord(
        id=uuid.UUID(shown["id"]), user_id=uuid.UUID(shown["user_id"]), audience="", created_at=NOW, expires_at=None
    )

    client = ClientInfo(ip_address=shown["ip_address"])
    log_event(TokenRevoked(user_id=record.user_id, client=client, record=record, reason="logout"))

    assert json.loads(caplog.messages[0]) == shown
