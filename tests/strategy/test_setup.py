"""What a strategy needs to be made with, and what it says where a check would silently be missing."""

import uuid
from typing import Any, cast

import pytest
from fastapi_users_db_sqlalchemy import SQLAlchemyUserDatabase
from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff

from fastapi_users_knox import KnoxSettings, KnoxStrategy
from fastapi_users_knox.redis import RedisTokenStore
from tests.models import KnoxToken, User, store_on
from tests.strategies import DEFAULTS, Knox

Make = cast("Any", KnoxStrategy)


@pytest.fixture
def unseeing() -> RedisTokenStore[User, uuid.UUID]:
    """Give a store that cannot see the users, and that is not called here."""
    return RedisTokenStore(Redis(port=1, retry=Retry(NoBackoff(), 0)))


async def test_the_request_is_named(knox: Knox) -> None:
    """Forgetting the request would silently lose addresses and what a login replaces, so it has no default."""
    with pytest.raises(TypeError, match="request"):
        Make(store_on(knox.session), DEFAULTS)


async def test_a_store_that_cannot_see_the_users_needs_them(unseeing: object) -> None:
    """Without `user_db` a login would silently not check its user again; `None` says that this is meant."""
    with pytest.raises(TypeError, match=r"user_db is missing: RedisTokenStore cannot see the users.*user_db=None"):
        Make(unseeing, DEFAULTS, request=None)

    assert Make(unseeing, DEFAULTS, request=None, user_db=None)


@pytest.mark.parametrize("store", [lambda knox: knox.session, lambda _knox: KnoxToken, lambda _knox: None])
async def test_something_else_than_a_store_is_refused(knox: Knox, store: Any) -> None:
    """A session or a table instead of the store is named at once, with the fix."""
    with pytest.raises(TypeError, match=r"store must be a TokenStore, such as SQLAlchemyTokenStore"):
        Make(store(knox), DEFAULTS, request=None)


@pytest.mark.parametrize(
    "user_db", [SQLAlchemyUserDatabase, "users", lambda knox: knox.user_manager, lambda knox: knox.session]
)
async def test_something_else_than_a_user_database_is_refused(knox: Knox, unseeing: object, user_db: Any) -> None:
    """A user manager has a `get` too, but what it returns may be an object of before."""
    given = user_db(knox) if callable(user_db) and not isinstance(user_db, type) else user_db
    with pytest.raises(TypeError, match="user_db must be FastAPI-Users' user database adapter"):
        Make(unseeing, DEFAULTS, request=None, user_db=given)


async def test_something_else_than_a_request_is_refused(knox: Knox) -> None:
    """A session instead of the request is named at once."""
    with pytest.raises(TypeError, match="request must be a Request or WebSocket, or None"):
        Make(store_on(knox.session), DEFAULTS, request=knox.session)


@pytest.mark.parametrize("settings", [KnoxSettings, {"token_ttl": None}, None])
async def test_something_else_than_settings_is_refused(knox: Knox, settings: object) -> None:
    """The settings are one value, not their class and not a dict."""
    with pytest.raises(TypeError, match="settings must be KnoxSettings"):
        Make(store_on(knox.session), settings, request=None)


class Reading:
    """A mix-in that decides by itself who is authenticated."""

    async def read_token(self, token: str | None, user_manager: object) -> None:
        """Let nobody in."""


async def test_read_token_is_not_overridden() -> None:
    """The routers call `authenticate`, so a class that overrides `read_token` is refused when it is made."""
    with pytest.raises(TypeError, match=r"Own overrides read_token.*override authenticate instead"):
        type("Own", (Reading, KnoxStrategy), {})


class Closed(KnoxStrategy[User, uuid.UUID]):
    """A strategy that lets nobody in."""

    async def authenticate(self, *_: object, **__: object) -> None:
        """Let nobody in."""


async def test_authenticate_is_overridden_for_all(knox: Knox) -> None:
    """What a subclass decides in `authenticate` holds for `read_token` too."""
    token = await knox.strategy().issue(knox.user)

    assert await Closed(store_on(knox.session), request=None).read_token(token, knox.user_manager) is None
