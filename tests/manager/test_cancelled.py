"""Wherever a request is cancelled, no change of a user is stored without the revocation that belongs to it."""

import asyncio
import gc
import uuid
from collections.abc import AsyncIterator, Callable, Coroutine
from contextvars import ContextVar
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import anyio
import pytest
from fastapi import Depends, FastAPI, Request
from fastapi.requests import HTTPConnection
from fastapi_users import FastAPIUsers
from fastapi_users.authentication import AuthenticationBackend
from fastapi_users.schemas import BaseUserUpdate
from sqlalchemy import select

from fastapi_users_knox import KnoxBearerTransport, KnoxStrategy
from tests.backends import NOW, App, OpenApp
from tests.cancelled import CancelledAt
from tests.manager.account import WEB, Account, Manager, Strategy, UserDatabase
from tests.models import User, create_user
from tests.site import PASSWORDS, UserRead, UserUpdate, bearing, client_of

pytestmark = [pytest.mark.anyio, pytest.mark.unmeasured]

ALL = ["laptop", "phone", "script"]

_cancel: ContextVar[Callable[[], object]] = ContextVar("_cancel")


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    """Use a file for each test, because a connection to SQLite that was cancelled may keep its lock for a while."""
    return tmp_path


class CancelledBefore(UserDatabase):
    """A user database that cancels the request just before it stores a change."""

    async def update(self, user: User, update_dict: dict[str, Any]) -> User:
        """Cancel the request, and store the change."""
        _cancel.get()()
        return await super().update(user, update_dict)

    async def delete(self, user: User) -> None:
        """Cancel the request, and delete the user."""
        _cancel.get()()
        await super().delete(user)


class CancelledAfter(UserDatabase):
    """A user database that cancels the request right after it has committed a change."""

    async def update(self, user: User, update_dict: dict[str, Any]) -> User:
        """Store the change, cancel the request, and cancel it again after the refresh."""
        for key, value in update_dict.items():
            setattr(user, key, value)
        await self.session.commit()
        _cancel.get()()
        await self.session.refresh(user)
        _cancel.get()()
        return user

    async def delete(self, user: User) -> None:
        """Delete the user, and cancel the request."""
        await super().delete(user)
        _cancel.get()()


class Soft(Manager):
    """A user manager whose deletion only replaces the e-mail address."""

    async def delete(self, user: User, request: Request | None = None) -> None:  # noqa: ARG002
        """Replace the e-mail address of a user."""
        await self.user_db.update(user, {"email": f"{user.id}@deleted.example.org"})


@dataclass(frozen=True, kw_only=True)
class Verb:
    """An act of the user manager that stores a change.

    Attributes:
        act: Performs it.
        alive: The names of the tokens that are accepted afterwards.
        kind: The class of the user manager.
    """

    act: Callable[[Account, Manager], Coroutine[Any, Any, object]]
    alive: list[str]
    kind: type[Manager] = Manager


async def update(account: Account, manager: Manager) -> None:
    """Change the user's password."""
    await manager.update(BaseUserUpdate(password="another password"), account.user)


async def reset(account: Account, manager: Manager) -> None:
    """Reset the user's password."""
    await account.reset(manager)


async def delete(account: Account, manager: Manager) -> None:
    """Delete the user."""
    await manager.delete(account.user)


VERBS = {
    "update": Verb(act=update, alive=["laptop"]),
    "reset": Verb(act=reset, alive=[]),
    "delete": Verb(act=delete, alive=[]),
    "soft": Verb(act=delete, alive=[], kind=Soft),
}


async def stored(open_app: OpenApp, account: Account) -> object:
    """Return what is stored about the user, as the next request reads it."""
    async with open_app() as app:
        user = User.__table__.c
        columns = select(user.hashed_password, user.email, user.is_active)
        return (await app.session.execute(columns.where(user.id == account.user_id))).one_or_none()


@pytest.fixture(params=VERBS)
def verb(request: pytest.FixtureRequest) -> Verb:
    """Return each act that stores a change."""
    return VERBS[request.param]


@pytest.mark.parametrize("users", [CancelledBefore, CancelledAfter])
async def test_a_scope_that_is_cancelled_around_a_change(
    account: Account, open_app: OpenApp, verb: Verb, users: type[UserDatabase]
) -> None:
    """A change that runs when its AnyIO scope is cancelled, again and again, is stored, and its tokens are revoked."""
    before = await stored(open_app, account)

    with anyio.CancelScope() as scope:
        _cancel.set(scope.cancel)
        await verb.act(account, account.manager(users=users, kind=verb.kind))

    assert scope.cancelled_caught
    assert await stored(open_app, account) != before
    assert await account.alive_later(open_app) == verb.alive


@pytest.mark.parametrize("users", [CancelledBefore, CancelledAfter])
async def test_a_task_that_is_cancelled_in_a_change(
    account: Account, open_app: OpenApp, verb: Verb, users: type[UserDatabase]
) -> None:
    """A change whose task is cancelled is stored, its tokens are revoked, and then the task ends as cancelled."""
    before = await stored(open_app, account)

    async def request() -> None:
        task = asyncio.current_task()
        assert task is not None
        _cancel.set(task.cancel)
        await verb.act(account, account.manager(users=users, kind=verb.kind))

    with pytest.raises(asyncio.CancelledError):
        await asyncio.create_task(request())

    assert await stored(open_app, account) != before
    assert await account.alive_later(open_app) == verb.alive


async def cancelled_at(number: int, open_app: OpenApp, verb: Verb) -> bool:
    """Cancel a request when it waits for the n-th time, and check what is stored.

    Returns:
        Whether the request was cancelled; false if it waits less often than that.
    """
    async with open_app() as app:
        account = Account(app=app, user=await create_user(app.session))
        await account.log_in()
        before = await stored(open_app, account)
        with anyio.CancelScope() as scope:
            manager = account.manager(kind=verb.kind)
            await CancelledAt(verb.act(account, manager), number, scope.cancel)
    gc.collect()  # A connection to SQLite that was cancelled during a read keeps its lock until it is collected.
    is_stored = await stored(open_app, account) != before
    assert await account.alive_later(open_app) == (verb.alive if is_stored else ALL)
    return scope.cancel_called


async def test_a_change_is_cancelled_wherever_it_waits(open_app: OpenApp, verb: Verb) -> None:
    """Wherever a request is cancelled, either the change is stored and its tokens are revoked, or nothing happens."""
    number = 1
    gc.freeze()  # Each collection then skips the objects that exist by now, and takes far less time.
    while await cancelled_at(number, open_app, verb):
        number += 1

    assert number > 1


def site(open_app: OpenApp, users: type[UserDatabase]) -> FastAPI:
    """Return an application with FastAPI-Users' users router, which has `PATCH /users/me`."""

    async def get_app() -> AsyncIterator[App]:
        async with open_app() as app:
            yield app

    async def get_strategy(request: HTTPConnection, app: Annotated[App, Depends(get_app)]) -> Strategy:
        return KnoxStrategy(app.store, WEB, request=request, user_db=None, clock=lambda: NOW)

    async def get_user_manager(
        app: Annotated[App, Depends(get_app)], strategy: Annotated[Strategy, Depends(get_strategy)]
    ) -> Manager:
        return Manager(users(app.session, User), PASSWORDS, knox=strategy)

    backend: AuthenticationBackend[User, uuid.UUID] = AuthenticationBackend(
        name="knox", transport=KnoxBearerTransport("login"), get_strategy=get_strategy
    )
    fastapi_users = FastAPIUsers[User, uuid.UUID](get_user_manager, [backend])
    app = FastAPI()
    app.include_router(fastapi_users.get_users_router(UserRead, UserUpdate), prefix="/users")
    return app


class FailingRefresh(UserDatabase):
    """A user database whose refresh after the commit fails."""

    async def update(self, user: User, update_dict: dict[str, Any]) -> User:
        """Store the change, and fail."""
        await super().update(user, update_dict)
        raise ConnectionError("the database has gone")


@pytest.mark.parametrize("users", [CancelledBefore, CancelledAfter])
async def test_a_request_that_times_out(account: Account, open_app: OpenApp, users: type[UserDatabase]) -> None:
    """A new password by `PATCH /users/me` revokes the other tokens, even if the request is cancelled meanwhile."""
    with anyio.CancelScope() as scope:
        _cancel.set(scope.cancel)
        async with client_of(site(open_app, users)) as client:
            headers = bearing(account.tokens["laptop"])
            await client.patch("/users/me", headers=headers, json={"password": "another password"})

    assert scope.cancelled_caught
    assert await account.alive_later(open_app) == ["laptop"]


async def test_a_request_that_fails_after_the_change(account: Account, open_app: OpenApp) -> None:
    """A new password by `PATCH /users/me` revokes the other tokens, even if the request fails after the commit."""
    headers = bearing(account.tokens["laptop"])

    async with client_of(site(open_app, FailingRefresh)) as client:
        with pytest.raises(ConnectionError):
            await client.patch("/users/me", headers=headers, json={"password": "another password"})

    assert await account.alive_later(open_app) == ["laptop"]
