"""An application with tokens in Redis and users in memory, and a client that sends it requests."""

import uuid
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Annotated, Any

from fastapi import Depends, FastAPI
from fastapi.requests import HTTPConnection
from fastapi_users import FastAPIUsers
from fastapi_users.authentication import AuthenticationBackend, Strategy
from httpx import AsyncClient, Response
from redis.asyncio import Redis, RedisCluster
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff

from fastapi_users_knox import KnoxSettings, KnoxStrategy, get_knox_router
from fastapi_users_knox.redis import RedisTokenStore
from tests.redis.people import MemoryUserDatabase, Person, PersonManager
from tests.site import HASHED, PASSWORDS, bearer, bearing, client_of, credentials, shared
from tests.strategies import DEFAULTS, Clock

EMAIL = "ada@example.org"
PEOPLE: Mapping[str, uuid.UUID] = {EMAIL: uuid.uuid4()}


def patience() -> dict[str, Any]:
    """Return the options of a client that waits as long as a busy machine needs, and that retries a call once."""
    return {"socket_timeout": 60, "socket_connect_timeout": 60, "retry": Retry(NoBackoff(), 1)}


@dataclass(frozen=True, kw_only=True)
class Site:
    """A running application, and the requests that its users send.

    Attributes:
        http: The client that sends the requests.
        clock: The clock of the application's strategy.
        users: The user database.
        store: The token store.
    """

    http: AsyncClient
    clock: Clock
    users: MemoryUserDatabase[uuid.UUID]
    store: RedisTokenStore[Person[uuid.UUID], uuid.UUID]

    async def log_in(self, email: str = EMAIL) -> Response:
        """Send the login form, and return the response."""
        return await self.http.post("/knox/login", data=credentials(email))

    async def token(self, email: str = EMAIL) -> str:
        """Log in, and return the token."""
        response = await self.log_in(email)
        assert response.status_code == 200, response.text
        token: str = response.json()["access_token"]
        return token

    async def read(self, token: str | None) -> int:
        """Send a request that needs a token, and return the status."""
        return (await self.http.get("/active", headers=bearing(token) if token else {})).status_code

    async def log_out(self, token: str) -> int:
        """Log out with a token, and return the status."""
        return (await self.http.post("/knox/logout", headers=bearing(token))).status_code

    async def log_out_all(self, token: str) -> int:
        """Send a logout-all with a token, and return the status."""
        return (await self.http.post("/knox/logout-all", headers=bearing(token))).status_code


@dataclass(frozen=True, kw_only=True)
class Place:
    """What differs from one test to the next, which reaches the requests through the state of their scope.

    Attributes:
        settings: The settings of the strategy.
        clock: The clock of the strategy.
        users: The user database.
        store: The token store.
    """

    settings: KnoxSettings
    clock: Clock
    users: MemoryUserDatabase[uuid.UUID]
    store: RedisTokenStore[Person[uuid.UUID], uuid.UUID]

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Serve a request."""
        await _create_app()({**scope, "state": {"place": self}}, receive, send)


@asynccontextmanager
async def serving(
    redis: Redis | RedisCluster, settings: KnoxSettings = DEFAULTS, *, people: Mapping[str, uuid.UUID] = PEOPLE
) -> AsyncIterator[Site]:
    """Run the application with this Redis client, for users with these e-mail addresses and ids."""
    known = {user_id: Person(id=user_id, email=email, hashed_password=HASHED) for email, user_id in people.items()}
    place = Place(
        settings=settings,
        clock=Clock(),
        users=MemoryUserDatabase(uuid.uuid4, known),
        store=RedisTokenStore(redis),
    )
    async with client_of(place) as http:
        yield Site(http=http, clock=place.clock, users=place.users, store=place.store)


async def get_place(connection: HTTPConnection) -> Place:
    """Return the place of the request."""
    place: Place = connection.state.place
    return place


CurrentPlace = Annotated[Place, Depends(get_place)]


async def get_strategy(request: HTTPConnection, place: CurrentPlace) -> Strategy[Person[uuid.UUID], uuid.UUID]:
    """Return the strategy of the request."""
    return KnoxStrategy(place.store, place.settings, request=request, user_db=place.users, clock=place.clock)


async def get_user_manager(place: CurrentPlace) -> PersonManager:
    """Return the user manager of the request."""
    return PersonManager(place.users, PASSWORDS)


@shared
def _create_app() -> FastAPI:
    backend = AuthenticationBackend("knox", bearer(), get_strategy)
    app, fastapi_users = FastAPI(), FastAPIUsers[Person[uuid.UUID], uuid.UUID](get_user_manager, [backend])
    app.include_router(fastapi_users.get_auth_router(backend), prefix="/knox")
    app.include_router(get_knox_router(fastapi_users, backend), prefix="/knox")

    @app.get("/active")
    async def who(user: Annotated[Person[uuid.UUID], Depends(fastapi_users.current_user(active=True))]) -> str:
        return user.email

    return app
