"""The arguments of `KnoxStrategy`, and the errors when one is missing or has the wrong type."""

import uuid
from typing import Any, cast

import pytest
from fastapi_users_db_sqlalchemy import SQLAlchemyUserDatabase
from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff

from fastapi_users_knox import KnoxSettings, KnoxStrategy, LoginOptions
from fastapi_users_knox.redis import RedisTokenStore
from tests.models import KnoxToken, User, store_on
from tests.strategies import DEFAULTS, Knox

Make = cast("Any", KnoxStrategy)


@pytest.fixture
def unseeing() -> RedisTokenStore[User, uuid.UUID]:
    """Return a store that cannot see the users; it is never called in these tests."""
    return RedisTokenStore(Redis(port=1, retry=Retry(NoBackoff(), 0)))


async def test_the_request_is_required(knox: Knox) -> None:
    """`request` has no default, because without it client addresses and replaced tokens would silently be lost."""
    with pytest.raises(TypeError, match="request"):
        Make(store_on(knox.session), DEFAULTS)


async def test_a_store_that_cannot_see_the_users_needs_user_db(unseeing: object) -> None:
    """A store that cannot see the users requires `user_db`; None states that a login does not check the user again."""
    with pytest.raises(TypeError, match=r"user_db is missing: RedisTokenStore cannot see the users.*user_db=None"):
        Make(unseeing, DEFAULTS, request=None)

    assert Make(unseeing, DEFAULTS, request=None, user_db=None)


@pytest.mark.parametrize("store", [lambda knox: knox.session, lambda _knox: KnoxToken, lambda _knox: None])
async def test_something_else_than_a_store_is_refused(knox: Knox, store: Any) -> None:
    """Passing a session or a table instead of a store raises a TypeError that names the fix."""
    with pytest.raises(TypeError, match=r"store must be a TokenStore, such as SQLAlchemyTokenStore"):
        Make(store(knox), DEFAULTS, request=None)


@pytest.mark.parametrize(
    "user_db", [SQLAlchemyUserDatabase, "users", lambda knox: knox.user_manager, lambda knox: knox.session]
)
async def test_something_else_than_a_user_database_is_refused(knox: Knox, unseeing: object, user_db: Any) -> None:
    """Passing a user manager as `user_db` is refused, because its `get` may return a stale user object."""
    given = user_db(knox) if callable(user_db) and not isinstance(user_db, type) else user_db
    with pytest.raises(TypeError, match="user_db must be FastAPI-Users' user database adapter"):
        Make(unseeing, DEFAULTS, request=None, user_db=given)


async def test_something_else_than_a_request_is_refused(knox: Knox) -> None:
    """Passing a session instead of the request raises a TypeError."""
    with pytest.raises(TypeError, match="request must be a Request or WebSocket, or None"):
        Make(store_on(knox.session), DEFAULTS, request=knox.session)


@pytest.mark.parametrize("settings", [KnoxSettings, {"token_ttl": None}, None])
async def test_something_else_than_settings_is_refused(knox: Knox, settings: object) -> None:
    """Passing the settings' class, a dict or None instead of a `KnoxSettings` raises a TypeError."""
    with pytest.raises(TypeError, match="settings must be KnoxSettings"):
        Make(store_on(knox.session), settings, request=None)


@pytest.mark.parametrize("login_options", [LoginOptions(), {"token_ttl": None}])
async def test_something_else_than_a_function_of_options_is_refused(knox: Knox, login_options: object) -> None:
    """Passing the options themselves instead of a function raises a TypeError, before the first login."""
    with pytest.raises(TypeError, match="login_options must be a function of the user and the request"):
        Make(store_on(knox.session), DEFAULTS, request=None, login_options=login_options)


async def test_it_shows_its_store_and_its_settings(knox: Knox) -> None:
    """A strategy shows the store and the settings with which it was made."""
    store = store_on(knox.session)

    strategy = KnoxStrategy(store, DEFAULTS, request=None)

    assert (strategy.store, strategy.settings) == (store, DEFAULTS)


class Reading:
    """A mix-in with its own `read_token`."""

    async def read_token(self, token: str | None, user_manager: object) -> None:
        """Refuse every token."""


async def test_read_token_is_not_overridden() -> None:
    """A subclass that overrides `read_token` is refused when it is defined, because the routers call `authenticate`."""
    with pytest.raises(TypeError, match="Own overrides read_token: override authenticate, which the routers call"):
        type("Own", (Reading, KnoxStrategy), {})


class Closed(KnoxStrategy[User, uuid.UUID]):
    """A strategy that refuses every token."""

    async def authenticate(self, *_: object, **__: object) -> None:
        """Refuse every token."""


async def test_authenticate_is_overridden_for_all(knox: Knox) -> None:
    """`read_token` obeys a subclass that overrides `authenticate`."""
    token = await knox.strategy().issue(knox.user)

    assert await Closed(store_on(knox.session), request=None).read_token(token, knox.user_manager) is None


async def test_a_subclass_may_override_other_methods(knox: Knox) -> None:
    """A subclass that overrides no `read_token` is created and used like `KnoxStrategy`."""

    class Own(KnoxStrategy[User, uuid.UUID]):
        """An application's own strategy."""

    own = Own(store_on(knox.session), DEFAULTS, request=None)

    assert await own.read_token(await own.write_token(knox.user), knox.user_manager) is knox.user
