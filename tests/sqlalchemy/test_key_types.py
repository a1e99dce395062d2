"""`user_id` must have the type of the column that it refers to, and that column must be unique."""

import uuid
from collections.abc import Callable, Iterator, Sequence
from types import new_class
from typing import Any

import pytest
from fastapi_users_db_sqlalchemy.generics import GUID
from sqlalchemy import (
    CHAR,
    BigInteger,
    Boolean,
    Column,
    ForeignKey,
    ForeignKeyConstraint,
    Index,
    Integer,
    PrimaryKeyConstraint,
    String,
    Table,
    Text,
    TypeDecorator,
    UniqueConstraint,
    Uuid,
    text,
)
from sqlalchemy.engine import Dialect
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import DeclarativeBase, class_mapper, configure_mappers, mapped_column, registry
from sqlalchemy.schema import SchemaItem
from sqlalchemy.types import TypeEngine, UserDefinedType
from sqlmodel import AutoString

from fastapi_users_knox import UserClassError
from fastapi_users_knox.sqlalchemy import (
    SQLAlchemyBaseKnoxTokenTable,
    SQLAlchemyBaseKnoxTokenTableUUID,
    SQLAlchemyTokenStore,
)

Ids = TypeEngine[Any] | type[TypeEngine[Any]]


class HexUUID(TypeDecorator[uuid.UUID]):
    """An application's own column type for UUIDs."""

    impl: TypeEngine[Any] | type[TypeEngine[Any]] = CHAR(32)
    cache_ok: bool | None = True

    def process_bind_param(self, value: uuid.UUID | None, dialect: Dialect) -> str | None:  # noqa: ARG002 (SQLAlchemy's)
        """Store a UUID as text."""
        return None if value is None else value.hex


class OwnGUID(GUID):
    """An application's subclass of FastAPI-Users' column type."""

    cache_ok = True


class Opaque(UserDefinedType[Any]):
    """A type of a database that SQLAlchemy does not know."""

    cache_ok = True

    def get_col_spec(self, **_options: Any) -> str:
        """Return the name of the type in the database."""
        return "OPAQUE"


class DecoratedUUID(TypeDecorator[uuid.UUID]):
    """An application's own column type, over a type that does not state its Python type."""

    impl: TypeEngine[Any] | type[TypeEngine[Any]] = Opaque
    cache_ok: bool | None = True

    def process_bind_param(self, value: uuid.UUID | None, dialect: Dialect) -> str | None:  # noqa: ARG002 (SQLAlchemy's)
        """Store a UUID as text."""
        return None if value is None else value.hex


@pytest.fixture
def base() -> Iterator[type[DeclarativeBase]]:
    """Return an application's declarative base, and unmap its classes afterwards, as SQLAlchemy keeps refused ones."""

    class Base(DeclarativeBase):
        """The declarative base of one application."""

    yield Base
    Base.registry.dispose()


def map_users(base: type[DeclarativeBase], ids: Ids) -> None:
    """Map the users of an application."""

    class User:
        """A user."""

    columns = (Column("hashed_password", String(9)), Column("is_active", Boolean))
    table = Table("user", base.metadata, Column("id", ids, primary_key=True), *columns)
    base.registry.map_imperatively(User, table)


def map_tokens(base: type[DeclarativeBase], mixin: type[Any], stated: Ids | None = None) -> type[Any]:
    """Map the tokens of an application, with or without an explicit type for `user_id`."""
    user_id = mapped_column(ForeignKey("user.id"), type_=stated)
    return new_class("Token", (mixin, base), exec_body=lambda fields: fields.update(user_id=user_id))


OTHER_IDS: dict[str, tuple[type[Any], Ids]] = {
    "uuid over integer": (SQLAlchemyBaseKnoxTokenTableUUID, Integer),
    "uuid over big integer": (SQLAlchemyBaseKnoxTokenTableUUID, BigInteger),
    "uuid over text": (SQLAlchemyBaseKnoxTokenTableUUID, String(36)),
    "uuid over text of SQLModel": (SQLAlchemyBaseKnoxTokenTableUUID, AutoString(36)),
    "uuid over uuid as text": (SQLAlchemyBaseKnoxTokenTableUUID, Uuid(as_uuid=False)),
    "generic uuid over integer": (SQLAlchemyBaseKnoxTokenTable[uuid.UUID], Integer),
    "integer over uuid": (SQLAlchemyBaseKnoxTokenTable[int], Uuid),
    "integer over guid": (SQLAlchemyBaseKnoxTokenTable[int], GUID),
    "text over guid": (SQLAlchemyBaseKnoxTokenTable[str], GUID),
    "integer over own guid": (SQLAlchemyBaseKnoxTokenTable[int], OwnGUID),
    "text over integer": (SQLAlchemyBaseKnoxTokenTable[str], Integer),
}
OTHER_TYPES: dict[str, tuple[Ids, Ids]] = {
    "guid over uuid": (GUID, Uuid),
    "uuid over guid": (Uuid, GUID),
    "text over uuid": (String(36), Uuid),
    "text over guid": (String(36), GUID),
    "uuid as text over uuid": (Uuid(as_uuid=False), Uuid),
    "uuid as text over text": (Uuid(as_uuid=False), String(32)),
    "text over integer": (String(36), Integer),
    "guid over own type": (GUID, HexUUID),
    "own type over guid": (HexUUID, GUID),
}
LIKE_TYPES: dict[str, tuple[Ids, Ids]] = {
    "the same": (GUID, GUID),
    "own": (HexUUID, HexUUID),
    "integers": (BigInteger, Integer().with_variant(BigInteger, "postgresql")),
    "texts": (String(36), Text),
    "text of SQLModel": (String(36), AutoString(36)),
}
IDS: dict[str, tuple[type[Any], Ids]] = {
    "uuid": (SQLAlchemyBaseKnoxTokenTableUUID, Uuid),
    "guid": (SQLAlchemyBaseKnoxTokenTableUUID, GUID),
    "own": (SQLAlchemyBaseKnoxTokenTableUUID, HexUUID),
    "own guid": (SQLAlchemyBaseKnoxTokenTableUUID, OwnGUID),
    "over own type": (SQLAlchemyBaseKnoxTokenTableUUID, DecoratedUUID),
    "integer": (SQLAlchemyBaseKnoxTokenTable[int], Integer),
    "text": (SQLAlchemyBaseKnoxTokenTable[str], AutoString),
    "unstated": (SQLAlchemyBaseKnoxTokenTable, Integer),
}


@pytest.mark.parametrize(("mixin", "ids"), IDS.values(), ids=IDS)
def test_the_key_has_the_type_of_the_ids(base: type[DeclarativeBase], mixin: type[Any], ids: Ids) -> None:
    """`user_id` takes the type of the users' ids, so an application defines it only once."""
    token = map_tokens(base, mixin)
    map_users(base, ids)

    configure_mappers()

    assert token.__table__.c.user_id.type is base.metadata.tables["user"].c.id.type


@pytest.mark.parametrize(("mixin", "ids"), OTHER_IDS.values(), ids=OTHER_IDS)
def test_a_class_for_other_ids_is_refused(base: type[DeclarativeBase], mixin: type[Any], ids: Ids) -> None:
    """A token class whose ids have a different type from the users' ids raises an error when mappers are configured."""
    map_users(base, ids)
    map_tokens(base, mixin)

    with pytest.raises(UserClassError, match=r'Token is declared for ids of a different type from "user.id"'):
        configure_mappers()


@pytest.mark.parametrize(("stated", "ids"), OTHER_TYPES.values(), ids=OTHER_TYPES)
def test_another_type_is_refused(base: type[DeclarativeBase], stated: Ids, ids: Ids) -> None:
    """A type that stores the same ids in a different form raises an error with the fix when mappers are configured."""
    map_users(base, ids)
    map_tokens(base, SQLAlchemyBaseKnoxTokenTable, stated)

    with pytest.raises(UserClassError, match=r"Token.user_id is .* leave the type out"):
        configure_mappers()


@pytest.mark.parametrize(("stated", "ids"), LIKE_TYPES.values(), ids=LIKE_TYPES)
def test_a_type_that_stores_alike_is_accepted(base: type[DeclarativeBase], stated: Ids, ids: Ids) -> None:
    """A type for `user_id` that differs only in size or name is accepted."""
    map_users(base, ids)
    token = map_tokens(base, SQLAlchemyBaseKnoxTokenTable, stated)

    configure_mappers()

    assert SQLAlchemyTokenStore[Any, Any](AsyncSession(), token, users=None).sees_users is False


# uniqueness


UNIQUE: dict[str, Callable[[], Sequence[SchemaItem]]] = {
    "primary key": lambda: [PrimaryKeyConstraint("id")],
    "constraint": lambda: [UniqueConstraint("id")],
    "constraint beside others": lambda: [UniqueConstraint("id", "tenant"), UniqueConstraint("id")],
    "index": lambda: [Index("one_id", "id", unique=True)],
    "index beside others": lambda: [Index("some_id", "id"), Index("one_id", "id", unique=True)],
}
SHARED: dict[str, Callable[[], Sequence[SchemaItem]]] = {
    "nothing": list,
    "primary key of two": lambda: [PrimaryKeyConstraint("tenant", "id")],
    "constraint of two": lambda: [UniqueConstraint("tenant", "id")],
    "index that is not unique": lambda: [Index("some_id", "id")],
    "index of two": lambda: [Index("one_id", "tenant", "id", unique=True)],
    "index of some rows": lambda: [Index("one_id", "id", unique=True, sqlite_where=text("tenant = 1"))],
}
FOREIGN: dict[str, Callable[[], ForeignKeyConstraint]] = {
    "by id": lambda: ForeignKeyConstraint(["user_id"], ["user.id"]),
    "by tenant and id": lambda: ForeignKeyConstraint(["tenant", "user_id"], ["user.tenant", "user.id"]),
}


def map_tenants(
    base: type[DeclarativeBase], keys: Sequence[SchemaItem], foreign_key: ForeignKeyConstraint
) -> type[Any]:
    """Map the users of several tenants, and their tokens."""
    Table("user", base.metadata, Column("tenant", Integer), Column("id", Integer), *keys)
    fields = {
        "tenant": mapped_column(Integer),
        "user_id": mapped_column(Integer),
        "__table_args__": (foreign_key,),
    }
    mixin = SQLAlchemyBaseKnoxTokenTable[int]
    return new_class("Token", (mixin, base), exec_body=lambda body: body.update(fields))


@pytest.mark.parametrize("foreign_key", FOREIGN.values(), ids=FOREIGN)
@pytest.mark.parametrize("keys", SHARED.values(), ids=SHARED)
def test_ids_that_users_may_share_are_refused(
    base: type[DeclarativeBase],
    keys: Callable[[], Sequence[SchemaItem]],
    foreign_key: Callable[[], ForeignKeyConstraint],
) -> None:
    """User ids that are unique only within a tenant are refused, because a token would fit a user of another tenant."""
    map_tenants(base, keys(), foreign_key())

    with pytest.raises(UserClassError, match=r'"user.id", which several rows may share.* such as one with unique=True'):
        configure_mappers()


@pytest.mark.parametrize("foreign_key", FOREIGN.values(), ids=FOREIGN)
@pytest.mark.parametrize("keys", UNIQUE.values(), ids=UNIQUE)
def test_ids_that_are_unique_by_themselves_are_accepted(
    base: type[DeclarativeBase],
    keys: Callable[[], Sequence[SchemaItem]],
    foreign_key: Callable[[], ForeignKeyConstraint],
) -> None:
    """User ids that are unique by any constraint or index are accepted, whatever other columns the foreign key has."""
    token = map_tenants(base, keys(), foreign_key())

    configure_mappers()

    assert SQLAlchemyTokenStore[Any, Any](AsyncSession(), token, users=None).sees_users is False


def test_users_mapped_later_are_checked_by_the_store(base: type[DeclarativeBase]) -> None:
    """If the users are mapped after the token class was configured, the store refuses a wrong type at construction."""
    token = map_tokens(base, SQLAlchemyBaseKnoxTokenTable, GUID)
    class_mapper(token)
    map_users(base, Uuid)

    with pytest.raises(UserClassError, match="leave the type out"):
        SQLAlchemyTokenStore[Any, Any](AsyncSession(), token)


def test_a_class_that_is_unmapped_hinders_nobody(base: type[DeclarativeBase]) -> None:
    """A token class whose registry is disposed of does not keep other classes from being configured."""
    map_tokens(base, SQLAlchemyBaseKnoxTokenTable)
    base.registry.dispose()

    class Thing:
        """A class of another application."""

    other = registry()
    other.map_imperatively(Thing, Table("thing", other.metadata, Column("id", Integer, primary_key=True)))

    assert class_mapper(Thing).tables
