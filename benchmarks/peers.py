"""The strategies that are compared, each in its best configuration."""

import uuid
from collections.abc import Callable, Mapping
from functools import partial

from fastapi.requests import HTTPConnection
from fastapi_users.authentication import JWTStrategy, RedisStrategy, Strategy
from fastapi_users.authentication.strategy.db import DatabaseStrategy
from fastapi_users_db_sqlalchemy import SQLAlchemyUserDatabase
from fastapi_users_db_sqlalchemy.access_token import SQLAlchemyAccessTokenDatabase
from redis.asyncio import Redis
from sqlalchemy.ext.asyncio import AsyncSession

from benchmarks.models import AccessToken, KnoxToken, KnoxUserManager, User, UserManager
from fastapi_users_knox import KnoxSettings, KnoxStrategy
from fastapi_users_knox.redis import RedisTokenStore
from fastapi_users_knox.sqlalchemy import SQLAlchemyTokenStore

AnyStrategy = Strategy[User, uuid.UUID]
Knox = KnoxStrategy[User, uuid.UUID]
Make = Callable[[AsyncSession], AnyStrategy]

LIFETIME = 10 * 60 * 60  # seconds
SECRET = "a secret of the benchmark's, long enough for HS256"
SETTINGS = KnoxSettings()
SLIDING_SETTINGS = KnoxSettings(auto_refresh=True)
BROWSER = "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/149.0.0.0 Safari/537.36"

KNOX_SQL = "KnoxStrategy, SQL"
KNOX_REDIS = "KnoxStrategy, Redis"
OURS = (KNOX_SQL, KNOX_REDIS)
JWT = "JWTStrategy"
DATABASE = "DatabaseStrategy"
REDIS = "RedisStrategy"
SLIDING = ", auto_refresh"
RECORD_ALONE = ", load_user=False"
API_TOKEN = ", API token"
SCOPES = ("reports:read", "reports:write")
DJANGO_REST_KNOX = "django-rest-knox"
NO_AUTHENTICATION = "no authentication"


def user_manager_on(session: AsyncSession) -> UserManager:
    """Return a user manager on a session."""
    return UserManager(SQLAlchemyUserDatabase(session, User))


def user_manager_of(session: AsyncSession, strategy: AnyStrategy) -> UserManager | KnoxUserManager:
    """Return the user manager of an application with this strategy: for ours the one that revokes tokens."""
    user_db = SQLAlchemyUserDatabase[User, uuid.UUID](session, User)
    return KnoxUserManager(user_db, knox=strategy) if isinstance(strategy, KnoxStrategy) else UserManager(user_db)


def request() -> HTTPConnection:
    """Return a request, as the framework creates it."""
    headers = [(b"host", b"example.org"), (b"user-agent", BROWSER.encode()), (b"accept", b"application/json")]
    return HTTPConnection({"type": "http", "headers": headers, "client": ("192.0.2.1", 1234)})


def knox_sql(session: AsyncSession, settings: KnoxSettings = SETTINGS) -> Knox:
    """Return `KnoxStrategy` over SQL."""
    return KnoxStrategy(SQLAlchemyTokenStore(session, KnoxToken), settings, request=request())


def knox_redis(redis: Redis, session: AsyncSession, settings: KnoxSettings = SETTINGS) -> Knox:
    """Return `KnoxStrategy` over Redis."""
    user_db = SQLAlchemyUserDatabase[User, uuid.UUID](session, User)
    return KnoxStrategy(RedisTokenStore(redis), settings, request=request(), user_db=user_db)


def jwt(_session: AsyncSession) -> AnyStrategy:
    """Return FastAPI-Users' `JWTStrategy`."""
    request()  # It does not need it, but the framework creates it.
    return JWTStrategy(SECRET, LIFETIME)


def database(session: AsyncSession) -> AnyStrategy:
    """Return FastAPI-Users' `DatabaseStrategy`."""
    request()
    return DatabaseStrategy(SQLAlchemyAccessTokenDatabase(session, AccessToken), LIFETIME)


def over_redis(redis: Redis, _session: AsyncSession) -> AnyStrategy:
    """Return FastAPI-Users' `RedisStrategy`."""
    request()
    return RedisStrategy(redis, LIFETIME)


def strategies(redis: Redis | None, settings: KnoxSettings = SETTINGS) -> Mapping[str, Make]:
    """Return, for each strategy, a function that makes it for one request; strategies over Redis need a client."""
    ours = our_strategies(redis, settings)
    peers: dict[str, Make] = {JWT: jwt, DATABASE: database}
    if redis is None:
        return {**ours, **peers}
    return {**ours, **peers, REDIS: partial(over_redis, redis)}


def our_strategies(redis: Redis | None, settings: KnoxSettings, kind: str = "") -> Mapping[str, Make]:
    """Return a function for each of our strategies, with these settings, by its name and this addition."""
    over_sql: dict[str, Make] = {KNOX_SQL + kind: partial(knox_sql, settings=settings)}
    if redis is None:
        return over_sql
    return over_sql | {KNOX_REDIS + kind: partial(knox_redis, redis, settings=settings)}
