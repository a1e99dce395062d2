"""Every token table has the indexes on `expiry_hour`, and free space in its pages, however its class is written."""

import uuid
from collections.abc import AsyncIterator, Sequence
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from fastapi_users_db_sqlalchemy import SQLAlchemyBaseUserTableUUID
from sqlalchemy import Column, Connection, ForeignKey, MetaData, String, Table, func, select, text
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, AsyncSession
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column
from sqlalchemy.schema import CreateIndex

from fastapi_users_knox import KnoxSettings, KnoxStrategy
from fastapi_users_knox.sqlalchemy import SQLAlchemyBaseKnoxTokenTableUUID
from tests.backends import NOW, Backend
from tests.models import create_user, store_on, user_manager_on

EVERYWHERE = pytest.mark.parametrize("any_backend", ["sqlite", "postgresql-asyncpg", "mariadb"], indirect=True)
ON_POSTGRESQL = pytest.mark.parametrize("any_backend", ["postgresql-asyncpg"], indirect=True)
SAME_HOUR = timedelta(minutes=5)


def _options(**options: object) -> dict[str, object]:
    """Return options of a mapper."""
    return options


class Base(DeclarativeBase):
    """The declarative base of an application with a naming convention."""

    metadata = MetaData(
        naming_convention={
            "ix": "ix_%(column_0_label)s",
            "uq": "uq_%(table_name)s_%(column_0_name)s",
            "fk": "fk_%(table_name)s_%(column_0_name)s_%(referred_table_name)s",
            "pk": "pk_%(table_name)s",
        }
    )


class Reader(SQLAlchemyBaseUserTableUUID, Base):
    """A user."""

    __tablename__ = "reader"


class Commented(SQLAlchemyBaseKnoxTokenTableUUID, Base):
    """A token class with its own table arguments, whose key to the user has its own index and another column name."""

    __tablename__ = "commented_token"
    __table_args__ = ({"comment": "The tokens of the readers."},)

    user_id: Mapped[uuid.UUID] = mapped_column("reader", ForeignKey("reader.id", ondelete="cascade"), index=True)


class Parent(SQLAlchemyBaseKnoxTokenTableUUID, Base):
    """A token class with subclasses, whose table has a name as long as PostgreSQL and MariaDB allow."""

    __tablename__ = "parent_token_with_a_name_of_sixty_characters_0123456789_0123"

    kind: Mapped[str] = mapped_column(String(20))
    user_id: Mapped[uuid.UUID] = mapped_column(ForeignKey("reader.id", ondelete="cascade"))

    __mapper_args__ = _options(polymorphic_on="kind", polymorphic_identity="parent")


class Single(Parent):
    """A subclass in the same table."""

    __mapper_args__ = _options(polymorphic_identity="single")


class Joined(Parent):
    """A subclass with a table of its own for its additional columns."""

    __tablename__ = "joined_token"

    id: Mapped[uuid.UUID] = mapped_column(ForeignKey(f"{Parent.__tablename__}.id"), primary_key=True)
    note: Mapped[str | None] = mapped_column(String(20))

    __mapper_args__ = _options(polymorphic_identity="joined")


_plain = [Column(column.name, column.type, primary_key=column.primary_key) for column in Commented.__table__.columns]


class Concrete(Commented):
    """A subclass with a complete table of its own, which the application has defined."""

    __table__ = Table("concrete_token", Base.metadata, *_plain)
    __mapper_args__ = _options(concrete=True)

    if not TYPE_CHECKING:
        user_id = __table__.columns["reader"]


class Again(SQLAlchemyBaseKnoxTokenTableUUID, Base):
    """A second class on the same table."""

    __table__ = Commented.__table__

    if not TYPE_CHECKING:
        user_id = __table__.columns["reader"]


def indexed(token_class: type[Base]) -> Sequence[Sequence[str]]:
    """Return the columns of each index of a class's table."""
    table = token_class.__table__
    assert isinstance(table, Table)
    return sorted([column.name for column in index.columns] for index in table.indexes)


@pytest.mark.parametrize(
    ("token_class", "expected"),
    [
        (Commented, [["expiry_hour"], ["reader"], ["reader", "expiry_hour"]]),
        (Parent, [["expiry_hour"], ["user_id", "expiry_hour"]]),
        (Joined, []),
        (Concrete, [["reader", "expiry_hour"]]),
        (Again, [["expiry_hour"], ["reader"], ["reader", "expiry_hour"]]),
    ],
)
def test_each_table_has_its_indexes_once(token_class: type[Base], expected: list[list[str]]) -> None:
    """Each table with an expiry has the indexes exactly once, whatever its class and subclasses define."""
    assert indexed(token_class) == expected


def test_a_table_in_a_schema_has_its_indexes() -> None:
    """The indexes are in the schema that a class names in its table arguments."""

    class Apart(DeclarativeBase):
        """The declarative base of another application."""

    class User(SQLAlchemyBaseUserTableUUID, Apart):
        """A user."""

    class Token(SQLAlchemyBaseKnoxTokenTableUUID, Apart):
        """A token record."""

        __table_args__ = ({"schema": "auth"},)

    table = Token.__table__
    assert {User.__tablename__, "auth.knox_token"} == set(Apart.metadata.tables)
    assert isinstance(table, Table)
    created = [str(CreateIndex(index)) for index in table.indexes]

    assert sorted(created) == [
        "CREATE INDEX ix_auth_knox_token_expiry_hour ON auth.knox_token (expiry_hour)",
        "CREATE INDEX ix_knox_token_user_id_expiry_hour ON auth.knox_token (user_id, expiry_hour)",
    ]


def test_a_subclass_adds_no_index() -> None:
    """A subclass adds no index, neither to the table of its superclass nor to the table of its additional columns."""

    class Apart(DeclarativeBase):
        """The declarative base of another application."""

    class Token(SQLAlchemyBaseKnoxTokenTableUUID, Apart):
        """A token record."""

        user_id: Mapped[uuid.UUID] = mapped_column()

    class NamedToken(Token):
        """A subclass in the same table."""

    class NotedToken(Token):
        """A subclass with another table."""

        __tablename__ = "note"

        id: Mapped[uuid.UUID] = mapped_column(ForeignKey("knox_token.id"), primary_key=True)

    found = {table.name: len(table.indexes) for table in Apart.metadata.tables.values()}

    assert issubclass(NamedToken, Token)
    assert found == {"knox_token": 2, NotedToken.__tablename__: 0}


def differences(connection: Connection) -> list[Any]:
    """Return what Alembic would change in the tables of this test."""
    names = Base.metadata.tables
    options = {"include_name": lambda name, kind, _parents: kind != "table" or name in names}
    return list(compare_metadata(MigrationContext.configure(connection, opts=options), Base.metadata))


@EVERYWHERE
async def test_alembic_finds_no_difference(any_backend: Backend) -> None:
    """Alembic finds no difference between the created tables and their classes."""
    engine = any_backend.create_engine()
    async with engine.begin() as connection:
        await connection.run_sync(Base.metadata.create_all)
        found = await connection.run_sync(differences)
        await connection.run_sync(Base.metadata.drop_all)
    await engine.dispose()

    assert found == []


async def fill_factor(connection: AsyncConnection, table: str) -> list[str] | None:
    """Return the storage parameters of a table."""
    statement = text("SELECT reloptions FROM pg_class WHERE oid = CAST(:name AS regclass)")
    found: list[str] | None = (await connection.execute(statement, {"name": table})).scalar_one()
    return found


@pytest.fixture
async def in_schema(any_backend: Backend) -> AsyncIterator[AsyncConnection]:
    """Return a connection whose transaction is rolled back, and that translates the schema of the tables."""
    engine = any_backend.create_engine(execution_options={"schema_translate_map": {None: "tenant%1"}})
    async with engine.connect() as connection:
        await connection.exec_driver_sql('CREATE SCHEMA "tenant%1"')
        yield connection
        await connection.rollback()
    await engine.dispose()


@ON_POSTGRESQL
async def test_pages_have_free_space(in_schema: AsyncConnection) -> None:
    """On PostgreSQL, a new table leaves space in each page for refreshed rows, also in a translated schema."""
    await in_schema.run_sync(Base.metadata.create_all)

    assert await fill_factor(in_schema, '"tenant%1".commented_token') == ["fillfactor=85"]
    assert await fill_factor(in_schema, '"tenant%1".reader') is None


@ON_POSTGRESQL
async def test_a_partitioned_table_can_be_created(in_schema: AsyncConnection) -> None:
    """A partitioned table has no fill factor, because PostgreSQL would refuse it."""

    class Apart(DeclarativeBase):
        """The declarative base of another application."""

    class Token(SQLAlchemyBaseKnoxTokenTableUUID, Apart):
        """A token record in a table of several parts."""

        __tablename__ = "partitioned_token"
        __table_args__ = ({"postgresql_partition_by": "HASH (digest)"},)

        id: Mapped[uuid.UUID] = mapped_column()
        digest: Mapped[bytes] = mapped_column(primary_key=True)
        user_id: Mapped[uuid.UUID] = mapped_column()

    assert list(Apart.metadata.tables) == [Token.__tablename__]
    await in_schema.run_sync(Apart.metadata.create_all)

    assert await fill_factor(in_schema, '"tenant%1".partitioned_token') is None


@ON_POSTGRESQL
async def test_a_refresh_touches_no_index(engine: AsyncEngine) -> None:
    """On PostgreSQL, a refresh within the hour of the expiry is a HOT update: it changes no index."""
    settings = KnoxSettings(auto_refresh=True, min_refresh_interval=timedelta(seconds=1))
    updates = [
        func.pg_stat_get_xact_tuples_updated(text("'knox_token'::regclass")),
        func.pg_stat_get_xact_tuples_hot_updated(text("'knox_token'::regclass")),
    ]
    async with engine.connect() as connection:
        session = AsyncSession(connection, join_transaction_mode="create_savepoint", expire_on_commit=False)
        user = await create_user(session)
        clock = iter([NOW, NOW + SAME_HOUR])
        strategy = KnoxStrategy(store_on(session), settings, request=None, clock=lambda: next(clock))
        token = await strategy.issue(user)

        await strategy.read_token(token, user_manager_on(session))

        assert tuple((await connection.execute(select(*updates))).one()) == (1, 1)
        await session.close()
