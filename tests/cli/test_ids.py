"""USER is an id of any type."""

from pathlib import Path
from typing import Any

import pytest
from anyio import to_thread
from fastapi_users_db_sqlalchemy import SQLAlchemyBaseUserTable
from redis.asyncio import Redis
from sqlalchemy import String
from sqlalchemy.ext.asyncio import AsyncSession, create_async_engine
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from fastapi_users_knox import KnoxStrategy
from fastapi_users_knox.redis import RedisTokenStore
from fastapi_users_knox.settings.settings import utc_now
from fastapi_users_knox.sqlalchemy import SQLAlchemyBaseKnoxTokenTable, SQLAlchemyTokenStore
from fastapi_users_knox.testing.contract import add, new_record
from tests.cli.place import Place, run_program


class NumberBase(DeclarativeBase):
    """The declarative base of users with numbers."""


class Customer(SQLAlchemyBaseUserTable[int], NumberBase):
    """A user with a number."""

    id: Mapped[int] = mapped_column(primary_key=True)


class CustomerToken(SQLAlchemyBaseKnoxTokenTable[int], NumberBase):
    """A token of a user with a number."""


class TextBase(DeclarativeBase):
    """The declarative base of users with texts."""


class Author(SQLAlchemyBaseUserTable[str], TextBase):
    """A user with a text."""

    id: Mapped[str] = mapped_column(String(36), primary_key=True)


class AuthorToken(SQLAlchemyBaseKnoxTokenTable[str], TextBase):
    """A token of a user with a text."""


@pytest.mark.parametrize(
    ("base", "user", "table"),
    [(NumberBase, Customer(id=17), CustomerToken), (TextBase, Author(id="jane"), AuthorToken)],
)
async def test_ids_in_sql_have_the_type_of_their_column(
    tmp_path: Path, base: type[DeclarativeBase], user: Any, table: type[Any]
) -> None:
    """In SQL, USER is converted to the type of the users' ids."""
    url = f"sqlite+aiosqlite:///{tmp_path}/ids.db"
    engine = create_async_engine(url)
    async with engine.begin() as connection:
        await connection.run_sync(base.metadata.create_all)
    async with AsyncSession(engine, expire_on_commit=False) as session:
        user.email, user.hashed_password = "jane@example.org", "hash"
        session.add(user)
        await session.commit()
        await KnoxStrategy(SQLAlchemyTokenStore[Any, Any](session, table), request=None).issue(user)
    await engine.dispose()

    options = ["--database", url, "--table", f"tests.cli.test_ids:{table.__name__}"]
    by_id, by_email = [await list_sessions(options, name) for name in (user.id, user.email)]

    assert by_id == by_email
    assert f"1 live sessions of user {user.id}\n" in by_id


async def list_sessions(options: list[str], user: object) -> str:
    """List the sessions of a user, outside of this event loop."""
    result = await to_thread.run_sync(run_program, [*options, "sessions", str(user)], {})
    assert result.exit_code == 0, result.output
    return result.stdout


async def test_ids_in_redis_have_the_type_of_the_option(redis: Place) -> None:
    """In Redis, `--id-type` and `--users` say how ids are stored."""
    async with Redis.from_url(redis.options[1]) as client:
        store = RedisTokenStore[Any, int](client, parse_id=int, users="customer", key_prefix="shop:")
        await add(store, new_record(17, audience="", created_at=utc_now(), expires_at=None))
    options = [*redis.options, "--id-type", "int", "--users", "customer", "--key-prefix", "shop:"]

    listed = await redis.run_with(options, "sessions", 17)
    everyone = await redis.run_with(options, "logout-everyone", "--yes")

    assert "1 live sessions of user 17" in listed.stdout
    assert everyone.stdout.startswith("1 sessions of 1 users are revoked.")
