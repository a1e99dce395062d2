"""A subclass of the users that computes `is_active` in Python, and relationships that repeat rows by a join."""

import uuid
from collections.abc import AsyncIterator
from typing import Any

import pytest
from fastapi_users import BaseUserManager, UUIDIDMixin
from fastapi_users_db_sqlalchemy import SQLAlchemyBaseUserTableUUID, SQLAlchemyUserDatabase
from fastapi_users_db_sqlalchemy.generics import GUID
from sqlalchemy import ForeignKey, String, update
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column, relationship

from fastapi_users_knox import IssuedToken, KnoxStrategy
from fastapi_users_knox.sqlalchemy import SQLAlchemyBaseKnoxTokenTableUUID, SQLAlchemyTokenStore

pytestmark = [
    pytest.mark.anyio,
    pytest.mark.parametrize("any_backend", ["sqlite", "postgresql-asyncpg", "mariadb"], indirect=True),
]


class Base(DeclarativeBase):
    """The declarative base of this application."""


def kind_of(name: str, **options: str) -> dict[str, str]:
    """Return the mapper's arguments for a class of users."""
    return {"polymorphic_identity": name} | options


class Person(SQLAlchemyBaseUserTableUUID, Base):
    """A user with notes, which are loaded by a join, said in SQLAlchemy's two ways."""

    __tablename__ = "inherited_person"
    __mapper_args__ = kind_of("person", polymorphic_on="kind")
    kind: Mapped[str] = mapped_column(String(10), default="person")
    notes: Mapped[list["Note"]] = relationship(lazy="joined")
    same_notes: Mapped[list["Note"]] = relationship(lazy=False, viewonly=True)


class Suspended(Person):
    """A user who is never active, which no column shows."""

    __mapper_args__ = kind_of("suspended")


def make_inactive(users: Any) -> None:
    """Make a class compute that its users are inactive."""
    users.is_active = property(lambda _user: False)


make_inactive(Suspended)


class Note(Base):
    """A note of a user."""

    __tablename__ = "inherited_note"
    id: Mapped[int] = mapped_column(primary_key=True)
    person_id: Mapped[uuid.UUID] = mapped_column(GUID, ForeignKey("inherited_person.id"))


class Token(SQLAlchemyBaseKnoxTokenTableUUID, Base):
    """A token of a user."""

    __tablename__ = "inherited_token"
    user_id: Mapped[uuid.UUID] = mapped_column(ForeignKey("inherited_person.id", ondelete="cascade"), index=True)


class Manager(UUIDIDMixin, BaseUserManager[Person, uuid.UUID]):
    """The user manager."""


def strategy_on(session: AsyncSession) -> KnoxStrategy[Person, uuid.UUID]:
    """Return a strategy on a session."""
    return KnoxStrategy(SQLAlchemyTokenStore(session, Token), request=None)


@pytest.fixture
async def token(engine: AsyncEngine) -> AsyncIterator[IssuedToken]:
    """Issue a token to a user with two notes."""
    async with engine.begin() as connection:
        await connection.run_sync(Base.metadata.create_all)
    async with AsyncSession(engine, expire_on_commit=False) as session:
        person = Person(email="ada@example.org", hashed_password="hash", notes=[Note(), Note()])
        session.add(person)
        await session.commit()
        yield await strategy_on(session).issue(person)
    async with engine.begin() as connection:
        await connection.run_sync(Base.metadata.drop_all)


async def answers(engine: AsyncEngine, token: str) -> dict[str, Any]:
    """Return whether the token is accepted, by each way to ask."""
    async with AsyncSession(engine) as session:
        manager = Manager(SQLAlchemyUserDatabase(session, Person))
        strategy = strategy_on(session)
        return {
            "read_token": await strategy.read_token(token, manager) is not None,
            "authenticate_record": await strategy.authenticate_record(token) is not None,
            "read_record": await strategy.read_record(token) is not None,
        }


async def test_rows_that_a_join_repeats_are_one_user(engine: AsyncEngine, token: IssuedToken) -> None:
    """A user whose notes are loaded by a join is accepted."""
    assert set((await answers(engine, token)).values()) == {True}


async def test_a_subclass_decides_without_the_user_manager_too(engine: AsyncEngine, token: IssuedToken) -> None:
    """A user whose class computes that the user is inactive is refused, even if the request does not load the user."""
    async with engine.begin() as connection:
        await connection.execute(update(Person).values(kind="suspended"))

    assert set((await answers(engine, token)).values()) == {False}
