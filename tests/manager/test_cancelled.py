"""A request that is cancelled leaves no change without its revocation, wherever the cancellation comes."""

import asyncio
import gc
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Generator
from contextvars import ContextVar
from dataclasses import dataclass
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
from tests.manager.account import WEB, Account, Manager, Strategy, UserDatabase
from tests.models import User, create_user
from tests.site import PASSWORDS, UserRead, UserUpdate, bearing, client_of

pytestmark = pytest.mark.anyio

ALL = ["laptop", "phone", "script"]

_cancel: ContextVar[Callable[[], object]] = ContextVar("_cancel")


class CancelledBefore(UserDatabase):
    """Users whose request is cancelled just before the change is stored."""

    async def update(self, user: User, update_dict: dict[str, Any]) -> User:
        """Store a change."""
        _cancel.get()()
        return await super().update(user, update_dict)

    async def delete(self, user: User) -> None:
        """Delete a user."""
        _cancel.get()()
        await super().delete(user)


class CancelledAfter(UserDatabase):
    """Users whose request is cancelled when the change is stored, and again."""

    async def update(self, user: User, update_dict: dict[str, Any]) -> User:
        """Store a change."""
        for key, value in update_dict.items():
            setattr(user, key, value)
        await self.session.commit()
        _cancel.get()()
        await self.session.refresh(user)
        _cancel.get()()
        return user

    async def delete(self, user: User) -> None:
        """Delete a user."""
        await super().delete(user)
        _cancel.get()()


class Soft(Manager):
    """A user manager that deletes softly."""

    async def delete(self, user: User, request: Request | None = None) -> None:  # noqa: ARG002
        """Delete a user softly."""
        await self.user_db.update(user, {"email": f"{user.id}@deleted.example.org"})


@dataclass(frozen=True, kw_only=True)
class Verb:
    """Something that stores a change."""

    act: Callable[[Account, Manager], Coroutine[Any, Any, object]]
    alive: list[str]
    kind: type[Manager] = Manager


async def update(account: Account, manager: Manager) -> None:
    """Change the password."""
    await manager.update(BaseUserUpdate(password="another password"), account.user)


async def reset(account: Account, manager: Manager) -> None:
    """Reset the password."""
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
    """Return what the next request finds stored of the user."""
    async with open_app() as app:
        user = User.__table__.c
        columns = select(user.hashed_password, user.email, user.is_active)
        return (await app.session.execute(columns.where(user.id == account.user_id))).one_or_none()


@pytest.fixture(params=VERBS)
def verb(request: pytest.FixtureRequest) -> Verb:
    """Give each way to store a change."""
    return VERBS[request.param]


@pytest.mark.parametrize("users", [CancelledBefore, CancelledAfter])
async def test_a_scope_that_is_cancelled_around_a_change(
    account: Account, open_app: OpenApp, verb: Verb, users: type[UserDatabase]
) -> None:
    """Anyio cancels again and again: a change that has begun is stored, and its tokens have ended by then."""
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
    """So it is when the request's task is cancelled, which goes on as a cancellation."""
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


class CancelledAt(Awaitable[object]):
    """Work that is cancelled where it waits for the n-th time."""

    def __init__(self, work: Coroutine[Any, Any, object], number: int, cancel: Callable[[], object]) -> None:
        self._work = work
        self._number = number
        self._cancel = cancel

    def __await__(self) -> Generator[Any, Any, object]:
        """Run the work step by step."""
        thrown: BaseException | None = None
        while True:
            try:
                waiting_for = self._work.send(None) if thrown is None else self._work.throw(thrown)
            except StopIteration as stop:
                return stop.value
            self._number -= 1
            if self._number == 0:
                self._cancel()
            thrown = None
            try:
                yield waiting_for
            except BaseException as error:  # noqa: BLE001 (it is the work's)
                thrown = error


async def cancelled_at(number: int, open_app: OpenApp, verb: Verb) -> bool:
    """Cancel a request where it waits for the n-th time, judge what is left, and return whether it came to that."""
    async with open_app() as app:
        account = Account(app=app, user=await create_user(app.session))
        await account.log_in()
        before = await stored(open_app, account)
        with anyio.CancelScope() as scope:
            manager = account.manager(kind=verb.kind)
            await CancelledAt(verb.act(account, manager), number, scope.cancel)
    gc.collect()  # A connection to SQLite that was torn out of a read keeps its lock until then.
    is_stored = await stored(open_app, account) != before
    assert await account.alive_later(open_app) == (verb.alive if is_stored else ALL)
    return scope.cancel_called


async def test_a_change_is_cancelled_wherever_it_waits(open_app: OpenApp, verb: Verb) -> None:
    """Wherever a request is cancelled: nothing was stored and the tokens live, or it was and they have ended."""
    number = 1
    gc.freeze()  # What is there by now stays, so looking for garbage each time takes no longer than all the rest.
    while await cancelled_at(number, open_app, verb):
        number += 1

    assert number > 1


def site(open_app: OpenApp, users: type[UserDatabase]) -> FastAPI:
    """Make an application with FastAPI-Users' route by which users change themselves."""

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
    """Users whose refresh after the commit fails."""

    async def update(self, user: User, update_dict: dict[str, Any]) -> User:
        """Store a change."""
        await super().update(user, update_dict)
        raise ConnectionError("the database has gone")


@pytest.mark.parametrize("users", [CancelledBefore, CancelledAfter])
async def test_a_request_that_times_out(account: Account, open_app: OpenApp, users: type[UserDatabase]) -> None:
    """A new password by `PATCH /users/me` ends the other tokens, though the request is cancelled in between."""
    with anyio.CancelScope() as scope:
        _cancel.set(scope.cancel)
        async with client_of(site(open_app, users)) as client:
            headers = bearing(account.tokens["laptop"])
            await client.patch("/users/me", headers=headers, json={"password": "another password"})

    assert scope.cancelled_caught
    assert await account.alive_later(open_app) == ["laptop"]


async def test_a_request_that_fails_after_the_change(account: Account, open_app: OpenApp) -> None:
    """A new password by `PATCH /users/me` ends the other tokens, though the answer is 500."""
    headers = bearing(account.tokens["laptop"])

    async with client_of(site(open_app, FailingRefresh)) as client:
        with pytest.raises(ConnectionError):
            await client.patch("/users/me", headers=headers, json={"password": "another password"})

    assert await account.alive_later(open_app) == ["laptop"]
