"""Sessions with several engines, scoped sessions, and tables that differ from FastAPI-Users' default tables."""

import shutil
import uuid
from asyncio import current_task
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from fastapi_users_db_sqlalchemy import SQLAlchemyBaseUserTableUUID, SQLAlchemyUserDatabase
from sqlalchemy import ForeignKey, update
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession, async_scoped_session, async_sessionmaker
from sqlalchemy.ext.asyncio import create_async_engine as create
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, class_mapper, mapped_column, relationship

from fastapi_users_knox import KnoxStrategy
from fastapi_users_knox.sqlalchemy import SQLAlchemyBaseKnoxTokenTableUUID, SQLAlchemyTokenStore
from fastapi_users_knox.users import load_user
from tests.models import Base, User, UserManager, create_user, store_on, user_manager_on

pytestmark = pytest.mark.anyio


@pytest.fixture
async def primary(tmp_path: Path) -> AsyncIterator[AsyncEngine]:
    """Return an engine on the tests' tables."""
    engine = create(f"sqlite+aiosqlite:///{tmp_path}/primary.db")
    async with engine.begin() as connection:
        await connection.run_sync(Base.metadata.create_all)
    yield engine
    await engine.dispose()


async def test_a_session_may_be_bound_by_a_base_class(primary: AsyncEngine) -> None:
    """The store works in a session that is bound by a base class and has no default engine."""
    async with AsyncSession(binds={Base: primary}, expire_on_commit=False) as session:
        strategy, user = KnoxStrategy(store_on(session), request=None), await create_user(session)
        token = await strategy.write_token(user)

        assert await strategy.read_token(token, user_manager_on(session)) is user
        assert len(await strategy.list_records(user)) == 1


async def test_what_is_routed_to_the_primary_is_read_there(primary: AsyncEngine, tmp_path: Path) -> None:
    """If a session routes mapped classes to the primary, no revoked token is read from a lagging replica."""
    lagging = create(f"sqlite+aiosqlite:///{tmp_path}/lagging.db")

    class Routing(Session):
        """A session that routes mapped classes and writes to the primary, and everything else to a replica."""

        def get_bind(self, mapper: Any = None, *, clause: Any = None, **_: Any) -> Any:
            """Return the engine for a statement."""
            is_for_primary = mapper is not None or getattr(clause, "is_dml", False)
            return (primary if is_for_primary else lagging).sync_engine

    async with AsyncSession(sync_session_class=Routing, expire_on_commit=False) as session:
        strategy, user = KnoxStrategy(store_on(session), request=None), await create_user(session)
        token = await strategy.write_token(user)
        shutil.copy(tmp_path / "primary.db", tmp_path / "lagging.db")

        await strategy.logout_all(user)

        assert await strategy.read_token(token, user_manager_on(session)) is None
        assert await strategy.list_records(user) == []
    await lagging.dispose()


async def test_users_may_be_in_a_scoped_session(primary: AsyncEngine) -> None:
    """A user is loaded through a user database with a scoped session."""
    scoped: Any = async_scoped_session(async_sessionmaker(primary, expire_on_commit=False), scopefunc=current_task)
    user = await create_user(scoped())
    users: SQLAlchemyUserDatabase[User, uuid.UUID] = SQLAlchemyUserDatabase(scoped, User)

    assert await load_user(UserManager(users), user.id) == (user, True)
    await scoped.remove()


class OwnBase(DeclarativeBase):
    """The declarative base of an application with a relationship on its users."""


class Note(OwnBase):
    """A note, which is loaded together with its user."""

    __tablename__ = "note"
    id: Mapped[int] = mapped_column(primary_key=True)
    text: Mapped[str]
    user_id: Mapped[uuid.UUID] = mapped_column(ForeignKey("user.id"))


class Annotated(SQLAlchemyBaseUserTableUUID, OwnBase):
    """A user with notes, and with a nullable `is_active`."""

    notes: Mapped[list[Note]] = relationship(lazy="selectin")


class_mapper(Annotated).columns["is_active"].nullable = True


class OwnToken(SQLAlchemyBaseKnoxTokenTableUUID, OwnBase):
    """A token record of a user with notes."""


@pytest.fixture
async def session(tmp_path: Path) -> AsyncIterator[AsyncSession]:
    """Return a session on the tables of users with notes."""
    engine = create(f"sqlite+aiosqlite:///{tmp_path}/own.db")
    async with engine.begin() as connection:
        await connection.run_sync(OwnBase.metadata.create_all)
    async with AsyncSession(engine, expire_on_commit=False) as session:
        yield session
    await engine.dispose()


@pytest.fixture
async def strategy(session: AsyncSession) -> KnoxStrategy[Any, uuid.UUID]:
    """Return a strategy for users with notes."""
    return KnoxStrategy(SQLAlchemyTokenStore(session, OwnToken), request=None)


@pytest.fixture
async def user(session: AsyncSession) -> Annotated:
    """Store a user with a note."""
    user = Annotated(email="jane@example.org", hashed_password="hash", notes=[Note(text="a note")])
    session.add(user)
    await session.commit()
    return user


async def test_what_is_loaded_along_flushes_nothing(
    session: AsyncSession, strategy: KnoxStrategy[Any, uuid.UUID], user: Annotated
) -> None:
    """A read flushes no pending changes, even if SQLAlchemy loads a relationship of the user by another SELECT."""
    token = await strategy.write_token(user)
    session.expunge_all()
    pending = Note()
    session.add(pending)

    found = await strategy.read_token(token, UserManager(SQLAlchemyUserDatabase[Any, uuid.UUID](session, Annotated)))

    assert found is not None
    assert [note.text for note in found.notes] == ["a note"]
    assert pending in session.new


async def test_a_user_who_is_neither_active_nor_not_is_refused(
    session: AsyncSession, strategy: KnoxStrategy[Any, uuid.UUID], user: Annotated
) -> None:
    """A user whose `is_active` is NULL is refused."""
    token = await strategy.write_token(user)
    await session.execute(update(Annotated).values(is_active=None))
    await session.commit()

    assert (
        await strategy.read_token(token, UserManager(SQLAlchemyUserDatabase[Any, uuid.UUID](session, Annotated)))
        is None
    )
    assert await strategy.read_record(token) is None


# additional columns


class LoudBase(DeclarativeBase):
    """The declarative base of an application whose tokens have a column for the tenant."""


class LoudUser(SQLAlchemyBaseUserTableUUID, LoudBase):
    """A user of an application with tenants."""


def find_tenant() -> str:
    """Raise, because no tenant is set."""
    raise LookupError("no tenant")


class LoudToken(SQLAlchemyBaseKnoxTokenTableUUID, LoudBase):
    """A token record with a default that raises."""

    tenant: Mapped[str] = mapped_column(default=find_tenant)


async def test_a_default_that_fails_shows_no_parameters(tmp_path: Path) -> None:
    """If a column's default raises, its own error is raised, and not SQLAlchemy's, which contains the digest."""
    engine = create(f"sqlite+aiosqlite:///{tmp_path}/loud.db")
    async with engine.begin() as connection:
        await connection.run_sync(LoudBase.metadata.create_all)
    async with AsyncSession(engine, expire_on_commit=False) as session:
        user = LoudUser(email="jane@example.org", hashed_password="hash")
        session.add(user)
        await session.commit()
        strategy = KnoxStrategy(SQLAlchemyTokenStore[Any, uuid.UUID](session, LoudToken), request=None)

        with pytest.raises(LookupError, match="no tenant") as raised:
            await strategy.issue(user)

    assert raised.value.__cause__ is None
    assert raised.value.__suppress_context__
    await engine.dispose()
