"""The documented migration gives a table of an earlier release the columns and indexes of this one."""

import uuid
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import Any, cast

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from alembic.operations import Operations
from fastapi_users_db_sqlalchemy import SQLAlchemyBaseUserTableUUID
from sqlalchemy import Column, Connection, Index, MetaData, Table, insert, select
from sqlalchemy.ext.asyncio import AsyncEngine
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column
from sqlalchemy.schema import ForeignKey

from fastapi_users_knox.sqlalchemy import SQLAlchemyBaseKnoxTokenTableUUID
from tests.backends import Backend
from tests.docs.folder import load

pytestmark = pytest.mark.parametrize("any_backend", ["sqlite", "postgresql-asyncpg", "mariadb"], indirect=True)

NEW = {"expiry_hour", "scopes", "data", "token_ttl", "browser_session"}
EXPIRY = datetime(2030, 1, 1, 12, 34, 56, 789000, tzinfo=UTC)


class Base(DeclarativeBase):
    """The declarative base of these tables, separate from the base of the other tests."""


class Owner(SQLAlchemyBaseUserTableUUID, Base):
    """A user."""

    __tablename__ = "owner"


class OwnerToken(SQLAlchemyBaseKnoxTokenTableUUID, Base):
    """A token record."""

    __tablename__ = "owner_token"

    user_id: Mapped[uuid.UUID] = mapped_column(ForeignKey("owner.id", ondelete="cascade"))


def tables_of_an_earlier_release() -> tuple[Table, Table]:
    """Return the tables of users and tokens as they were before the columns of this release were added."""
    metadata = MetaData()
    users = cast("Table", Owner.__table__).to_metadata(metadata)
    current = cast("Table", OwnerToken.__table__)
    columns = [_copy(column) for column in current.columns if column.name not in NEW]
    tokens = Table(current.name, metadata, *columns)
    for name in ("user_id", "expires_at"):
        Index(f"ix_{current.name}_{name}", tokens.columns[name])
    return users, tokens


def _copy(column: Column[Any]) -> Column[Any]:
    """Return a column of the same type, with its keys."""
    keys = [ForeignKey("owner.id", ondelete="cascade")] if column.foreign_keys else []
    return Column(
        column.name,
        column.type,
        *keys,
        primary_key=column.primary_key,
        unique=column.unique,
        nullable=column.nullable,
    )


def differences(connection: Connection) -> list[Any]:
    """Return what Alembic would change in the tables of this test."""
    options = {
        "compare_server_default": True,
        "include_name": lambda name, kind, _parents: kind != "table" or name in Base.metadata.tables,
    }
    return list(compare_metadata(MigrationContext.configure(connection, opts=options), Base.metadata))


def migrate(connection: Connection, *, back: bool = False) -> None:
    """Run the documented migration."""
    migration = load("table_update")
    with Operations.context(MigrationContext.configure(connection)):
        (migration.downgrade if back else migration.upgrade)()


@pytest.fixture
async def engine(any_backend: Backend, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[AsyncEngine]:
    """Return an engine on a database without these tables, in which the migration applies to this test's table."""
    monkeypatch.setattr(load("table_update"), "TABLE", "owner_token")
    engine = any_backend.create_engine()
    yield engine
    async with engine.begin() as connection:
        await connection.run_sync(Base.metadata.drop_all)
    await engine.dispose()


@pytest.fixture
async def expiries(engine: AsyncEngine) -> dict[uuid.UUID, datetime | None]:
    """Create the tables of an earlier release with two tokens, and return the expiry of each token."""
    users, tokens = tables_of_an_earlier_release()
    user = {"id": uuid.uuid4(), "email": "ada@example.org", "hashed_password": "hash"}
    flags = {"is_active": True, "is_superuser": False, "is_verified": False}
    expiries = {uuid.uuid4(): EXPIRY, uuid.uuid4(): None}
    rows = [
        {
            "id": id_,
            "digest": id_.bytes * 2,
            "user_id": user["id"],
            "audience": "",
            "created_at": EXPIRY,
            "authenticated_at": EXPIRY,
            "expires_at": expires_at,
        }
        for id_, expires_at in expiries.items()
    ]
    async with engine.begin() as connection:
        await connection.run_sync(users.metadata.create_all)
        await connection.execute(insert(users), user | flags)
        await connection.execute(insert(tokens), rows)
    return expiries


async def test_a_new_table_does_not_differ(engine: AsyncEngine) -> None:
    """Alembic finds no difference between a table that `create_all` has created and the class."""
    async with engine.begin() as connection:
        await connection.run_sync(Base.metadata.create_all)

        assert await connection.run_sync(differences) == []


async def test_a_migrated_table_does_not_differ(
    engine: AsyncEngine, expiries: dict[uuid.UUID, datetime | None]
) -> None:
    """After the migration, Alembic finds no difference to the class; before it, there are differences."""
    async with engine.begin() as connection:
        before = await connection.run_sync(differences)
        await connection.run_sync(migrate)
        after = await connection.run_sync(differences)

    assert expiries
    assert before
    assert after == []


async def test_a_migration_keeps_the_rows(engine: AsyncEngine, expiries: dict[uuid.UUID, datetime | None]) -> None:
    """The migration keeps every row, and sets the hour of each expiry."""
    columns = cast("Table", OwnerToken.__table__).columns
    statement = select(columns["id"], columns["expires_at"], columns["expiry_hour"])
    async with engine.begin() as connection:
        await connection.run_sync(migrate)
        rows = (await connection.execute(statement)).all()

    hours = {EXPIRY: EXPIRY.replace(minute=0, second=0, microsecond=0), None: None}
    assert {row.id: row.expires_at for row in rows} == expiries
    assert all(row.expiry_hour == hours[row.expires_at] for row in rows)


async def test_a_migration_can_be_undone(engine: AsyncEngine, expiries: dict[uuid.UUID, datetime | None]) -> None:
    """After a downgrade the migration can run again."""
    async with engine.begin() as connection:
        await connection.run_sync(migrate)
        await connection.run_sync(lambda sync: migrate(sync, back=True))
        undone = await connection.run_sync(differences)
        await connection.run_sync(migrate)
        again = await connection.run_sync(differences)

    assert expiries
    assert undone
    assert again == []
