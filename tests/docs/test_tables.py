"""The files of the pages on tables and databases work as the pages describe."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Column, Table, delete, func, inspect, select, text
from sqlalchemy.ext.asyncio import AsyncSession, create_async_engine

from fastapi_users_knox import KnoxSettings, KnoxStrategy, TokenLimitReached
from fastapi_users_knox.sqlalchemy import SQLAlchemyTokenStore
from tests.docs.folder import ROOT, SRC, TUTORIAL, calling, changed_by, load, log_in, register

PATIENCE = 180.0  # seconds for a script to finish


async def test_the_purge_deletes_expired_tokens(folder: Path, jane: str) -> None:
    """The purge script deletes the rows of expired tokens and prints their number."""
    assert jane
    db = load("db")
    async with calling(load("app").app) as client:
        for _ in range(2):
            await log_in(client)
    async with db.engine.begin() as connection:
        earlier = "expires_at = '2020-01-01', expiry_hour = '2020-01-01'"
        statement = f"UPDATE knox_token SET {earlier} WHERE id = (SELECT min(id) FROM knox_token)"
        await connection.execute(text(statement))

    done = subprocess.run(  # noqa: ASYNC221 (nothing else runs meanwhile)
        [sys.executable, SRC / "purge.py"],
        capture_output=True,
        check=False,
        cwd=folder,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(map(str, (TUTORIAL, ROOT)))},
        text=True,
        timeout=PATIENCE,
    )

    assert (done.stdout, done.stderr) == ("1 expired tokens deleted\n", "")
    async with db.engine.connect() as connection:
        assert await connection.scalar(select(func.count()).select_from(db.KnoxToken)) == 1


async def test_foreign_keys_are_enforced(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With the change shown, deleting a user in SQLite deletes the tokens too."""
    changed_by("foreign_keys.diff", folder, monkeypatch)
    db = load("db")
    async with calling(load("app").app) as client:
        await register(client)
        await log_in(client)

    async with db.engine.begin() as connection:
        await connection.execute(delete(db.User))
        left = await connection.scalar(select(func.count()).select_from(db.KnoxToken))
    await db.engine.dispose()

    assert left == 0


@pytest.mark.parametrize(
    ("name", "users", "table"),
    [
        ("other_table", "User", "app_users"),
        ("integer_ids", "User", "app_users"),
        ("sqlmodel_users", "Member", "member"),
    ],
)
async def test_users_may_have_other_ids_and_tables(name: str, users: str, table: str) -> None:
    """For other ids and user tables, `user_id` is indexed and cascades, and tokens are issued, found and limited."""
    module = load(name)
    engine = create_async_engine("sqlite+aiosqlite:///users.db")
    async with engine.begin() as connection:
        await connection.run_sync(module.Base.metadata.create_all)
        [key] = await connection.run_sync(lambda sync: inspect(sync).get_foreign_keys("knox_token"))
        indexes = await connection.run_sync(lambda sync: inspect(sync).get_indexes("knox_token"))
    async with AsyncSession(engine, expire_on_commit=False) as session:
        user = getattr(module, users)(email="jane@example.org", hashed_password="hash")
        session.add(user)
        await session.commit()
        store = SQLAlchemyTokenStore[Any, Any](session, module.KnoxToken)
        strategy = KnoxStrategy(store, KnoxSettings(token_limit_per_user=1), request=None)

        token = await strategy.issue(user)

        record = await strategy.read_record(token)
        assert record is not None
        assert record.user_id == user.id
        with pytest.raises(TokenLimitReached):
            await strategy.issue(user)
    await engine.dispose()
    assert (key["referred_table"], key["options"]) == (table, {"ondelete": "CASCADE"})
    assert ["user_id", "expiry_hour"] in [index["column_names"] for index in indexes]
    assert not module.KnoxToken.__table__.columns["user_id"].nullable


def test_alembic_gets_the_imports_it_needs() -> None:
    """The imports shown define every column type that Alembic's autogenerate writes."""
    names: dict[str, object] = {}
    exec((SRC / "alembic_imports.mako").read_text(), names)
    table = load("db").KnoxToken.__table__
    assert isinstance(table, Table)

    foreign = [
        written for written in map(as_autogenerate_writes, table.columns) if not written.startswith("sqlalchemy.")
    ]

    assert foreign
    for written in foreign:
        assert eval(written, names)


def as_autogenerate_writes(column: Column[object]) -> str:
    """Return the name of a column's type as Alembic writes it."""
    return f"{type(column.type).__module__}.{type(column.type).__name__}"
