"""The user manager with a throttle: its own entry point, its arguments, and users and stores of other kinds."""

import uuid
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import pytest
from fastapi import Depends
from fastapi.security import OAuth2PasswordRequestForm
from fastapi_users import BaseUserManager, IntegerIDMixin, UUIDIDMixin
from fastapi_users.exceptions import InvalidID
from httpx_oauth.clients.openid import OpenID
from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession

from fastapi_users_knox import KnoxEvent, KnoxSettings, KnoxStrategy, KnoxUserManagerMixin, LoginFailed, TooManyAttempts
from fastapi_users_knox.redis import RedisTokenStore
from fastapi_users_knox.sqlalchemy import SQLAlchemyTokenStore
from fastapi_users_knox.throttling import LoginThrottle
from tests.models import User
from tests.redis.people import MemoryUserDatabase, Person, PersonManager
from tests.redis_servers import RedisServer
from tests.routers.ways_to_log_in import OAUTH_ACCOUNTS, Site, by_oauth, by_password, create_app, serving_provider
from tests.routers.ways_to_log_in import KnoxToken as OAuthKnoxToken
from tests.routers.ways_to_log_in import User as OAuthUser
from tests.site import ADA, HASHED, PASSWORD, PASSWORDS, Database, client_of, credentials
from tests.site import Manager as AnyManager
from tests.strategies import DEFAULTS, change_user, request, sent_to
from tests.throttling.site import WRONG, Manager, ThrottledWorld

pytestmark = pytest.mark.anyio

EVE = "eve@example.org"


def form(password: str = PASSWORD, email: str = ADA) -> OAuth2PasswordRequestForm:
    """Return what the login form contains."""
    return OAuth2PasswordRequestForm(username=email, password=password)


async def refused(attempting: Callable[[], Awaitable[object]]) -> bool:
    """Return whether an attempt is refused because there were too many."""
    try:
        await attempting()
    except TooManyAttempts:
        return True
    return False


# the entry point for other proofs


async def test_another_proof_counts_apart_from_the_logins(
    world: ThrottledWorld, ada: User, events: list[KnoxEvent[uuid.UUID]]
) -> None:
    """A wrong second factor is counted and published, and a login with the right password resets no counter of it."""
    checked: list[str] = []

    async def check() -> None:
        checked.append("checked")

    async with world.database.session() as session, world.database.store(session) as store:
        manager = world.manager(session, store, request())
        for _ in range(5):
            assert await manager.attempt_login(ADA, check, action="reauthentication") is None

        assert await manager.authenticate(form()) is not None
        assert await refused(lambda: manager.attempt_login(ADA, check, action="reauthentication"))
    assert checked == ["checked"] * 5
    failed = [event for event in events if isinstance(event, LoginFailed)]
    assert [(event.user_id, event.action) for event in failed] == [(ada.id, "reauthentication")] * 5


async def test_authenticate_inside_of_another_attempt_counts_once(
    world: ThrottledWorld, ada: User, events: list[KnoxEvent[uuid.UUID]]
) -> None:
    """An attempt that checks its password by `authenticate` is one attempt, of the outer action."""
    async with world.database.session() as session, world.database.store(session) as store:
        manager = world.manager(session, store, request())
        for _ in range(5):
            await manager.attempt_login(ADA, lambda: manager.authenticate(form(WRONG)), action="reauthentication")
        again = manager.attempt_login(ADA, lambda: manager.authenticate(form()), action="reauthentication")
        assert await refused(lambda: again)

    assert [event.user_id for event in events] == [ada.id] * 6
    assert {event.action for event in events if isinstance(event, LoginFailed)} == {"reauthentication"}


async def test_another_manager_counts_by_itself(world: ThrottledWorld, ada: User) -> None:
    """A manager whose `authenticate` asks another manager, as of another user table, does not silence that one."""
    del ada
    async with world.database.session() as session, world.database.store(session) as store:
        outer = replace(world, throttle=None).manager(session, store, request())
        inner = world.manager(session, store, request())
        for _ in range(5):
            await outer.attempt_login(ADA, lambda: inner.authenticate(form(WRONG)))

        assert await refused(lambda: outer.attempt_login(ADA, lambda: inner.authenticate(form())))


async def test_a_failed_check_ends_the_attempt(world: ThrottledWorld, ada: User) -> None:
    """If the check raises, the attempt has counted, and the next one is counted too."""
    del ada

    async def broken() -> None:
        raise ZeroDivisionError

    async with world.database.session() as session, world.database.store(session) as store:
        manager = world.manager(session, store, request())
        for _ in range(5):
            with pytest.raises(ZeroDivisionError):
                await manager.attempt_login(ADA, broken)

        assert await refused(lambda: manager.authenticate(form()))


async def test_a_script_counts_for_the_account(world: ThrottledWorld, ada: User) -> None:
    """Without a request only the limit of the account applies."""
    del ada
    world = replace(world, throttle=LoginThrottle(per_account=("7/hour",)))
    async with world.database.session() as session, world.database.store(session) as store:
        manager = world.manager(session, store, None)
        for _ in range(7):
            await manager.authenticate(form(WRONG))

        assert await refused(lambda: manager.authenticate(form()))


# arguments


@pytest.mark.parametrize("throttle", [Depends(), "memory://", LoginThrottle])
async def test_a_wrong_throttle_is_refused(world: ThrottledWorld, throttle: Any) -> None:
    """Anything but a throttle is refused at construction, because it would throttle nothing."""
    async with world.database.session() as session, world.database.store(session) as store:
        with pytest.raises(TypeError, match="throttle="):
            replace(world, throttle=throttle).manager(session, store, None)


class Forgetful(Manager):
    """A user manager whose `__init__` passes over the mix-in's."""

    def __init__(self, user_db: Any, *_: Any, **__: Any) -> None:
        self.user_db = user_db


async def test_an_init_that_is_passed_over_is_missed(world: ThrottledWorld, ada: User) -> None:
    """If the mix-in's `__init__` has not run, a login raises instead of being admitted without a throttle."""
    del ada
    async with world.database.session() as session, world.database.store(session) as store:
        manager = replace(world, kind=Forgetful).manager(session, store, request())

        with pytest.raises(TypeError, match="knox="):
            await manager.authenticate(form())


# costs


async def test_without_a_throttle_a_login_costs_nothing_more(
    world: ThrottledWorld, ada: User, engine: AsyncEngine
) -> None:
    """Without a throttle, a login with the right password sends the one SELECT that FastAPI-Users sends."""
    del ada
    world = replace(world, throttle=None)
    async with world.database.session() as session, world.database.store(session) as store:
        with sent_to(engine) as statements:
            await world.manager(session, store, request()).authenticate(form())

    assert len(statements) == 1


# several strategies, and stores that are unavailable


async def test_a_session_of_any_strategy_is_known(world: ThrottledWorld, ada: User) -> None:
    """A user manager with several strategies knows the sessions of each, and publishes an event once."""
    throttle = LoginThrottle(per_account=("1/hour",))
    events: list[KnoxEvent[uuid.UUID]] = []
    async with world.database.session() as session, world.database.store(session) as store:
        web, api = (
            KnoxStrategy(
                store,
                KnoxSettings(audience=name),
                request=connection,
                listeners=[events.append],
                clock=world.clock,
            )
            for name, connection in (("web", None), ("api", request()))
        )
        await api.issue(ada)
        events.clear()
        manager = Manager(world.user_db(session), PASSWORDS, knox=[web, api], throttle=throttle)
        for _ in range(2):
            await manager.authenticate(form(WRONG))

    assert [(type(event), event.user_id) for event in events] == [(LoginFailed, ada.id)] * 2


async def test_an_unavailable_store_knows_nobody(world: ThrottledWorld, ada: User) -> None:
    """While the token store is unavailable, no client is known, and no attempt fails because of that."""
    del ada
    throttle = LoginThrottle(per_account=("1/hour",))
    async with world.database.session() as session, Redis(port=1, retry=Retry(NoBackoff(), 0)) as redis:
        store: RedisTokenStore[User, uuid.UUID] = RedisTokenStore(redis)
        strategy = KnoxStrategy(store, DEFAULTS, request=request(), user_db=None, clock=world.clock)
        manager = Manager(world.user_db(session), PASSWORDS, knox=strategy, throttle=throttle)

        assert await manager.authenticate(form())
        assert await refused(lambda: manager.authenticate(form()))


# users of other kinds


class Persons(KnoxUserManagerMixin[Person[Any], Any], PersonManager):
    """A user manager of users with ids of any type, which `PersonManager` leaves as they are."""


class IntegerPersons(IntegerIDMixin, Persons):
    """A user manager of users with integer ids."""


class ObjectIDPersons(Persons):
    """A user manager of users with ids as in MongoDB."""

    def parse_id(self, value: Any) -> Any:
        """Parse an ObjectId."""
        if len(value) != 24:
            raise InvalidID
        return value


class UnparsedPersons(Persons):
    """A user manager whose ids cannot be parsed, as in a service without routes for users."""

    def parse_id(self, value: Any) -> Any:
        """Refuse each text, as FastAPI-Users' base class does."""
        raise NotImplementedError(value)


@pytest.mark.parametrize(
    ("kind", "id"),
    [
        (Persons, uuid.uuid4()),
        (IntegerPersons, 7),
        (ObjectIDPersons, "5f1d7f3e9d3e2a0001c0ffee"),
        (UnparsedPersons, uuid.uuid4()),
    ],
)
async def test_ids_of_any_type(redis_7_server: RedisServer, kind: type[Persons], id: Any) -> None:
    """Known and unknown accounts are throttled alike, whatever ids the users have."""
    redis_7_server.ask("FLUSHALL")
    person = Person(id=id, email=ADA, hashed_password=HASHED)
    users: MemoryUserDatabase[Any] = MemoryUserDatabase(lambda: id, {id: person})
    throttle = LoginThrottle(per_account=("2/hour",))
    outcomes: dict[str, list[object]] = {}
    async with Redis.from_url(redis_7_server.url()) as redis:
        store: RedisTokenStore[Person[Any], Any] = RedisTokenStore(redis, parse_id=type(id), users="person")
        strategy = KnoxStrategy(store, DEFAULTS, request=request(), user_db=users)
        manager = kind(users, PASSWORDS, knox=strategy, throttle=throttle)
        for email in (ADA, EVE):
            attempt = partial(manager.authenticate, form(WRONG, email))
            outcomes[email] = [await refused(attempt) for _ in range(3)]

    assert outcomes[ADA] == outcomes[EVE] == [False, False, True]


async def test_the_user_with_the_id_of_nobody_makes_nobody_known(
    world: ThrottledWorld, ada: User, engine: AsyncEngine
) -> None:
    """A session of the user whose id stands for unknown accounts does not make a client known to these."""
    await change_user(engine, ada, id=uuid.UUID(int=0))
    world = replace(world, throttle=LoginThrottle(per_account_and_address=(), per_account=("2/hour",)))
    visitor = world.visitor()
    await visitor.token()

    assert await visitor.guesses(3, EVE) == [400, 400, 429]


# logins without a password


@dataclass(frozen=True, kw_only=True)
class ThrottledSite(Site):
    """The application with every way to log in, whose user manager has a throttle."""

    throttle: LoginThrottle

    def user_manager(self, session: AsyncSession) -> AnyManager:
        """Return a request's user manager."""
        strategy = self.strategy("bearer", SQLAlchemyTokenStore(session, self.database.token), session, None)
        return OAuthManager(self.user_db(session), PASSWORDS, knox=strategy, throttle=self.throttle)


class OAuthManager(KnoxUserManagerMixin[OAuthUser, uuid.UUID], UUIDIDMixin, BaseUserManager[OAuthUser, uuid.UUID]):
    """A user manager of users with OAuth accounts."""


@pytest.fixture
def openid() -> Iterator[OpenID]:
    """Serve a provider and return the application's client of it."""
    with serving_provider() as client:
        yield client


async def test_a_login_by_oauth_is_not_throttled(engine: AsyncEngine, openid: OpenID) -> None:
    """A login by OAuth, which proves no password, is admitted when the account's limit is used up."""
    async with engine.begin() as connection:
        await connection.run_sync(OAUTH_ACCOUNTS.create, checkfirst=True)
    database = Database(engine=engine, expire_on_commit=False, user=OAuthUser, token=OAuthKnoxToken)
    await database.create_user()
    site = ThrottledSite(database=database, throttle=LoginThrottle(per_account=("1/hour",)))
    async with client_of(site.serving(create_app(openid))) as browser:
        browser.base_url = browser.base_url.join("/bearer")
        statuses = [(await browser.post("/login", data=credentials(password=WRONG))).status_code for _ in range(2)]

        assert statuses == [400, 429]
        assert (await by_password(browser, ADA)).status_code == 429
        assert (await by_oauth(browser, ADA)).status_code == 200
    async with engine.begin() as connection:
        await connection.execute(OAUTH_ACCOUNTS.delete())
