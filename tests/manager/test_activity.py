"""A deactivation revokes the tokens, also if `is_active` is computed from another column in SQL or in Python."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from fastapi_users import BaseUserManager, IntegerIDMixin
from fastapi_users_db_sqlalchemy import SQLAlchemyUserDatabase
from sqlalchemy import ColumnElement, ForeignKey
from sqlalchemy.ext.asyncio import AsyncSession, create_async_engine
from sqlalchemy.ext.hybrid import hybrid_property
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from fastapi_users_knox import KnoxError, KnoxStrategy, KnoxUserManagerMixin
from fastapi_users_knox.sqlalchemy import SQLAlchemyBaseKnoxTokenTable, SQLAlchemyTokenStore
from tests.site import PASSWORDS

pytestmark = pytest.mark.anyio


class Base(DeclarativeBase):
    """The declarative base of these tables."""


class Columns:
    """The columns that both kinds of users have."""

    id: Mapped[int] = mapped_column(primary_key=True)
    email: Mapped[str] = mapped_column(default="ada@example.org")
    hashed_password: Mapped[str] = mapped_column(default="hash")
    status: Mapped[str] = mapped_column(default="active")
    is_superuser: Mapped[bool] = mapped_column(default=False)
    is_verified: Mapped[bool] = mapped_column(default=False)


class Hybrid(Columns, Base):
    """A user whose `is_active` is a hybrid property, so SQL can compute it."""

    __tablename__ = "hybrid"

    @hybrid_property
    def is_active(self) -> bool:
        """Whether the user's status is `active`."""
        return self.status == "active"

    @is_active.inplace.expression
    @classmethod
    def _is_active(cls) -> ColumnElement[bool]:
        return cls.status == "active"


class Plain(Columns, Base):
    """A user whose `is_active` is a plain property, so only Python can compute it."""

    __tablename__ = "plain"

    @property
    def is_active(self) -> bool:
        """Whether the user's status is `active`."""
        return self.status == "active"


class HybridToken(SQLAlchemyBaseKnoxTokenTable[int], Base):
    """A token record of a `Hybrid` user."""

    __tablename__ = "hybrid_token"
    user_id: Mapped[int] = mapped_column(ForeignKey("hybrid.id"))


class PlainToken(SQLAlchemyBaseKnoxTokenTable[int], Base):
    """A token record of a `Plain` user."""

    __tablename__ = "plain_token"
    user_id: Mapped[int] = mapped_column()


class Manager(KnoxUserManagerMixin[Any, int], IntegerIDMixin, BaseUserManager[Any, int]):
    """A user manager of either kind of users."""

    async def change(self, user: object, **fields: object) -> None:
        """Update fields of a user."""
        await self._update(user, fields)


@pytest.fixture
async def session(tmp_path: Path) -> AsyncIterator[AsyncSession]:
    """Return a session on empty tables."""
    engine = create_async_engine(f"sqlite+aiosqlite:///{tmp_path}/users.db")
    async with engine.begin() as connection:
        await connection.run_sync(Base.metadata.create_all)
    async with AsyncSession(engine, expire_on_commit=False) as session:
        yield session
    await engine.dispose()


KINDS: list[Any] = [
    pytest.param(Hybrid, HybridToken, ..., id="hybrid"),
    pytest.param(Plain, PlainToken, None, id="property"),
]


@pytest.mark.parametrize(("users", "tokens", "seen"), KINDS)
async def test_a_derived_deactivation_is_for_good(session: AsyncSession, users: Any, tokens: Any, seen: Any) -> None:
    """An update of `status` that makes a user inactive revokes the tokens, and an activation does not restore them."""
    session.add(user := users(id=1))
    await session.commit()
    user_db: Any = SQLAlchemyUserDatabase(session, users)
    strategy: Any = KnoxStrategy(SQLAlchemyTokenStore(session, tokens, users=seen), request=None, user_db=None)
    manager = Manager(user_db, PASSWORDS, knox=strategy)
    token = await strategy.issue(user)

    await manager.change(user, is_verified=True)
    unrelated = await strategy.read_token(token, manager)
    await manager.change(user, status="banned")
    await manager.change(user, status="active")

    assert unrelated is user
    assert await strategy.read_token(token, manager) is None


async def test_a_derived_deactivation_is_refused_where_it_could_not_end_tokens(session: AsyncSession) -> None:
    """An update that might deactivate a user is refused inside `begin()`, before anything is changed."""
    session.add(user := Hybrid(id=1))
    await session.commit()
    user_db: Any = SQLAlchemyUserDatabase(session, Hybrid)
    strategy: Any = KnoxStrategy(SQLAlchemyTokenStore(session, HybridToken), request=None, user_db=user_db)

    async with session.begin():
        with pytest.raises(KnoxError, match="begin"):
            await Manager(user_db, PASSWORDS, knox=strategy).change(user, status="banned")

    assert user.status == "active"
