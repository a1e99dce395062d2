"""Alembic's autogenerate: what it writes for the token table can be run, checked, undone and run again."""

import re
import uuid
from collections.abc import Callable
from functools import partial
from pathlib import Path

import alembic
import pytest
from alembic import command
from alembic.config import Config
from fastapi_users_db_sqlalchemy import SQLAlchemyBaseUserTableUUID
from sqlalchemy import CheckConstraint, Connection, Index, MetaData, String
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column
from sqlalchemy.schema import CreateSchema, ForeignKey

from fastapi_users_knox.sqlalchemy import SQLAlchemyBaseKnoxTokenTableUUID
from tests.backends import Backend
from tests.docs.folder import SRC

NAMES = {
    "ix": "index_of_%(table_name)s_on_%(column_0_N_name)s",
    "uq": "unique_%(column_0_name)s_of_%(table_name)s",
    "ck": "check_%(constraint_name)s_of_%(table_name)s",
    "fk": "key_of_%(table_name)s_to_%(referred_table_name)s",
    "pk": "key_of_%(table_name)s",
}
SCHEMA = "alembic_round_trip"
ENV = """
from alembic import context

attributes = context.config.attributes
metadata = attributes["metadata"]
names = {table.name for table in metadata.tables.values()}
context.configure(
    connection=attributes["connection"],
    target_metadata=metadata,
    render_as_batch=True,
    include_schemas=metadata.schema is not None,
    include_name=lambda name, kind, _parents: name in {"table": names, "schema": {metadata.schema}}.get(kind, {name}),
    version_table="alembic_round_trip",
)
with context.begin_transaction():
    context.run_migrations()
"""


def usual() -> MetaData:
    """Return the tables of an application as in the tutorial, but with other names."""

    class Base(DeclarativeBase):
        pass

    class User(SQLAlchemyBaseUserTableUUID, Base):
        __tablename__ = "usual_user"

    class Token(SQLAlchemyBaseKnoxTokenTableUUID, Base):
        __tablename__ = "usual_token"
        user_id: Mapped[uuid.UUID] = mapped_column(ForeignKey("usual_user.id", ondelete="cascade"))

    return Base.metadata


def own(schema: str | None = None) -> MetaData:
    """Return tables with a naming convention, a column, an index, a constraint and a comment of their own."""
    users = "customers.id" if schema is None else f"{schema}.customers.id"

    class Base(DeclarativeBase):
        metadata = MetaData(naming_convention=NAMES, schema=schema)

    class Customer(SQLAlchemyBaseUserTableUUID, Base):
        __tablename__ = "customers"

    class Access(SQLAlchemyBaseKnoxTokenTableUUID, Base):
        __tablename__ = "customer_tokens"
        __table_args__ = (
            Index(None, "ip_address"),
            CheckConstraint("name <> ''", name="named"),
            {"comment": "devices"},
        )
        user_id: Mapped[uuid.UUID] = mapped_column(ForeignKey(users, ondelete="cascade"))
        plan: Mapped[str | None] = mapped_column(String(20))

    return Base.metadata


def scripts(folder: Path) -> Config:
    """Create a folder of migrations, whose revisions have the imports that the page shows."""
    template = (Path(alembic.__file__).parent / "templates" / "generic" / "script.py.mako").read_text()
    below = "import sqlalchemy as sa\n"
    (folder / "versions").mkdir()
    (folder / "env.py").write_text(ENV)
    (folder / "script.py.mako").write_text(template.replace(below, below + (SRC / "alembic_imports.mako").read_text()))
    config = Config()
    config.set_main_option("script_location", str(folder))
    return config


def edit(revision: Path) -> None:
    """Delete the lines that the page says: those that drop the indexes of the token table before the table itself."""
    dropping = re.compile(
        r"    with op.batch_alter_table\('\w+_tokens?'[^\n]*\n(?:        batch_op.drop_index[^\n]*\n)+"
    )
    upgrade, downgrade = revision.read_text().split("def downgrade")
    edited, count = dropping.subn("", downgrade)
    assert count == 1
    revision.write_text(f"{upgrade}def downgrade{edited}")


@pytest.mark.parametrize(
    ("any_backend", "tables"),
    [
        *[(name, tables) for name in ("sqlite", "postgresql-asyncpg", "mariadb") for tables in (usual, own)],
        ("postgresql-asyncpg", partial(own, SCHEMA)),
    ],
    indirect=["any_backend"],
)
async def test_a_round_trip(any_backend: Backend, tmp_path: Path, tables: Callable[[], MetaData]) -> None:
    """What autogenerate writes creates the tables, leaves no difference, and can be undone and repeated."""
    config, engine = scripts(tmp_path), any_backend.create_engine()
    config.attributes["metadata"] = metadata = tables()

    async def run(act: Callable[..., object], *arguments: str, **options: bool) -> None:
        def call(connection: Connection) -> None:
            config.attributes["connection"] = connection
            act(config, *arguments, **options)

        async with engine.begin() as connection:
            await connection.run_sync(call)

    async with engine.begin() as connection:
        if metadata.schema is not None:
            await connection.execute(CreateSchema(metadata.schema, if_not_exists=True))
    await run(command.revision, "create the tables", autogenerate=True)
    edit(next((tmp_path / "versions").glob("*.py")))
    for _ in range(2):
        await run(command.upgrade, "head")
        await run(command.check)
        await run(command.downgrade, "base")
    await engine.dispose()
