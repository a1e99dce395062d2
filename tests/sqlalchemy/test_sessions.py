"""Sessions and users of other kinds: those that route, that are looked up by scope, that load more than was asked."""

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
    """Make a database with all the tables of this module's tests."""
    engine = create(f"sqlite+aiosqlite:///{tmp_path}/primary.db")
    async with engine.begin() as connection:
        await connection.run_sync(Base.metadata.create_all)
    yield engine
    await engine.dispose()


async def test_a_session_may_be_bound_by_a_base_class(primary: AsyncEngine) -> None:
    """A session that knows its engine by the mapped classes alone is asked by them."""
    async with AsyncSession(binds={Base: primary}, expire_on_commit=False) as session:
        strategy, user = KnoxStrategy(store_on(session), request=None), await create_user(session)
        token = await strategy.write_token(user)

        assert await strategy.read_token(token, user_manager_on(session)) is user
        assert len(await strategy.list_records(user)) == 1


async def test_what_is_routed_to_the_primary_is_read_there(primary: AsyncEngine, tmp_path: Path) -> None:
    """Where a session sends mapped classes to the primary, an ended token is not read from a replica that lags."""
    lagging = create(f"sqlite+aiosqlite:///{tmp_path}/lagging.db")

    class Routing(Session):
        """Send to the primary what is known to be of a mapped class, or known to write."""

        def get_bind(self, mapper: Any = None, *, clause: Any = None, **_: Any) -> Any:
            """Choose."""
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
    """A user is loaded also by a user database that looks its session up by the task."""
    scoped: Any = async_scoped_session(async_sessionmaker(primary, expire_on_commit=False), scopefunc=current_task)
    user = await create_user(scoped())
    users: SQLAlchemyUserDatabase[User, uuid.UUID] = SQLAlchemyUserDatabase(scoped, User)

    assert await load_user(UserManager(users), user.id) == (user, True)
    await scoped.remove()


class OwnBase(DeclarativeBase):
    """The metadata of an application with more to its users."""


class Note(OwnBase):
    """What is loaded along with a user."""

    __tablename__ = "note"
    id: Mapped[int] = mapped_column(primary_key=True)
    text: Mapped[str]
    user_id: Mapped[uuid.UUID] = mapped_column(ForeignKey("user.id"))


class Annotated(SQLAlchemyBaseUserTableUUID, OwnBase):
    """A user with notes, of whom it may be open whether it is active."""

    notes: Mapped[list[Note]] = relationship(lazy="selectin")


class_mapper(Annotated).columns["is_active"].nullable = True


class OwnToken(SQLAlchemyBaseKnoxTokenTableUUID, OwnBase):
    """A token record of that application."""


@pytest.fixture
async def session(tmp_path: Path) -> AsyncIterator[AsyncSession]:
    """Open a session on that application's tables."""
    engine = create(f"sqlite+aiosqlite:///{tmp_path}/own.db")
    async with engine.begin() as connection:
        await connection.run_sync(OwnBase.metadata.create_all)
    async with AsyncSession(engine, expire_on_commit=False) as session:
        yield session
    await engine.dispose()


@pytest.fixture
async def strategy(session: AsyncSession) -> KnoxStrategy[Any, uuid.UUID]:
    """Make that application's strategy."""
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
    """The SELECT by which SQLAlchemy loads a user's collections sends nothing of what the session holds either."""
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
    """Where a table lets it be open whether a user is active, the user is not."""
    token = await strategy.write_token(user)
    await session.execute(update(Annotated).values(is_active=None))
    await session.commit()

    assert (
        await strategy.read_token(token, UserManager(SQLAlchemyUserDatabase[Any, uuid.UUID](session, Annotated)))
        is None
    )
    assert await strategy.read_record(token) is None


# a column of the application's own


class LoudBase(DeclarativeBase):
    """The metadata of an application with a column that needs a tenant."""


class LoudUser(SQLAlchemyBaseUserTableUUID, LoudBase):
    """A user of that application."""


def find_tenant() -> str:
    """Fail, as no tenant is set."""
    raise LookupError("no tenant")


class LoudToken(SQLAlchemyBaseKnoxTokenTableUUID, LoudBase):
    """A token record of that application."""

    tenant: Mapped[str] = mapped_column(default=find_tenant)


async def test_a_default_that_fails_shows_no_parameters(tmp_path: Path) -> None:
    """The application's own error comes as it is, and not in SQLAlchemy's, which holds the digest."""
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
