"""The settings and signals of django-rest-knox, one by one, and what corresponds to each of them here."""

import hashlib
import inspect
import re
from datetime import datetime, timedelta
from typing import Any

import pytest
from fastapi_users.schemas import BaseUser
from fastapi_users_db_sqlalchemy import SQLAlchemyBaseUserTableUUID
from pydantic import BaseModel, SecretStr
from sqlalchemy.ext.asyncio import AsyncEngine
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from fastapi_users_knox import (
    KnoxBearerTransport,
    KnoxSettings,
    KnoxStrategy,
    TokenExpired,
    TokenIssued,
    TokenLimitReached,
    TokenRevoked,
)
from fastapi_users_knox.sqlalchemy import SQLAlchemyBaseKnoxTokenTableUUID, SQLAlchemyTokenStore
from tests.models import KnoxToken, User
from tests.strategies import HOUR, MILLISECOND, NOW, Knox, request, stored

KEY = SecretStr("a key of 32 bytes and a few more")


class UserRead(BaseUser[Any]):
    """The schema with which an application returns a user."""


# settings


async def test_secure_hash_algorithm(knox: Knox, engine: AsyncEngine) -> None:
    """SECURE_HASH_ALGORITHM: SHA-256, or HMAC-SHA-256 with `digest_keys`, which can be introduced without a logout."""
    token = await knox.strategy().issue(knox.user)

    assert (await stored(engine))[0].digest == hashlib.sha256(token.encode()).digest()
    keyed = KnoxSettings(digest_keys=(KEY,), accept_unkeyed_until=NOW + HOUR)
    assert await knox.accepts(token, keyed)


@pytest.mark.parametrize("prefix", ["", "knox_", "x" * 20])
async def test_auth_token_character_length(knox: Knox, prefix: str) -> None:
    """AUTH_TOKEN_CHARACTER_LENGTH: fixed at 51 characters after the prefix, 43 of which hold 256 random bits."""
    token = await knox.strategy(KnoxSettings(token_prefix=prefix)).issue(knox.user)

    assert re.fullmatch(prefix + "[0-9A-Za-z]{51}", token)


@pytest.mark.parametrize(("ttl", "expires_at"), [(HOUR, NOW + HOUR), (None, None)])
async def test_token_ttl(knox: Knox, ttl: timedelta | None, expires_at: datetime | None) -> None:
    """TOKEN_TTL: `token_ttl`, by default 10 hours; with None a token never expires."""
    token = await knox.strategy(KnoxSettings(token_ttl=ttl)).issue(knox.user)

    assert token.record.expires_at == expires_at
    assert KnoxSettings().token_ttl == timedelta(hours=10)


@pytest.mark.parametrize(("user_schema", "is_answered"), [(None, False), (UserRead, True)])
async def test_user_serializer(knox: Knox, user_schema: type[BaseModel] | None, *, is_answered: bool) -> None:
    """USER_SERIALIZER: the transport's `user_schema`; without it the login response does not contain the user."""
    transport = KnoxBearerTransport("auth/login", user_schema=user_schema)

    answer = await transport.get_login_response(await knox.strategy().issue(knox.user))

    assert (knox.user.email.encode() in answer.body) == is_answered


async def test_token_limit_per_user(knox: Knox) -> None:
    """TOKEN_LIMIT_PER_USER: `token_limit_per_user`; a login past it gets 403, and endless tokens count too."""
    strategy = knox.strategy(KnoxSettings(token_limit_per_user=1, token_ttl=None))
    await strategy.issue(knox.user)

    with pytest.raises(TokenLimitReached) as reached:
        await strategy.issue(knox.user)

    assert reached.value.status_code == 403


@pytest.mark.parametrize(("auto_refresh", "expires_at"), [(False, NOW + HOUR), (True, NOW + HOUR / 2 + HOUR)])
async def test_auto_refresh(knox: Knox, engine: AsyncEngine, expires_at: datetime, *, auto_refresh: bool) -> None:
    """AUTO_REFRESH: `auto_refresh`, by default off; each use moves the expiry to `token_ttl` from then."""
    settings = KnoxSettings(token_ttl=HOUR, auto_refresh=auto_refresh)
    token = await knox.strategy(settings).issue(knox.user)
    knox.clock.now += HOUR / 2

    await knox.strategy(settings).read_token(token, knox.user_manager)

    assert (await stored(engine))[0].expires_at == expires_at


async def test_auto_refresh_max_ttl(knox: Knox, engine: AsyncEngine) -> None:
    """AUTO_REFRESH_MAX_TTL: `auto_refresh_max_ttl`; no use moves the expiry past it."""
    settings = KnoxSettings(token_ttl=HOUR, auto_refresh=True, auto_refresh_max_ttl=HOUR * 5 / 4)
    token = await knox.strategy(settings).issue(knox.user)
    knox.clock.now += HOUR / 2

    await knox.strategy(settings).read_token(token, knox.user_manager)

    assert (await stored(engine))[0].expires_at == NOW + HOUR * 5 / 4


@pytest.mark.parametrize(("used_after", "is_refreshed"), [(60_000, False), (60_001, True)])
async def test_min_refresh_interval(knox: Knox, engine: AsyncEngine, used_after: int, *, is_refreshed: bool) -> None:
    """MIN_REFRESH_INTERVAL: `min_refresh_interval`, by default 60 seconds; smaller moves of the expiry are skipped."""
    settings = KnoxSettings(token_ttl=HOUR, auto_refresh=True)
    token = await knox.strategy(settings).issue(knox.user)
    knox.clock.now += used_after * MILLISECOND

    await knox.strategy(settings).read_token(token, knox.user_manager)

    assert ((await stored(engine))[0].expires_at > NOW + HOUR) == is_refreshed


@pytest.mark.parametrize("prefix", ["Bearer", "Token"])
async def test_auth_header_prefix(prefix: str) -> None:
    """AUTH_HEADER_PREFIX: the transport's `header_prefix`, by default "Bearer"."""
    transport = KnoxBearerTransport("auth/login", header_prefix=prefix)
    scheme: Any = transport.scheme

    presented = [
        await scheme(request(("Authorization", f"{spelt} knox_x"))) for spelt in (prefix, prefix.lower(), "Other")
    ]

    assert presented == ["knox_x", "knox_x", None]


async def test_expiry_datetime_format(knox: Knox) -> None:
    """EXPIRY_DATETIME_FORMAT: no setting; `expiry` is always ISO 8601 in UTC, as JSON readers expect."""
    token = await knox.strategy(KnoxSettings(token_ttl=HOUR)).issue(knox.user)

    answer = await KnoxBearerTransport("auth/login").get_login_response(token)

    assert b'"expiry":"2030-01-01T13:00:00Z"' in answer.body


async def test_token_model(knox: Knox, engine: AsyncEngine) -> None:
    """TOKEN_MODEL: the application's own table class, which it passes to the store."""

    class Base(DeclarativeBase):
        pass

    class Account(SQLAlchemyBaseUserTableUUID, Base):
        pass

    class Session(SQLAlchemyBaseKnoxTokenTableUUID, Base):
        __tablename__ = "sessions"
        note: Mapped[str | None] = mapped_column(default="mine")

    async with engine.begin() as connection:
        await connection.run_sync(Session.metadata.create_all)
    strategy: KnoxStrategy[User, Any] = KnoxStrategy(SQLAlchemyTokenStore(knox.session, Session), request=None)

    token = await strategy.issue(knox.user)

    assert (await knox.session.get_one(Session, token.record.id)).note == "mine"
    assert issubclass(KnoxToken, SQLAlchemyBaseKnoxTokenTableUUID)


@pytest.mark.parametrize("prefix", ["", "acme_"])
async def test_token_prefix(knox: Knox, prefix: str) -> None:
    """TOKEN_PREFIX: `token_prefix`, by default "knox_", up to 20 characters; changing it logs nobody out."""
    token = await knox.strategy(KnoxSettings(token_prefix=prefix)).issue(knox.user)

    assert token.startswith(prefix)
    assert await knox.accepts(token, KnoxSettings(token_prefix="other_"))


async def test_every_setting_names_its_equivalent_in_knox() -> None:
    """The docstring of each setting names the setting of django-rest-knox that it replaces."""
    ours = inspect.getsource(KnoxSettings)
    transport = inspect.getdoc(KnoxBearerTransport) or ""

    for name in (
        *("SECURE_HASH_ALGORITHM", "TOKEN_TTL", "TOKEN_LIMIT_PER_USER", "AUTO_REFRESH", "AUTO_REFRESH_MAX_TTL"),
        *("MIN_REFRESH_INTERVAL", "TOKEN_PREFIX", "AUTH_HEADER_PREFIX", "USER_SERIALIZER"),
    ):
        assert f"`{name}`" in ours + transport


# signals


async def test_token_expired(knox: Knox) -> None:
    """token_expired: `TokenExpired`, when an expired token is presented or its user logs in."""
    presented, other = [await knox.strategy().issue(knox.user, token_ttl=HOUR) for _ in range(2)]
    knox.clock.now += HOUR
    knox.events.clear()

    await knox.strategy().read_token(presented, knox.user_manager)
    await knox.strategy().issue(knox.user)

    expired = [event.record for event in knox.events if isinstance(event, TokenExpired)]
    assert expired == [presented.record, other.record]


async def test_user_logged_in(knox: Knox) -> None:
    """user_logged_in: `TokenIssued`, with the record, the request and the user's id."""
    login = request()

    token = await knox.strategy(request=login).write_token(knox.user)

    assert [type(event) for event in knox.events] == [TokenIssued]
    [event] = knox.events
    assert isinstance(event, TokenIssued)
    assert (event.record, event.request, event.user_id) == (token.record, login, knox.user.id)


async def test_user_logged_out(knox: Knox) -> None:
    """user_logged_out: `TokenRevoked`, with its reason, for each token that a logout revokes."""
    strategy = knox.strategy()
    token, *_ = [await strategy.issue(knox.user) for _ in range(3)]
    knox.events.clear()

    await strategy.destroy_token(token, knox.user)
    await strategy.logout_all(knox.user)

    reasons = [event.reason for event in knox.events if isinstance(event, TokenRevoked)]
    assert reasons == ["logout", "logout_all", "logout_all"]
