"""Token tables with other ids, other names or more columns work, and have the documented indexes and keys."""

from collections.abc import AsyncIterator
from typing import Any

import pytest
from fastapi_users import BaseUserManager, IntegerIDMixin
from fastapi_users_db_sqlalchemy import (
    SQLAlchemyBaseOAuthAccountTable,
    SQLAlchemyBaseUserTable,
    SQLAlchemyUserDatabase,
)
from sqlalchemy import Connection, ForeignKey, String, delete, event, inspect, select
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession
from sqlalchemy.orm import DeclarativeBase, Mapped, declared_attr, mapped_column, relationship

from fastapi_users_knox import KnoxSettings, KnoxStrategy, LimitUnsupported, TokenLimitReached
from fastapi_users_knox.sqlalchemy import SQLAlchemyBaseKnoxTokenTable, SQLAlchemyTokenStore, UTCDateTime
from tests.backends import Backend
from tests.strategies import NOW, sent_to, verbs

pytestmark = pytest.mark.parametrize("any_backend", ["sqlite", "postgresql-asyncpg", "mariadb"], indirect=True)


class Base(DeclarativeBase):
    """The declarative base of these tables, separate from the base of the other tests."""


class OAuthAccount(SQLAlchemyBaseOAuthAccountTable[int], Base):
    """An OAuth account of a user."""

    id: Mapped[int] = mapped_column(primary_key=True)

    @declared_attr
    def user_id(cls) -> Mapped[int]:
        """The foreign key to the user."""
        return mapped_column(ForeignKey("person.id", ondelete="cascade"), nullable=False)


class Person(SQLAlchemyBaseUserTable[int], Base):
    """A user with an integer id, in a table with another name."""

    __tablename__ = "person"

    id: Mapped[int] = mapped_column(primary_key=True)
    oauth_accounts: Mapped[list[OAuthAccount]] = relationship(lazy="joined")


class PersonToken(SQLAlchemyBaseKnoxTokenTable[int], Base):
    """A token record with two additional columns."""

    __tablename__ = "person_token"

    scope: Mapped[str] = mapped_column(String(20), default="all")
    note: Mapped[str | None] = mapped_column(String(20))

    @declared_attr
    def user_id(cls) -> Mapped[int]:
        """The foreign key to the user."""
        return mapped_column(ForeignKey("person.id", ondelete="cascade"), nullable=False)


class LooseToken(SQLAlchemyBaseKnoxTokenTable[int], Base):
    """A token record without a foreign key to the users."""

    __tablename__ = "loose_token"

    user_id: Mapped[int] = mapped_column()


class PersonManager(IntegerIDMixin, BaseUserManager[Person, int]):
    """A user manager of users with integer ids."""


Strategy = KnoxStrategy[Person, int]


def strategy_on(session: AsyncSession, **settings: Any) -> Strategy:
    """Return a strategy."""
    return KnoxStrategy(SQLAlchemyTokenStore(session, PersonToken), KnoxSettings(**settings), request=None)


def loose_strategy_on(session: AsyncSession, **settings: Any) -> Strategy:
    """Return a strategy whose store does not see the users, because its table has no foreign key."""
    store: SQLAlchemyTokenStore[Person, int] = SQLAlchemyTokenStore(session, LooseToken, users=None)
    return KnoxStrategy(store, KnoxSettings(**settings), request=None, user_db=None)


def manager_on(session: AsyncSession) -> PersonManager:
    """Return a user manager on a session."""
    return PersonManager(SQLAlchemyUserDatabase(session, Person, OAuthAccount))


@pytest.fixture
async def engine(any_backend: Backend) -> AsyncIterator[AsyncEngine]:
    """Return an engine on new tables, and drop them afterwards."""
    engine = any_backend.create_engine()
    async with engine.begin() as connection:
        await connection.run_sync(Base.metadata.create_all)
    yield engine
    async with engine.begin() as connection:
        await connection.run_sync(Base.metadata.drop_all)
    await engine.dispose()


@pytest.fixture
async def session(engine: AsyncEngine) -> AsyncIterator[AsyncSession]:
    """Return a session."""
    async with AsyncSession(engine) as session:
        yield session


@pytest.fixture
async def ada(session: AsyncSession) -> Person:
    """Return a user."""
    return await new_person(session, "ada@example.org")


async def new_person(session: AsyncSession, email: str) -> Person:
    """Store a user."""
    person = Person(email=email, hashed_password="hash")
    session.add(person)
    await session.commit()
    await session.refresh(person)
    return person


async def test_ids_may_be_numbers(session: AsyncSession, ada: Person) -> None:
    """Users with integer ids can log in, be read, have a limit, and log out everywhere."""
    strategy = strategy_on(session, token_limit_per_user=1)

    token = await strategy.issue(ada)

    assert token.record.user_id == ada.id
    assert await strategy.read_token(token, manager_on(session)) is ada
    assert await strategy.list_records(ada) == [token.record]
    with pytest.raises(TokenLimitReached):
        await strategy.issue(ada)
    assert await strategy.logout_all(ada) == 1


async def test_a_table_may_have_more_columns(session: AsyncSession, ada: Person) -> None:
    """Additional columns of a token table get their defaults, and the application can set them."""
    token = await strategy_on(session).issue(ada)

    row = await session.get_one(PersonToken, token.record.id)
    row.note = "for the backup"
    await session.commit()
    await session.refresh(row)

    assert (row.scope, row.note) == ("all", "for the backup")
    assert await strategy_on(session).read_record(token) == token.record


async def test_users_come_with_what_is_loaded_eagerly(engine: AsyncEngine, session: AsyncSession, ada: Person) -> None:
    """A user with an eagerly joined collection is read by one statement, with the whole collection."""
    for name in ("one", "two"):
        session.add(OAuthAccount(user_id=ada.id, oauth_name=name, access_token="", account_id=name, account_email=""))
    token = await strategy_on(session).issue(ada)

    async with AsyncSession(engine) as later:
        with sent_to(engine) as statements:
            user = await strategy_on(later).read_token(token, manager_on(later))
        assert user is not None
        assert sorted(account.oauth_name for account in user.oauth_accounts) == ["one", "two"]

    assert verbs(statements) == ["SELECT"]


async def test_a_table_without_a_foreign_key_serves_without_a_limit(session: AsyncSession, ada: Person) -> None:
    """Without a foreign key, tokens are issued and read, and the user manager loads the users."""
    strategy = loose_strategy_on(session)

    token = await strategy.issue(ada)

    assert await strategy.read_token(token, manager_on(session)) is ada
    assert await strategy.read_record(token) == token.record


async def test_a_table_without_a_foreign_key_takes_no_limit(session: AsyncSession, ada: Person) -> None:
    """Without a foreign key, a limit is refused with the reason before anything is written."""
    strategy = loose_strategy_on(session, token_limit_per_user=1)

    with pytest.raises(LimitUnsupported, match="token_limit_per_user needs user_id to be a foreign key"):
        await strategy.issue(ada)

    assert (await session.execute(select(LooseToken))).all() == []


async def test_a_table_without_a_foreign_key_refuses_the_inactive(
    engine: AsyncEngine, session: AsyncSession, ada: Person
) -> None:
    """Without a foreign key, the user that the manager loads decides whether the user is active."""
    token = await loose_strategy_on(session).issue(ada)
    ada.is_active = False
    await session.commit()

    async with AsyncSession(engine) as later:
        assert await loose_strategy_on(later).read_token(token, manager_on(later)) is None


async def test_a_user_s_tokens_are_found_by_an_index(engine: AsyncEngine) -> None:
    """The table has a unique digest, two indexes with `expiry_hour`, and a foreign key with a cascade."""

    def columns(connection: Connection) -> tuple[list[Any], list[Any], list[Any]]:
        tables = inspect(connection)
        unique = [found["column_names"] for found in tables.get_unique_constraints("person_token")]
        indexed = [found["column_names"] for found in tables.get_indexes("person_token")]
        return unique, indexed, tables.get_foreign_keys("person_token")

    async with engine.connect() as connection:
        unique, indexed, foreign = await connection.run_sync(columns)

    assert ["digest"] in unique
    assert ["user_id", "expiry_hour"] in indexed
    assert ["expiry_hour"] in indexed
    assert [(key["constrained_columns"], key["options"]) for key in foreign] == [(["user_id"], {"ondelete": "CASCADE"})]


async def test_a_deleted_user_takes_the_tokens_along(engine: AsyncEngine, session: AsyncSession, ada: Person) -> None:
    """A database that enforces foreign keys deletes the tokens together with the user."""
    if engine.dialect.name == "sqlite":
        event.listen(engine.sync_engine, "checkout", lambda dbapi, *_: dbapi.execute("PRAGMA foreign_keys = ON"))
    await strategy_on(session).issue(ada)

    await session.execute(delete(Person))
    await session.commit()

    assert (await session.execute(select(PersonToken))).all() == []


async def test_a_number_that_is_used_again_brings_no_tokens_along(session: AsyncSession, ada: Person) -> None:
    """A new user with the id of a deleted one is not logged in by the old tokens."""
    number, token = ada.id, await strategy_on(session).issue(ada)
    await SQLAlchemyUserDatabase[Person, int](session, Person).delete(ada)

    eve = Person(id=number, email="eve@example.org", hashed_password="other")
    session.add(eve)
    await session.commit()

    assert await strategy_on(session).read_token(token, manager_on(session)) is None


async def test_without_a_word_the_key_is_the_users_own(engine: AsyncEngine) -> None:
    """By default, `user_id` refers to the `id` of a table named "user", and takes its type from there."""

    class Plain(DeclarativeBase):
        """The declarative base of another application."""

    class User(SQLAlchemyBaseUserTable[int], Plain):
        """A user."""

        id: Mapped[int] = mapped_column(primary_key=True)

    class Token(SQLAlchemyBaseKnoxTokenTable[int], Plain):
        """A token record."""

    column = Token.__table__.c.user_id

    assert [key.column for key in column.foreign_keys] == [User.__table__.c.id]
    assert column.type.compile(engine.dialect) == User.__table__.c.id.type.compile(engine.dialect)


async def test_a_naive_moment_is_refused(engine: AsyncEngine) -> None:
    """A datetime without a time zone is refused, and not taken for UTC."""
    with pytest.raises(ValueError, match="timezone-aware"):
        UTCDateTime().process_bind_param(NOW.replace(tzinfo=None), engine.dialect)
