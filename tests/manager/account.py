"""A user manager as an application writes it, and a user with tokens of two audiences."""

import uuid
from dataclasses import dataclass, field, replace
from typing import Any

from fastapi import HTTPException, Request
from fastapi_users import BaseUserManager, UUIDIDMixin
from fastapi_users.jwt import generate_jwt
from fastapi_users_db_sqlalchemy import SQLAlchemyUserDatabase
from sqlalchemy import inspect, update

from fastapi_users_knox import IssuedToken, KnoxEvent, KnoxSettings, KnoxStrategy, KnoxUserManagerMixin, TokenRevoked
from fastapi_users_knox.transports.presented import note_authenticated
from tests.backends import NOW, App, OpenApp
from tests.models import User
from tests.site import PASSWORDS
from tests.strategies import request as request_with

SECRET = "secret-of-the-tests-that-is-long-enough"
WEB, API = KnoxSettings(audience="web"), KnoxSettings(audience="api")

Strategy = KnoxStrategy[User, uuid.UUID]


class UserDatabase(SQLAlchemyUserDatabase[User, uuid.UUID]):
    """The users, in FastAPI-Users' own adapter."""


class Manager(KnoxUserManagerMixin[User, uuid.UUID], UUIDIDMixin, BaseUserManager[User, uuid.UUID]):
    """A user manager whose hooks, as applications' do, call no `super()`."""

    reset_password_token_secret = SECRET
    verification_token_secret = SECRET
    refuses_deletion = False
    fails_afterwards = False

    async def on_after_update(self, user: User, update_dict: dict[str, Any], request: Request | None = None) -> None:  # noqa: ARG002
        """Do as told."""
        self._fail()

    async def on_after_reset_password(self, user: User, request: Request | None = None) -> None:  # noqa: ARG002
        """Do as told."""
        self._fail()

    async def on_before_delete(self, user: User, request: Request | None = None) -> None:  # noqa: ARG002
        """Do as told."""
        if self.refuses_deletion:
            raise HTTPException(409)

    async def on_after_delete(self, user: User, request: Request | None = None) -> None:  # noqa: ARG002
        """Do as told."""
        self._fail()

    def _fail(self) -> None:
        if self.fails_afterwards:
            raise RuntimeError("the mail server is down")


@dataclass(kw_only=True)
class Account:
    """A user with two tokens of one audience and one of another; the first is presented with the request at hand."""

    app: App
    user: User
    user_id: uuid.UUID = field(init=False)
    events: list[KnoxEvent[uuid.UUID]] = field(default_factory=list)
    tokens: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Keep the id, which the object may lose with its session."""
        identity = inspect(self.user).identity
        assert identity is not None
        self.user_id = identity[0]

    def strategy(self, settings: KnoxSettings = WEB, presented: str = "") -> Strategy:
        """Make a strategy for a request that one of our tokens has authenticated, or another."""
        request = request_with(("Authorization", f"Bearer {presented}"))
        if isinstance(presented, IssuedToken):
            note_authenticated(request, presented.record)
        return KnoxStrategy(
            self.app.store,
            settings,
            request=request,
            user_db=UserDatabase(self.app.session, User),
            listeners=[self.events.append],
            clock=lambda: NOW,
        )

    def manager(
        self,
        *strategies: Strategy,
        presented: str = "laptop",
        kind: type[Manager] = Manager,
        users: type[UserDatabase] = UserDatabase,
    ) -> Manager:
        """Make a user manager over the strategies, or over the usual one."""
        token = self.tokens.get(presented, presented)
        return kind(users(self.app.session, User), PASSWORDS, knox=strategies or self.strategy(presented=token))

    async def log_in(self) -> None:
        """Get the three tokens."""
        for name, settings in {"laptop": WEB, "phone": WEB, "script": API}.items():
            self.tokens[name] = await self.strategy(settings).issue(self.user)
        self.events.clear()

    async def alive(self) -> list[str]:
        """Name the tokens that are accepted."""
        manager = self.manager()
        found = []
        for name, settings in {"laptop": WEB, "phone": WEB, "script": API}.items():
            if await self.strategy(settings).read_token(self.tokens[name], manager):
                found.append(name)
        return found

    def told(self) -> list[str]:
        """Return the reasons of all revocations."""
        return [event.reason for event in self.events if isinstance(event, TokenRevoked)]

    async def alive_later(self, open_app: OpenApp) -> list[str]:
        """Name the tokens that the next request finds accepted, once the user is active in any case."""
        async with open_app() as app:
            await app.session.execute(update(User).where(User.__table__.c.id == self.user_id).values(is_active=True))
            await app.session.commit()
            return await replace(self, app=app).alive()

    async def reset(self, manager: Manager) -> None:
        """Reset the forgotten password by the token that was sent by mail."""
        fingerprint = manager.password_helper.hash(self.user.hashed_password)
        data = {"sub": str(self.user.id), "password_fgpt": fingerprint, "aud": manager.reset_password_token_audience}
        await manager.reset_password(generate_jwt(data, SECRET, 3600), "another password")
