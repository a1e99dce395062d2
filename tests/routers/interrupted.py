"""An application with a route that needs a recent login, in which something may happen while a password is checked."""

import uuid
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from typing import Annotated

from fastapi import Depends, FastAPI
from fastapi.security import OAuth2PasswordRequestForm
from sqlalchemy.ext.asyncio import AsyncSession

from fastapi_users_knox import TokenRecord, current_token, get_knox_router
from tests.models import User, UserManager
from tests.routers.device import Device
from tests.site import PASSWORDS, Manager, UserDatabase, World, build_app, client_of, create_users, knox_backend, shared
from tests.strategies import MINUTE


@shared
def create_site() -> FastAPI:
    """Build an application with a route that needs a recent login, and with the sessions' routes that need one."""
    backend = knox_backend()
    app, users = build_app(backend), create_users(backend)
    app.include_router(get_knox_router(users, backend, fresh_within=MINUTE), prefix="/guarded")
    fresh = current_token(users, backend, active=True, fresh_within=MINUTE)

    @app.get("/fresh")
    async def who(current: Annotated[tuple[User, TokenRecord[uuid.UUID]], Depends(fresh)]) -> str:
        return current[0].email

    return app


Meanwhile = Callable[[User | None], Awaitable[User | None]]


class Interrupted(UserManager):
    """A user manager that lets something happen right after it has checked a password."""

    def __init__(self, user_db: UserDatabase, meanwhile: Meanwhile, forms: list[OAuth2PasswordRequestForm]) -> None:
        super().__init__(user_db, PASSWORDS)
        self._meanwhile = meanwhile
        self._forms = forms

    async def authenticate(self, credentials: OAuth2PasswordRequestForm) -> User | None:
        """Keep the form, check the password, and let it happen."""
        self._forms.append(credentials)
        return await self._meanwhile(await super().authenticate(credentials))


@dataclass(frozen=True, kw_only=True)
class InterruptedWorld(World):
    """A world in which something happens right after a password was checked.

    Attributes:
        meanwhile: A function that is called with the user, and returns what the user manager returns instead.
        forms: The forms that the user managers have checked.
    """

    meanwhile: Meanwhile
    forms: list[OAuth2PasswordRequestForm] = field(default_factory=list)

    def user_manager(self, session: AsyncSession) -> Manager:
        """Return a request's user manager."""
        return Interrupted(self.user_db(session), self.meanwhile, self.forms)


def interrupt(world: World, meanwhile: Meanwhile) -> InterruptedWorld:
    """Return the same world, in which something happens right after a password was checked."""
    return InterruptedWorld(**{name: getattr(world, name) for name in World.__dataclass_fields__}, meanwhile=meanwhile)


@asynccontextmanager
async def interrupted(world: World, device: Device, meanwhile: Meanwhile) -> AsyncIterator[Device]:
    """Yield the same device as a client of an application in which something happens after the check of a password."""
    async with client_of(interrupt(world, meanwhile).serving(create_site())) as http:
        yield replace(device, http=http)
