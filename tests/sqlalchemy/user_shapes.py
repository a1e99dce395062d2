"""The shapes in which applications map their users, each with a token class. The store must find every user class."""

import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import Boolean, Column, ColumnElement, ForeignKey, Integer, MetaData, String, Table, join
from sqlalchemy.ext.hybrid import hybrid_property
from sqlalchemy.orm import DeclarativeBase, Mapped, column_property, mapped_column, registry, synonym
from sqlmodel import Field, SQLModel

from fastapi_users_knox.sqlalchemy import SQLAlchemyBaseKnoxTokenTable, SQLAlchemyBaseKnoxTokenTableUUID

__all__ = ["LOOSER_SQL", "SHAPES", "Shape"]


@dataclass(frozen=True, kw_only=True)
class Shape:
    """A way to map users and tokens.

    Attributes:
        user: The user class of the application's user database.
        token: The token class.
        reads: The number of SELECTs that a read takes.
        id: The id of every user that the tests create, as in databases that reuse ids.
        password: The name of the attribute with the password hash.
        active: The other attributes of an active user.
        inactive: The attributes whose change deactivates the user.
    """

    user: type[Any]
    token: type[Any]
    reads: int = 1
    id: Any = 7
    password: str = "hashed_password"
    active: Mapping[str, Any] = field(default_factory=lambda: {"is_active": True})
    inactive: Mapping[str, Any] = field(default_factory=lambda: {"is_active": False})

    def new_user(self) -> Any:
        """Return a new user."""
        return self.user(**{"id": self.id, self.password: "hash"} | dict(self.active))

    @property
    def metadata(self) -> MetaData:
        """The metadata of both tables."""
        found: MetaData = self.token.metadata
        return found


def two_bases() -> Shape:
    """Two declarative bases with one MetaData, and so two registries."""

    class Base(DeclarativeBase):
        pass

    class TokenBase(DeclarativeBase):
        metadata = Base.metadata

    class User(Base):
        __tablename__ = "user"
        id: Mapped[int] = mapped_column(primary_key=True)
        hashed_password: Mapped[str] = mapped_column(String(99))
        is_active: Mapped[bool]

    return Shape(user=User, token=_tokens(TokenBase, "user.id"))


def tokens_first() -> Shape:
    """A token class that is mapped before the users."""

    class Base(DeclarativeBase):
        pass

    token = _tokens(Base, "user.id")

    class User(Base):
        __tablename__ = "user"
        id: Mapped[int] = mapped_column(primary_key=True)
        hashed_password: Mapped[str] = mapped_column(String(99))
        is_active: Mapped[bool]

    return Shape(user=User, token=token)


def _joined(refers_to: str, **options: Any) -> Shape:
    class Base(DeclarativeBase):
        pass

    class Person(Base):
        __tablename__ = "person"
        __mapper_args__ = _kind("person", polymorphic_on="kind", **options)
        id: Mapped[int] = mapped_column(primary_key=True)
        kind: Mapped[str] = mapped_column(String(9))
        is_active: Mapped[bool]

    class Company(Person):
        __tablename__ = "company"
        __mapper_args__ = _kind("company")
        id: Mapped[int] = mapped_column(ForeignKey("person.id"), primary_key=True)

    class User(Person):
        __tablename__ = "user"
        __mapper_args__ = _kind("user", **options)
        id: Mapped[int] = mapped_column(ForeignKey("person.id"), primary_key=True)
        hashed_password: Mapped[str] = mapped_column(String(99))

    class Admin(User):
        __tablename__ = "admin"
        __mapper_args__ = _kind("admin")
        id: Mapped[int] = mapped_column(ForeignKey("user.id"), primary_key=True)

    return Shape(user=User, token=_tokens(Base, refers_to))


def joined_by_user() -> Shape:
    """`class User(Person)` with its own table, to which the tokens refer."""
    return _joined("user.id")


def joined_by_person() -> Shape:
    """`class User(Person)` with tokens that refer to the table of `Person`. That table has other rows too."""
    return _joined("person.id")


def joined_eagerly() -> Shape:
    """`class User(Person)` with a SELECT that joins the tables of all subclasses."""
    return _joined("person.id", with_polymorphic="*")


def joined_by_other_names() -> Shape:
    """`class User(Person)` whose primary key has a different name from the primary key of `Person`."""

    class Base(DeclarativeBase):
        pass

    class Person(Base):
        __tablename__ = "person"
        id: Mapped[int] = mapped_column(primary_key=True)
        hashed_password: Mapped[str] = mapped_column(String(99))

    class User(Person):
        __tablename__ = "user"
        person_id: Mapped[int] = mapped_column(ForeignKey("person.id"), primary_key=True)
        is_active: Mapped[bool]

    return Shape(user=User, token=_tokens(Base, "user.person_id"))


def subclass() -> Shape:
    """Users that are a subclass with its own table, while the parent class has all columns that a login needs."""

    class Base(DeclarativeBase):
        pass

    class Person(Base):
        __tablename__ = "person"
        id: Mapped[int] = mapped_column(primary_key=True)
        hashed_password: Mapped[str] = mapped_column(String(99))
        is_active: Mapped[bool]

    class Customer(Person):
        __tablename__ = "customer"
        id: Mapped[int] = mapped_column(ForeignKey("person.id"), primary_key=True)

    return Shape(user=Customer, token=_tokens(Base, "person.id"), reads=2)


def single_table() -> Shape:
    """`class User(Person)` in the table of `Person`."""

    class Base(DeclarativeBase):
        pass

    class Person(Base):
        __tablename__ = "person"
        __mapper_args__ = _kind("person", polymorphic_on="kind")
        id: Mapped[int] = mapped_column(primary_key=True)
        kind: Mapped[str] = mapped_column(String(9))

    class User(Person):
        __mapper_args__ = _kind("user")
        hashed_password: Mapped[str | None] = mapped_column(String(99))
        is_active: Mapped[bool | None]

    return Shape(user=User, token=_tokens(Base, "person.id"))


def sqlmodel() -> Shape:
    """An SQLModel class with SQLAlchemy's own type for UUIDs, and tokens in a declarative base with its MetaData."""

    class User(SQLModel, table=True):
        __tablename__ = "sqlmodel_user"
        id: uuid.UUID = Field(default_factory=uuid.uuid4, primary_key=True)
        hashed_password: str
        is_active: bool

    class Base(DeclarativeBase):
        metadata = SQLModel.metadata

    # All SQLModel classes share one MetaData, so these tables need unique names.
    user_id = mapped_column(ForeignKey("sqlmodel_user.id"), nullable=False)
    fields = {"__tablename__": "sqlmodel_token", "user_id": user_id}
    return Shape(user=User, token=type("Token", (SQLAlchemyBaseKnoxTokenTableUUID, Base), fields), id=uuid.uuid4())


def own_uuids() -> Shape:
    """Users with SQLAlchemy's own type for UUIDs, and a token class that does not define `user_id`."""

    class Base(DeclarativeBase):
        pass

    class User(Base):
        __tablename__ = "user"
        id: Mapped[uuid.UUID] = mapped_column(primary_key=True, default=uuid.uuid4)
        hashed_password: Mapped[str] = mapped_column(String(99))
        is_active: Mapped[bool]

    return Shape(user=User, token=type("Token", (SQLAlchemyBaseKnoxTokenTableUUID, Base), {}), id=uuid.uuid4())


def imperative() -> Shape:
    """A plain class that is mapped imperatively to a Table."""

    class User:
        def __init__(self, **fields: Any) -> None:
            vars(self).update(fields)
            for name, value in fields.items():
                setattr(self, name, value)

    class Base(DeclarativeBase):
        pass

    columns = (Column("hashed_password", String(99)), Column("is_active", Boolean))
    registry().map_imperatively(User, Table("user", Base.metadata, Column("id", Integer, primary_key=True), *columns))
    return Shape(user=User, token=_tokens(Base, "user.id"))


def hybrid() -> Shape:
    """An `is_active` that is computed from another column, in Python and in SQL."""

    class Base(DeclarativeBase):
        pass

    class User(Base):
        __tablename__ = "user"
        id: Mapped[int] = mapped_column(primary_key=True)
        hashed_password: Mapped[str] = mapped_column(String(99))
        status: Mapped[str | None] = mapped_column(String(9))

        @hybrid_property
        def is_active(self) -> bool:
            return self.status == "active"

    token = _tokens(Base, "user.id")
    return Shape(user=User, token=token, active={"status": "active"}, inactive={"status": None})


def looser_sql() -> Shape:
    """An `is_active` that is true in SQL for more users than in Python."""

    class Base(DeclarativeBase):
        pass

    class User(Base):
        __tablename__ = "user"
        id: Mapped[int] = mapped_column(primary_key=True)
        hashed_password: Mapped[str] = mapped_column(String(99))
        enabled: Mapped[bool]
        paid: Mapped[bool]

        @hybrid_property
        def is_active(self) -> bool:
            return self.enabled and self.paid

        @is_active.inplace.expression
        @classmethod
        def _is_active(cls) -> ColumnElement[bool]:
            return cls.paid.is_(True)

    active = {"enabled": True, "paid": True}
    return Shape(user=User, token=_tokens(Base, "user.id"), active=active, inactive={"enabled": False})


def flags() -> Shape:
    """An `is_active` that is a bit of a number, which SQL reads as 4 or 0."""

    class Base(DeclarativeBase):
        pass

    class User(Base):
        __tablename__ = "user"
        id: Mapped[int] = mapped_column(primary_key=True)
        hashed_password: Mapped[str] = mapped_column(String(99))
        flags: Mapped[int]

        @hybrid_property
        def is_active(self) -> bool:
            return bool(self.flags & 4)

        @is_active.inplace.expression
        @classmethod
        def _is_active(cls) -> ColumnElement[int]:
            return cls.flags.bitwise_and(4)

    return Shape(user=User, token=_tokens(Base, "user.id"), active={"flags": 5}, inactive={"flags": 3})


def renamed() -> Shape:
    """Attributes whose names differ from their columns' names, and synonyms."""

    class Base(DeclarativeBase):
        pass

    class User(Base):
        __tablename__ = "user"
        number: Mapped[int] = mapped_column("user_no", primary_key=True)
        password: Mapped[str] = mapped_column("pw", String(99))
        is_active: Mapped[bool] = mapped_column("enabled")
        id = synonym("number")
        hashed_password = synonym("password")

    return Shape(user=User, token=_tokens(Base, "user.user_no"), password="password")


def properties() -> Shape:
    """Columns and SQL expressions as `column_property`."""

    class Base(DeclarativeBase):
        pass

    table = Table(
        "user",
        Base.metadata,
        Column("user_no", Integer, primary_key=True),
        Column("pw", String(99)),
        Column("locked", Integer, nullable=False),
    )

    class User(Base):
        __table__ = table
        id = column_property(table.c.user_no)
        hashed_password = column_property(table.c.pw)
        is_active = column_property(table.c.locked == 0)
        locked = column_property(table.c.locked)

    return Shape(user=User, token=_tokens(Base, "user.user_no"), active={"locked": 0}, inactive={"locked": 1})


def two_tables() -> Shape:
    """One class that is mapped to a join of two tables."""

    class Base(DeclarativeBase):
        pass

    people = Table("person", Base.metadata, Column("id", Integer, primary_key=True), Column("is_active", Boolean))
    logins = Table(
        "login",
        Base.metadata,
        Column("person_id", Integer, ForeignKey("person.id"), primary_key=True),
        Column("hashed_password", String(99)),
    )

    class User(Base):
        __table__ = join(people, logins)
        id = column_property(people.c.id, logins.c.person_id)

    return Shape(user=User, token=_tokens(Base, "person.id"))


def _kind(name: str, **options: Any) -> dict[str, Any]:
    """Return the mapper options of one class in a hierarchy."""
    return {"polymorphic_identity": name} | options


def _tokens(base: type[DeclarativeBase], refers_to: str) -> type[Any]:
    """Return a token class whose foreign key has no cascade."""
    fields = {"user_id": mapped_column(ForeignKey(refers_to), nullable=False)}
    return type("Token", (SQLAlchemyBaseKnoxTokenTable, base), fields)


_MAKERS: tuple[Callable[[], Shape], ...] = (
    *(two_bases, tokens_first, joined_by_user, joined_by_person, joined_eagerly, joined_by_other_names, subclass),
    *(single_table, sqlmodel, own_uuids, imperative, hybrid, flags, renamed, properties, two_tables),
)
SHAPES: Mapping[str, Shape] = {make.__name__: make() for make in _MAKERS}
LOOSER_SQL: Mapping[str, Shape] = {"looser_sql": looser_sql()}
