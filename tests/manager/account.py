"""A user manager like an application's own, and a user who has tokens of two audiences."""

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
    """FastAPI-Users' own adapter for SQLAlchemy, on the tests' user table."""


class Manager(KnoxUserManagerMixin[User, uuid.UUID], UUIDIDMixin, BaseUserManager[User, uuid.UUID]):
    """A user manager whose hooks do not call `super()`, as in most applications.

    Attributes:
        refuses_deletion: Whether the hook before a deletion raises an error.
        fails_afterwards: Whether the hooks after a change raise an error.
    """

    reset_password_token_secret = SECRET
    verification_token_secret = SECRET
    refuses_deletion = False
    fails_afterwards = False

    async def on_after_update(self, user: User, update_dict: dict[str, Any], request: Request | None = None) -> None:  # noqa: ARG002
        """Raise an error if the test wants the hooks to fail."""
        self._fail()

    async def on_after_reset_password(self, user: User, request: Request | None = None) -> None:  # noqa: ARG002
        """Raise an error if the test wants the hooks to fail."""
        self._fail()

    async def on_before_delete(self, user: User, request: Request | None = None) -> None:  # noqa: ARG002
        """Refuse the deletion if the test wants it to be refused."""
        if self.refuses_deletion:
            raise HTTPException(409)

    async def on_after_delete(self, user: User, request: Request | None = None) -> None:  # noqa: ARG002
        """Raise an error if the test wants the hooks to fail."""
        self._fail()

    def _fail(self) -> None:
        if self.fails_afterwards:
            raise RuntimeError("the mail server is down")


@dataclass(kw_only=True)
class Account:
    """A user with two tokens of one audience and one token of another.

    Attributes:
        app: What the current request uses: a session and a store.
        user: The user.
        user_id: The user's id.
        events: The events that were published, except the events of the logins.
        tokens: The tokens by name. The request of a user manager presents `laptop`, unless a test passes another token.
    """

    app: App
    user: User
    user_id: uuid.UUID = field(init=False)
    events: list[KnoxEvent[uuid.UUID]] = field(default_factory=list)
    tokens: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Keep the user's id, because the object may not be able to load its id once the session is closed."""
        identity = inspect(self.user).identity
        assert identity is not None
        self.user_id = identity[0]

    def strategy(self, settings: KnoxSettings = WEB, presented: str = "") -> Strategy:
        """Return the strategy of a request that presents this text. An issued token counts as authenticated."""
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
        """Return a user manager with these strategies; by default, with one strategy of the audience `web`."""
        token = self.tokens.get(presented, presented)
        return kind(users(self.app.session, User), PASSWORDS, knox=strategies or self.strategy(presented=token))

    async def log_in(self) -> None:
        """Issue the three tokens."""
        for name, settings in {"laptop": WEB, "phone": WEB, "script": API}.items():
            self.tokens[name] = await self.strategy(settings).issue(self.user)
        self.events.clear()

    async def alive(self) -> list[str]:
        """Return the names of the tokens that are accepted."""
        manager = self.manager()
        found = []
        for name, settings in {"laptop": WEB, "phone": WEB, "script": API}.items():
            if await self.strategy(settings).read_token(self.tokens[name], manager):
                found.append(name)
        return found

    def revoke_reasons(self) -> list[str]:
        """Return the reason of each `TokenRevoked` event, in their order."""
        return [event.reason for event in self.events if isinstance(event, TokenRevoked)]

    async def alive_later(self, open_app: OpenApp) -> list[str]:
        """Return the names of the tokens that the next request accepts, after the user was activated again."""
        async with open_app() as app:
            await app.session.execute(update(User).where(User.__table__.c.id == self.user_id).values(is_active=True))
            await app.session.commit()
            return await replace(self, app=app).alive()

    async def reset(self, manager: Manager) -> None:
        """Reset the forgotten password with the reset token that the application sends by mail."""
        fingerprint = manager.password_helper.hash(self.user.hashed_password)
        data = {"sub": str(self.user.id), "password_fgpt": fingerprint, "aud": manager.reset_password_token_audience}
        await manager.reset_password(generate_jwt(data, SECRET, 3600), "another password")
