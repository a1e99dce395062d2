"""Strategies for tests, with a clock that the test sets, a log of the published events, and a log of SQL statements."""

import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from fastapi.requests import HTTPConnection
from sqlalchemy import Row, event, select, update
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession

from fastapi_users_knox import KnoxEvent, KnoxSettings, KnoxStrategy, Listener, TokenRecord, TokenRevoked, tokens
from tests.models import KnoxToken, User, UserManager, store_on, user_manager_on

Strategy = KnoxStrategy[User, uuid.UUID]
Record = TokenRecord[uuid.UUID]

NOW = datetime(2030, 1, 1, 12, tzinfo=UTC)
MILLISECOND = timedelta(milliseconds=1)
SECOND = timedelta(seconds=1)
MINUTE = timedelta(minutes=1)
HOUR = timedelta(hours=1)
DAY = timedelta(days=1)
DEFAULTS = KnoxSettings()


@dataclass
class Clock:
    """A clock that stands still until a test moves it."""

    now: datetime = NOW

    def __call__(self) -> datetime:
        """Return the current time of the test."""
        return self.now


@dataclass(kw_only=True)
class Knox:
    """One user, one session of the application, and strategies over it that share a clock and a log of events."""

    session: AsyncSession
    user: User
    clock: Clock = field(default_factory=Clock)
    events: list[KnoxEvent[uuid.UUID]] = field(default_factory=list)
    listeners: list[Listener] = field(default_factory=list)

    @property
    def user_manager(self) -> UserManager:
        """Return a user manager over the same session."""
        return user_manager_on(self.session)

    def strategy(
        self,
        settings: KnoxSettings = DEFAULTS,
        *,
        request: HTTPConnection | None = None,
    ) -> Strategy:
        """Return a strategy over the session."""
        return KnoxStrategy(
            store_on(self.session),
            settings,
            request=request,
            listeners=[self.events.append, *self.listeners],
            clock=self.clock,
        )

    async def accepts(self, token: str, settings: KnoxSettings = DEFAULTS) -> bool:
        """Return whether a token is accepted, without recording its use."""
        found = await self.strategy(settings).authenticate(token, self.user_manager, touch=False)
        return found is not None

    def published(self) -> list[tuple[str, ...]]:
        """Return the name of each published event, with the reason of a revocation, and clear the log."""
        published = [
            (type(event).__name__, *([event.reason] if isinstance(event, TokenRevoked) else []))
            for event in self.events
        ]
        self.events.clear()
        return published


def request(*headers: tuple[str, str], client: str = "192.0.2.1") -> HTTPConnection:
    """Return a connection with these headers."""
    raw = [(name.lower().encode(), value.encode("latin-1")) for name, value in headers]
    return HTTPConnection({"type": "http", "headers": raw, "client": (client, 1234)})


def unknown_token(user: User) -> str:
    """Return a well-formed token that was never issued."""
    return tokens.generate(tokens.routing_tag(user.id), prefix="knox_")


def flipped(token: str) -> str:
    """Return the token with its last character changed, so that the checksum is wrong."""
    return token[:-1] + ("0" if token[-1] != "0" else "1")


@contextmanager
def sent_to(engine: AsyncEngine) -> Iterator[list[str]]:
    """Collect each SQL statement sent to the engine's database, on any connection."""
    statements: list[str] = []

    def note(_connection: object, _cursor: object, statement: str, *_more: object) -> None:
        statements.append(statement)

    event.listen(engine.sync_engine, "before_cursor_execute", note)
    try:
        yield statements
    finally:
        event.remove(engine.sync_engine, "before_cursor_execute", note)


def reasons(events: Sequence[KnoxEvent[Any]]) -> list[str]:
    """Return the reason of each revocation. All events must be revocations."""
    assert all(isinstance(event, TokenRevoked) for event in events)
    return [event.reason for event in events if isinstance(event, TokenRevoked)]


def verbs(statements: Sequence[str]) -> list[str]:
    """Return the first word of each statement."""
    return [statement.split()[0] for statement in statements]


async def stored(engine: AsyncEngine) -> Sequence[Row[Any]]:
    """Return the rows of the token table as another connection sees them."""
    async with engine.connect() as connection:
        table = KnoxToken.__table__
        return (await connection.execute(select(table).order_by(table.c.created_at))).all()


async def change_user(engine: AsyncEngine, user: User, **values: object) -> None:
    """Update a user on another connection, so that the session does not notice."""
    async with engine.begin() as connection:
        await connection.execute(update(User).where(User.__table__.c.id == user.id).values(**values))
