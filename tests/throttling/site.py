"""An application whose user manager has a throttle, and the requests of clients with different addresses."""

import json
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal
from urllib.parse import urlencode

from fastapi import Body, Depends, FastAPI, Request
from fastapi.requests import HTTPConnection
from fastapi_users import BaseUserManager, UUIDIDMixin
from fastapi_users.password import PasswordHelperProtocol
from sqlalchemy.ext.asyncio import AsyncSession

from fastapi_users_knox import KnoxUserManagerMixin
from fastapi_users_knox.manager.logins import Throttle
from fastapi_users_knox.throttling import LoginThrottle
from tests.asgi import Answer, send
from tests.models import User
from tests.site import (
    ADA,
    PASSWORD,
    PASSWORDS,
    CurrentWorld,
    Session,
    Store,
    UserRead,
    World,
    bearing,
    build_app,
    create_users,
    credentials,
    get_store,
    knox_backend,
    shared,
)

SECRET = "secret-of-the-tests-that-is-long-enough"
HOME, ELSEWHERE = "192.0.2.1", "198.51.100.7"
WRONG = "a wrong password"


@dataclass(frozen=True)
class NotedPasswords(PasswordHelperProtocol):
    """The tests' password helper, which notes each computation of a hash."""

    notes: list[str]

    def verify_and_update(self, plain_password: str, hashed_password: str) -> tuple[bool, str | None]:
        """Note and verify."""
        self.notes.append("hash")
        return PASSWORDS.verify_and_update(plain_password, hashed_password)

    def hash(self, password: str) -> str:
        """Note and hash."""
        self.notes.append("hash")
        return PASSWORDS.hash(password)

    def generate(self) -> str:
        """Generate a password."""
        return PASSWORDS.generate()


class Manager(KnoxUserManagerMixin[User, uuid.UUID], UUIDIDMixin, BaseUserManager[User, uuid.UUID]):
    """A user manager that notes the mails that it sends."""

    reset_password_token_secret = SECRET
    verification_token_secret = SECRET
    notes: list[str]

    async def on_after_forgot_password(self, user: User, token: str, request: Request | None = None) -> None:  # noqa: ARG002
        """Note the mail."""
        self.notes.append("mail")

    async def on_after_request_verify(self, user: User, token: str, request: Request | None = None) -> None:  # noqa: ARG002
        """Note the mail."""
        self.notes.append("mail")


@dataclass(frozen=True, kw_only=True)
class ThrottledWorld(World):
    """A world with a throttle.

    Attributes:
        throttle: The throttle of all user managers.
        kind: The class of the user managers.
    """

    throttle: Throttle | None = field(default_factory=LoginThrottle)
    kind: type[Manager] = Manager

    def manager(self, session: AsyncSession, store: Store, connection: HTTPConnection | None) -> Manager:
        """Return a user manager, outside of a request if there is no connection."""
        strategy = self.strategy("knox", store, session, connection)
        manager = self.kind(self.user_db(session), NotedPasswords(self.notes), knox=strategy, throttle=self.throttle)
        manager.notes = self.notes
        return manager

    def visitor(self, address: str | None = HOME, **headers: str) -> "Visitor":
        """Return a client with this address, which sends these headers."""
        return Visitor(app=self.serving(create_app()), address=address, headers=headers)


async def get_user_manager(
    connection: HTTPConnection, world: CurrentWorld, session: Session, store: Annotated[Store, Depends(get_store)]
) -> Manager:
    """Return the user manager of a request."""
    assert isinstance(world, ThrottledWorld)
    return world.manager(session, store, connection)


@shared
def create_app() -> FastAPI:
    """Build the application, with FastAPI-Users' routes that send mails, and a route of the application's own."""
    backend = knox_backend()
    app = build_app(backend, registers=False, get_user_manager=get_user_manager)
    users = create_users(backend, get_user_manager=get_user_manager)
    app.include_router(users.get_reset_password_router())
    app.include_router(users.get_verify_router(UserRead))

    @app.post("/own/{action}")
    async def own_mail(
        action: Literal["forgot_password", "request_verify"],
        email: Annotated[str, Body(embed=True)],
        request: Request,
        manager: Annotated[Manager, Depends(get_user_manager)],
    ) -> None:
        send = {"forgot_password": manager.forgot_password, "request_verify": manager.request_verify}[action]
        await send(await manager.get_by_email(email), request)

    return app


@dataclass(frozen=True, kw_only=True)
class Visitor:
    """A client of the application.

    Attributes:
        app: The application.
        address: The client's address, if the server knows it.
        headers: The headers of its requests.
    """

    app: Any
    address: str | None
    headers: Mapping[str, str]

    async def log_in(self, email: str = ADA, password: str = PASSWORD) -> Answer:
        """Send the login form."""
        form = urlencode(credentials(email, password)).encode()
        return await self._post("/knox/login", form, "application/x-www-form-urlencoded")

    async def token(self) -> str:
        """Log Ada in, and return the token."""
        answer = await self.log_in()
        assert answer.status == 200, answer.body
        return str(json.loads(answer.body)["access_token"])

    async def guess(self, email: str = ADA) -> int:
        """Send the login form with a wrong password, and return the status."""
        return (await self.log_in(email, WRONG)).status

    async def guesses(self, number: int, email: str = ADA) -> list[int]:
        """Send the login form several times with a wrong password, and return the statuses."""
        return [await self.guess(email) for _ in range(number)]

    async def reauthenticate(self, token: str, password: str = PASSWORD) -> Answer:
        """Send the password again, with a token."""
        form = urlencode({"password": password}).encode()
        kind = "application/x-www-form-urlencoded"
        return await self._post("/knox/reauthenticate", form, kind, **bearing(token))

    async def ask_for_mail(self, path: str, email: str = ADA) -> Answer:
        """Send a request for a mail."""
        return await self._post(path, json.dumps({"email": email}).encode(), "application/json")

    async def _post(self, path: str, body: bytes, content_type: str, **more: str) -> Answer:
        headers = {**self.headers, **more, "Content-Type": content_type, "Content-Length": str(len(body))}
        raw = [(name.lower().encode(), value.encode()) for name, value in headers.items()]
        return await send(self.app, path, raw, method="POST", body=body, address=self.address)
