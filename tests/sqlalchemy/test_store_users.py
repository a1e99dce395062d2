"""The class of the users that the store is made with: where it cannot be found, an error says why, and what to pass."""

from collections.abc import Callable
from typing import Any

import pytest
from fastapi_users_db_sqlalchemy import SQLAlchemyUserDatabase
from sqlalchemy import Boolean, Column, ColumnElement, ForeignKey, Integer, String, Table, join
from sqlalchemy.ext.asyncio import (
    AsyncSession,
    create_async_engine,
)
from sqlalchemy.ext.hybrid import hybrid_property
from sqlalchemy.orm import DeclarativeBase, Mapped, column_property, mapped_column, synonym
from sqlalchemy.orm.mapper import _all_registries  # As in user_class.py.

from fastapi_users_knox import KnoxError, UserClassError
from fastapi_users_knox.sqlalchemy import SQLAlchemyBaseKnoxTokenTable, SQLAlchemyTokenStore
from fastapi_users_knox.users import users_of
from tests.models import KnoxToken, User

Make = Callable[..., SQLAlchemyTokenStore[Any, Any]]
make: Make = SQLAlchemyTokenStore  # Type checkers refuse most of what follows.


ENGINE = create_async_engine("sqlite+aiosqlite://")


@pytest.fixture
def session() -> AsyncSession:
    """Give the application's session, which connects to nothing."""
    return AsyncSession(ENGINE)


class Base(DeclarativeBase):
    """Classes that are no users to the store, or not the only ones."""


class Unmapped(DeclarativeBase):
    """Tokens whose users are not mapped."""


class Stranger(Base):
    """A class to which no tokens refer."""

    __tablename__ = "stranger"
    id: Mapped[int] = mapped_column(primary_key=True)
    hashed_password: Mapped[str]
    is_active: Mapped[bool]


class InPython(Base):
    """A user whose activity is worked out in Python."""

    __tablename__ = "in_python"
    id: Mapped[int] = mapped_column(primary_key=True)
    hashed_password: Mapped[str]

    @property
    def is_active(self) -> bool:
        """Whether the user may log in."""
        return True


class HalfHybrid(Base):
    """A user whose activity is a hybrid attribute that means something else in SQL."""

    __tablename__ = "half_hybrid"
    id: Mapped[int] = mapped_column(primary_key=True)
    hashed_password: Mapped[str]
    left: Mapped[bool | None]

    @hybrid_property
    def is_active(self) -> bool:
        """Whether the user is still here."""
        return self.left is None


class FailingHybrid(Base):
    """A user whose activity is a hybrid attribute that SQL cannot have."""

    __tablename__ = "failing_hybrid"
    id: Mapped[int] = mapped_column(primary_key=True)
    hashed_password: Mapped[str]
    left: Mapped[bool]

    @hybrid_property
    def is_active(self) -> bool:
        """Whether the user is still here."""
        return not self.left


class AndHybrid(Base):
    """A user whose activity is two columns and Python's `and`, of which SQL would get the second alone."""

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
    """A user whose activity has an SQL expression, and that has Python's `and` too."""

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
    """A user with another unique number beside the id."""

    __tablename__ = "numbered"
    id: Mapped[int] = mapped_column(primary_key=True)
    number: Mapped[int] = mapped_column(unique=True)
    hashed_password: Mapped[str]
    is_active: Mapped[bool]


class Person(Base):
    """Two kinds of whom can log in, each with a password of its own."""

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
    """Return the mapper's options of one class of a hierarchy."""
    return {"polymorphic_identity": name, **options}


class Party(Base):
    """Two kinds of whom can log in, all in one table."""

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
    """A user who is active unless banned."""

    __table__ = ACCOUNTS
    is_active = column_property(ACCOUNTS.c.status != "banned")


class OldAccount(Base):
    """The same users, of whom others are active."""

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
    """A user who may have several passwords, each in a row of its own."""

    __table__ = join(ENTRANTS, PASSWORDS)
    id = column_property(ENTRANTS.c.id, PASSWORDS.c.entrant_id)


Table("plain", Base.metadata, Column("id", Integer, primary_key=True))


class Reader(Base):
    """Another class over the very same rows as `Stranger`."""

    __table__ = Stranger.__table__


def tokens_of(refers_to: str | None, base: type[DeclarativeBase] = Base) -> type[Any]:
    """Map a token class."""
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
        "several classes match that read different rows or columns: Client, Worker",
    ),
    "two ways to read one column": (
        TO_ACCOUNT,
        "several classes match that read different rows or columns: Account, OldAccount",
    ),
}


@pytest.mark.parametrize(("token", "why"), UNSEEN.values(), ids=UNSEEN)
def test_users_that_cannot_be_found_are_an_error(session: AsyncSession, token: type[Any], why: str) -> None:
    """No protection falls away without a word: the error says why, and what to pass."""
    with pytest.raises(UserClassError) as raised:
        make(session, token)

    assert isinstance(raised.value, KnoxError)
    assert why in str(raised.value)
    assert "pass users=" in str(raised.value)
    assert "users=None" in str(raised.value)


@pytest.mark.parametrize(("token", "why"), UNSEEN.values(), ids=UNSEEN)
def test_users_that_are_elsewhere_may_be_meant(session: AsyncSession, token: type[Any], why: str) -> None:
    """With `users=None` the store is made, and states that it does not see them."""
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
    """Where several classes would do, the application says which it is."""
    assert make(session, token, users=users).sees_users is True


@pytest.mark.parametrize("users", [Stranger, KnoxToken])
def test_a_class_that_the_tokens_do_not_refer_to_is_refused(session: AsyncSession, users: type[Any]) -> None:
    """A user class that has nothing to do with the tokens would lock and check the wrong rows."""
    with pytest.raises(UserClassError, match=f"user_id does not refer to {users.__name__}"):
        make(session, TO_CUSTOMER_OR_EMPLOYEE, users=users)


def test_a_class_that_will_not_do_is_refused(session: AsyncSession) -> None:
    """A given class needs all that is looked at."""
    with pytest.raises(UserClassError, match="Person: hashed_password is not a column"):
        make(session, TO_CUSTOMER_OR_EMPLOYEE, users=Person)


def test_sqlalchemy_lists_every_registry() -> None:
    """What is private to SQLAlchemy, and the one way to a class that is mapped in another registry than the tokens.

    If it fails after an upgrade, `user_class.py` needs another way from a table to the mappers with rows in it.
    Otherwise such users are not found, and a second class over them passes unseen.
    """
    registries = set(_all_registries())

    assert {Base.registry, Unmapped.registry, User.registry} <= registries
    assert {Stranger.__mapper__, Reader.__mapper__} <= set(Base.registry.mappers)


def test_two_classes_over_the_same_rows_are_as_good_as_one(session: AsyncSession) -> None:
    """Either reads and locks the same rows and columns."""
    assert make(session, TO_STRANGER).sees_users is True


@pytest.mark.parametrize("users", [InPython, HalfHybrid, AndHybrid])
async def test_a_user_db_needs_what_sql_can_read(session: AsyncSession, users: type[Any]) -> None:
    """A login that is checked by `user_db`, over a store that cannot see the users, does not take a looser SQL."""
    user_db = SQLAlchemyUserDatabase[Any, Any](session, users)

    with pytest.raises(UserClassError, match=f"user_db must have .* {users.__name__}: is_active is not a column"):
        await users_of(user_db).credentials(7)
