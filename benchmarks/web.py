"""An application for uvicorn with one route, which needs a token of the strategy that the variable SUBJECT names.

Its dependencies are those of the tutorial's application: for our strategies after the change, for others before it.
"""

import os
import uuid
from collections.abc import AsyncIterator
from typing import Annotated

from fastapi import Depends, FastAPI
from fastapi_users import FastAPIUsers
from fastapi_users.authentication import AuthenticationBackend, BearerTransport
from fastapi_users_db_sqlalchemy import SQLAlchemyUserDatabase
from redis.asyncio import Redis
from sqlalchemy.ext.asyncio import AsyncSession, create_async_engine

from benchmarks.load import CONNECTIONS
from benchmarks.models import KnoxToken, KnoxUserManager, User, UserManager
from benchmarks.peers import (
    KNOX_REDIS,
    NO_AUTHENTICATION,
    RECORD_ALONE,
    SETTINGS,
    SLIDING,
    SLIDING_SETTINGS,
    AnyStrategy,
    Knox,
    strategies,
)
from fastapi_users_knox import KnoxBearerTransport, TokenRecord, TokenStore, current_token, knox_strategy
from fastapi_users_knox.redis import RedisTokenStore
from fastapi_users_knox.sqlalchemy import SQLAlchemyTokenStore

SUBJECT = os.environ["SUBJECT"]
REDIS_URL = os.environ["REDIS_URL"]

engine = create_async_engine(os.environ["DATABASE_URL"], pool_size=CONNECTIONS)
redis = Redis.from_url(REDIS_URL, decode_responses=True) if REDIS_URL else None
app = FastAPI()


async def get_session() -> AsyncIterator[AsyncSession]:
    """Open the session of a request."""
    async with AsyncSession(engine, expire_on_commit=False) as session:
        yield session


Session = Annotated[AsyncSession, Depends(get_session)]


async def get_user_db(session: Session) -> SQLAlchemyUserDatabase[User, uuid.UUID]:
    """Return the user database."""
    return SQLAlchemyUserDatabase(session, User)


UserDatabase = Annotated[SQLAlchemyUserDatabase[User, uuid.UUID], Depends(get_user_db)]


async def get_sql_store(session: Session) -> TokenStore[User, uuid.UUID]:
    """Return our store over SQL."""
    return SQLAlchemyTokenStore(session, KnoxToken)


async def get_redis_store() -> TokenStore[User, uuid.UUID]:
    """Return our store over Redis."""
    assert redis is not None
    return RedisTokenStore(redis)


get_store = get_redis_store if SUBJECT.startswith(KNOX_REDIS) else get_sql_store
settings = SLIDING_SETTINGS if SUBJECT.endswith(SLIDING) else SETTINGS
get_knox_strategy = knox_strategy(get_store, settings, get_user_db=get_user_db)


async def get_knox_user_manager(
    user_db: UserDatabase, strategy: Annotated[Knox, Depends(get_knox_strategy)]
) -> AsyncIterator[KnoxUserManager]:
    """Return the user manager of an application with our strategy."""
    yield KnoxUserManager(user_db, knox=strategy)


async def get_strategy(session: Session) -> AnyStrategy:
    """Return the strategy of a peer."""
    return strategies(redis)[SUBJECT](session)


async def get_user_manager(user_db: UserDatabase) -> AsyncIterator[UserManager]:
    """Return the user manager of an application with a peer."""
    yield UserManager(user_db)


knox = AuthenticationBackend(name="knox", transport=KnoxBearerTransport("login"), get_strategy=get_knox_strategy)
peer = AuthenticationBackend(name="peer", transport=BearerTransport("login"), get_strategy=get_strategy)
knox_users = FastAPIUsers[User, uuid.UUID](get_knox_user_manager, [knox])
peer_users = FastAPIUsers[User, uuid.UUID](get_user_manager, [peer])
current_record = current_token(knox_users, knox, load_user=False)
current_user = (knox_users if SUBJECT.startswith("KnoxStrategy") else peer_users).current_user(active=True)


async def anybody() -> User:
    """Return a user who is not stored anywhere."""
    return User(email="jane@example.org")


async def me(
    user: Annotated[User, Depends(anybody if SUBJECT == NO_AUTHENTICATION else current_user)],
) -> dict[str, str]:
    """Return the user's e-mail address."""
    return {"email": user.email}


async def my_id(record: Annotated[TokenRecord[uuid.UUID], Depends(current_record)]) -> dict[str, str]:
    """Return the user's id, for which the user need not be loaded."""
    return {"id": str(record.user_id)}


app.get("/me")(my_id if SUBJECT.endswith(RECORD_ALONE) else me)
