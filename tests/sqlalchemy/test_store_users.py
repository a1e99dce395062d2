"""If the store cannot find the user class by itself, the error says why and what to pass as `users`."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from fastapi_users_db_sqlalchemy import SQLAlchemyUserDatabase
from sqlalchemy import Boolean, Column, ColumnElement, ForeignKey, Integer, String, Table, insert, join
from sqlalchemy.ext.asyncio import (
    AsyncSession,
    create_async_engine,
)
from sqlalchemy.ext.hybrid import hybrid_property
from sqlalchemy.orm import DeclarativeBase, Mapped, column_property, mapped_column, synonym
from sqlalchemy.orm.mapper import _all_registries  # As in user_class.py.

from fastapi_users_knox import Credentials, KnoxError, UserClassError
from fastapi_users_knox.sqlalchemy import SQLAlchemyBaseKnoxTokenTable, SQLAlchemyTokenStore
from fastapi_users_knox.users import users_of
from tests.models import KnoxToken, User

Make = Callable[..., SQLAlchemyTokenStore[Any, Any]]
make: Make = SQLAlchemyTokenStore  # Type checkers refuse most of what follows.


ENGINE = create_async_engine("sqlite+aiosqlite://")


@pytest.fixture
def session() -> AsyncSession:
    """Return a session that is never connected."""
    return AsyncSession(ENGINE)


class Base(DeclarativeBase):
    """The declarative base of user classes that the store refuses, or that exist several times."""


class Unmapped(DeclarativeBase):
    """The declarative base of tokens without a mapped user class."""


class Stranger(Base):
    """A user to whom no tokens refer."""

    __tablename__ = "stranger"
    id: Mapped[int] = mapped_column(primary_key=True)
    hashed_password: Mapped[str]
    is_active: Mapped[bool]


class InPython(Base):
    """A user whose `is_active` is computed only in Python."""

    __tablename__ = "in_python"
    id: Mapped[int] = mapped_column(primary_key=True)
    hashed_password: Mapped[str]

    @property
    def is_active(self) -> bool:
        """Whether the user may log in."""
        return True


class HalfHybrid(Base):
    """A user whose `is_active` is a hybrid property that has another meaning in SQL."""

    __tablename__ = "half_hybrid"
    id: Mapped[int] = mapped_column(primary_key=True)
    hashed_password: Mapped[str]
    left: Mapped[bool | None]

    @hybrid_property
    def is_active(self) -> bool:
        """Whether the user has not left."""
        return self.left is None


class FailingHybrid(Base):
    """A user whose `is_active` is a hybrid property that raises in SQL."""

    __tablename__ = "failing_hybrid"
    id: Mapped[int] = mapped_column(primary_key=True)
    hashed_password: Mapped[str]
    left: Mapped[bool]

    @hybrid_property
    def is_active(self) -> bool:
        """Whether the user has not left."""
        return not self.left


class AndHybrid(Base):
    """A user whose `is_active` is a hybrid property with Python's `and`; SQL would get only one operand of it."""

    __tablename__ = "and_hybrid"
    id: Mapped[int] = mapped_column(primary_key=True)
    hashed_password: Mapped[str]
    enabled: Mapped[bool]
    paid: Mapped[bool]

    @hybrid_property
    def is_active(self) -> bool:
        """Whether the user may log in."""
        return self.enabled and self.paid


class AndExpression(Base):
    """A user whose `is_active` has an SQL expression that contains Python's `and`."""

    __tablename__ = "and_expression"
    id: Mapped[int] = mapped_column(primary_key=True)
    hashed_password: Mapped[str]
    enabled: Mapped[bool]
    paid: Mapped[bool]

    @hybrid_property
    def may_log_in(self) -> bool:
        """Whether the user may log in."""
        return self.enabled and self.paid

    @may_log_in.inplace.expression
    @classmethod
    def _may_log_in(cls) -> ColumnElement[bool]:
        return cls.enabled.expression is not None and cls.paid.expression

    is_active = synonym("may_log_in")


class Numbered(Base):
    """A user with another unique column besides the id."""

    __tablename__ = "numbered"
    id: Mapped[int] = mapped_column(primary_key=True)
    number: Mapped[int] = mapped_column(unique=True)
    hashed_password: Mapped[str]
    is_active: Mapped[bool]


class Person(Base):
    """A person, of whom two kinds can log in, each with its own table and password."""

    __tablename__ = "person"
    id: Mapped[int] = mapped_column(primary_key=True)
    is_active: Mapped[bool]


class Customer(Person):
    """A kind of user."""

    __tablename__ = "customer"
    id: Mapped[int] = mapped_column(ForeignKey("person.id"), primary_key=True)
    hashed_password: Mapped[str]


class Employee(Person):
    """Another kind of user."""

    __tablename__ = "employee"
    id: Mapped[int] = mapped_column(ForeignKey("person.id"), primary_key=True)
    hashed_password: Mapped[str]


def kind(name: str, **options: str) -> dict[str, str]:
    """Return the mapper options of one class in a hierarchy."""
    return {"polymorphic_identity": name, **options}


class Party(Base):
    """A party; parties of two kinds, both in one table, can log in."""

    __tablename__ = "party"
    __mapper_args__ = kind("party", polymorphic_on="kind")
    id: Mapped[int] = mapped_column(primary_key=True)
    kind: Mapped[str]


class Client(Party):
    """A kind of user."""

    __mapper_args__ = kind("client")
    hashed_password: Mapped[str | None] = mapped_column(use_existing_column=True)
    is_active: Mapped[bool | None] = mapped_column(use_existing_column=True)


class Worker(Party):
    """Another kind of user, in the same columns."""

    __mapper_args__ = kind("worker")
    hashed_password: Mapped[str | None] = mapped_column(use_existing_column=True)
    is_active: Mapped[bool | None] = mapped_column(use_existing_column=True)


ACCOUNTS = Table(
    "account",
    Base.metadata,
    Column("id", Integer, primary_key=True),
    Column("hashed_password", String(9)),
    Column("status", String(9)),
)


class Account(Base):
    """A user who is active unless the status is `banned`."""

    __table__ = ACCOUNTS
    is_active = column_property(ACCOUNTS.c.status != "banned")


class OldAccount(Base):
    """The same rows as `Account`, but active unless the status is `off`."""

    __table__ = ACCOUNTS
    is_active = column_property(ACCOUNTS.c.status != "off")


ENTRANTS = Table("entrant", Base.metadata, Column("id", Integer, primary_key=True), Column("is_active", Boolean))
PASSWORDS = Table(
    "password",
    Base.metadata,
    Column("number", Integer, primary_key=True),
    Column("entrant_id", Integer, ForeignKey("entrant.id")),
    Column("hashed_password", String(99)),
)


class Entrant(Base):
    """A user who may have several passwords, each in its own row."""

    __table__ = join(ENTRANTS, PASSWORDS)
    id = column_property(ENTRANTS.c.id, PASSWORDS.c.entrant_id)


Table("plain", Base.metadata, Column("id", Integer, primary_key=True))


class Reader(Base):
    """Another class over the same rows as `Stranger`."""

    __table__ = Stranger.__table__


def tokens_of(refers_to: str | None, base: type[DeclarativeBase] = Base) -> type[Any]:
    """Return a token class whose `user_id` refers to a column, or to nothing."""
    keys = () if refers_to is None else (ForeignKey(refers_to),)
    name = f"{base.__name__}_{refers_to}_token"
    fields = {"__tablename__": name, "user_id": mapped_column(*keys, type_=None if keys else Stranger.id.type)}
    return type(name, (SQLAlchemyBaseKnoxTokenTable, base), fields)


TO_CUSTOMER_OR_EMPLOYEE = tokens_of("person.id")
TO_PARTY = tokens_of("party.id")
TO_ACCOUNT = tokens_of("account.id")
TO_STRANGER = tokens_of("stranger.id")

UNSEEN: dict[str, tuple[type[Any], str]] = {
    "no foreign key": (tokens_of(None), "no foreign key"),
    "no table": (tokens_of("user.id", Unmapped), "could not find table 'user'"),
    "table without a class": (tokens_of("plain.id"), "no foreign key to a table of a mapped class"),
    "activity in Python": (tokens_of("in_python.id"), "InPython: is_active is not a column or SQL expression"),
    "activity in Python by a hybrid": (tokens_of("half_hybrid.id"), "HalfHybrid: is_active is not a column or SQL"),
    "failing hybrid": (tokens_of("failing_hybrid.id"), "FailingHybrid: is_active is not a column or SQL expression"),
    "Python's and in a hybrid": (tokens_of("and_hybrid.id"), "such as and_(cls.enabled, cls.paid)"),
    "Python's and in an expression": (tokens_of("and_expression.id"), ".expression without Python's and, or, not"),
    "another key": (tokens_of("numbered.number"), 'Numbered: id is not the column "numbered.number"'),
    "several rows": (tokens_of("entrant.id"), 'Entrant: several of its rows may belong to one "entrant.id"'),
    "two kinds of users": (TO_CUSTOMER_OR_EMPLOYEE, "rows or columns: Customer, Employee"),
    "two kinds of users in one table": (
        TO_PARTY,
        "several matching classes read different rows or columns: Client, Worker",
    ),
    "two ways to read one column": (
        TO_ACCOUNT,
        "several matching classes read different rows or columns: Account, OldAccount",
    ),
}


@pytest.mark.parametrize(("token", "why"), UNSEEN.values(), ids=UNSEEN)
def test_users_that_cannot_be_found_are_an_error(session: AsyncSession, token: type[Any], why: str) -> None:
    """If the user class cannot be found, the error says why, and which values of `users` are possible."""
    with pytest.raises(UserClassError) as raised:
        make(session, token)

    assert isinstance(raised.value, KnoxError)
    assert why in str(raised.value)
    assert "pass users=" in str(raised.value)
    assert "users=None" in str(raised.value)


@pytest.mark.parametrize(("token", "why"), UNSEEN.values(), ids=UNSEEN)
def test_users_that_are_elsewhere_may_be_meant(session: AsyncSession, token: type[Any], why: str) -> None:
    """With `users=None`, the store accepts such a table, and `sees_users` is false."""
    assert why
    assert make(session, token, users=None).sees_users is False


@pytest.mark.parametrize(
    ("token", "users"),
    [
        *((TO_CUSTOMER_OR_EMPLOYEE, users) for users in (Customer, Employee)),
        *((TO_PARTY, users) for users in (Client, Worker)),
        *((TO_ACCOUNT, users) for users in (Account, OldAccount)),
    ],
)
def test_one_of_several_may_be_named(session: AsyncSession, token: type[Any], users: type[Any]) -> None:
    """If several user classes are possible, the application can pass one of them."""
    assert make(session, token, users=users).sees_users is True


@pytest.mark.parametrize("users", [Stranger, KnoxToken])
def test_a_class_that_the_tokens_do_not_refer_to_is_refused(session: AsyncSession, users: type[Any]) -> None:
    """A user class to which the tokens do not refer is refused, because logins would check and lock other rows."""
    with pytest.raises(UserClassError, match=f"user_id does not refer to {users.__name__}"):
        make(session, TO_CUSTOMER_OR_EMPLOYEE, users=users)


def test_a_class_that_will_not_do_is_refused(session: AsyncSession) -> None:
    """A user class without the columns that a login checks is refused."""
    with pytest.raises(UserClassError, match="Person: hashed_password is not a column"):
        make(session, TO_CUSTOMER_OR_EMPLOYEE, users=Person)


def test_sqlalchemy_lists_every_registry() -> None:
    """SQLAlchemy's private `_all_registries` returns every registry; nothing public finds classes of other registries.

    If this fails after an upgrade of SQLAlchemy, `user_class.py` needs another way to find the mappers of a table.
    Otherwise it does not find user classes of other registries, and does not notice a second class over the same rows.
    """
    registries = set(_all_registries())

    assert {Base.registry, Unmapped.registry, User.registry} <= registries
    assert {Stranger.__mapper__, Reader.__mapper__} <= set(Base.registry.mappers)


def test_two_classes_over_the_same_rows_are_as_good_as_one(session: AsyncSession) -> None:
    """Two user classes over the same rows and columns are accepted, because either gives the same result."""
    assert make(session, TO_STRANGER).sees_users is True


@pytest.mark.parametrize("users", [InPython, HalfHybrid, AndHybrid])
async def test_a_user_db_needs_what_sql_can_read(session: AsyncSession, users: type[Any]) -> None:
    """A `user_db` whose `is_active` cannot be read by SQL is refused when it has to check a login."""
    user_db = SQLAlchemyUserDatabase[Any, Any](session, users)

    with pytest.raises(UserClassError, match=f"user_db must have .* {users.__name__}: is_active is not a column"):
        await users_of(user_db).credentials(7)


async def test_credentials_are_read_by_two_columns(tmp_path: Path) -> None:
    """The credentials of a user are read from the row, for a user class that has nothing else."""
    engine = create_async_engine(f"sqlite+aiosqlite:///{tmp_path}/users.db")
    async with engine.begin() as connection:
        await connection.run_sync(lambda it: Base.metadata.create_all(it, [Base.metadata.tables["stranger"]]))
        await connection.execute(insert(Stranger).values(id=7, hashed_password="hash", is_active=True))
    async with AsyncSession(engine) as session:
        users = users_of(SQLAlchemyUserDatabase[Any, Any](session, Stranger))

        assert await users.credentials(7) == Credentials(hashed_password="hash", is_active=True)
        assert await users.credentials(8) is None
    await engine.dispose()
