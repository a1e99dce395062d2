"""The type of `user_id`: taken from the column it refers to, and refused where another one is stated."""

import uuid
from collections.abc import Iterator
from types import new_class
from typing import Any

import pytest
from fastapi_users_db_sqlalchemy.generics import GUID
from sqlalchemy import CHAR, BigInteger, Boolean, Column, ForeignKey, Integer, String, Table, Text, TypeDecorator, Uuid
from sqlalchemy.engine import Dialect
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import DeclarativeBase, class_mapper, configure_mappers, mapped_column, registry
from sqlalchemy.types import TypeEngine
from sqlmodel import AutoString

from fastapi_users_knox import UserClassError
from fastapi_users_knox.sqlalchemy import (
    SQLAlchemyBaseKnoxTokenTable,
    SQLAlchemyBaseKnoxTokenTableUUID,
    SQLAlchemyTokenStore,
)

Ids = TypeEngine[Any] | type[TypeEngine[Any]]


class HexUUID(TypeDecorator[uuid.UUID]):
    """An application's own type for UUIDs."""

    impl: TypeEngine[Any] | type[TypeEngine[Any]] = CHAR(32)
    cache_ok: bool | None = True

    def process_bind_param(self, value: uuid.UUID | None, dialect: Dialect) -> str | None:  # noqa: ARG002 (SQLAlchemy's)
        """Store it as text."""
        return None if value is None else value.hex


@pytest.fixture
def base() -> Iterator[type[DeclarativeBase]]:
    """Give an application's base, and unmap its classes afterwards: SQLAlchemy does not forget those it refused."""

    class Base(DeclarativeBase):
        """The metadata of one application."""

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
    """Map the tokens of an application, with or without a type stated for the key."""
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
    "integer": (SQLAlchemyBaseKnoxTokenTable[int], Integer),
    "text": (SQLAlchemyBaseKnoxTokenTable[str], AutoString),
    "unstated": (SQLAlchemyBaseKnoxTokenTable, Integer),
}


@pytest.mark.parametrize(("mixin", "ids"), IDS.values(), ids=IDS)
def test_the_key_has_the_type_of_the_ids(base: type[DeclarativeBase], mixin: type[Any], ids: Ids) -> None:
    """It is stated once, where the users are mapped."""
    token = map_tokens(base, mixin)
    map_users(base, ids)

    configure_mappers()

    assert token.__table__.c.user_id.type is base.metadata.tables["user"].c.id.type


@pytest.mark.parametrize(("mixin", "ids"), OTHER_IDS.values(), ids=OTHER_IDS)
def test_a_class_for_other_ids_is_refused(base: type[DeclarativeBase], mixin: type[Any], ids: Ids) -> None:
    """A token class for UUIDs over numbers, or the other way round, fails when the classes are configured."""
    map_users(base, ids)
    map_tokens(base, mixin)

    with pytest.raises(UserClassError, match=r'Token is a token class for other ids than those of "user.id"'):
        configure_mappers()


@pytest.mark.parametrize(("stated", "ids"), OTHER_TYPES.values(), ids=OTHER_TYPES)
def test_another_type_is_refused(base: type[DeclarativeBase], stated: Ids, ids: Ids) -> None:
    """A key that stores the same id in another form fails when the classes are configured, and the fix is named."""
    map_users(base, ids)
    map_tokens(base, SQLAlchemyBaseKnoxTokenTable, stated)

    with pytest.raises(UserClassError, match=r"Token.user_id is .* leave the type out"):
        configure_mappers()


@pytest.mark.parametrize(("stated", "ids"), LIKE_TYPES.values(), ids=LIKE_TYPES)
def test_a_type_that_stores_alike_is_accepted(base: type[DeclarativeBase], stated: Ids, ids: Ids) -> None:
    """A key may state a type that differs in nothing but its size or its name."""
    map_users(base, ids)
    token = map_tokens(base, SQLAlchemyBaseKnoxTokenTable, stated)

    configure_mappers()

    assert SQLAlchemyTokenStore[Any, Any](AsyncSession(), token, users=None).sees_users is False


def test_users_mapped_later_are_checked_by_the_store(base: type[DeclarativeBase]) -> None:
    """Where the token class was configured before there were users, the store refuses the key when it is made."""
    token = map_tokens(base, SQLAlchemyBaseKnoxTokenTable, GUID)
    class_mapper(token)
    map_users(base, Uuid)

    with pytest.raises(UserClassError, match="leave the type out"):
        SQLAlchemyTokenStore[Any, Any](AsyncSession(), token)


def test_a_class_that_is_unmapped_hinders_nobody(base: type[DeclarativeBase]) -> None:
    """Once an application has disposed of its registry, others are configured as ever."""
    map_tokens(base, SQLAlchemyBaseKnoxTokenTable)
    base.registry.dispose()

    class Thing:
        """Another application's class."""

    other = registry()
    other.map_imperatively(Thing, Table("thing", other.metadata, Column("id", Integer, primary_key=True)))

    assert class_mapper(Thing).tables
