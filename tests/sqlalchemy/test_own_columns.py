"""An application fills its own columns of the token table at each login, and can never fill those of the store."""

import uuid
from collections.abc import AsyncIterator, Mapping
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from fastapi_users_db_sqlalchemy import SQLAlchemyBaseUserTableUUID
from sqlalchemy import ForeignKey, String, func, select
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession
from sqlalchemy.orm import DeclarativeBase, Mapped, column_property, declared_attr, mapped_column, relationship

from fastapi_users_knox import IssuedToken, KnoxSettings, KnoxStrategy, TokenRecord
from fastapi_users_knox.sqlalchemy import SQLAlchemyBaseKnoxTokenTableUUID, SQLAlchemyTokenStore
from fastapi_users_knox.sqlalchemy.rows import RECORD
from tests.backends import Backend
from tests.conftest import backend_of
from tests.strategies import NOW

EVERYWHERE = pytest.mark.parametrize("any_backend", ["sqlite", "postgresql-asyncpg", "mariadb"], indirect=True)

Record = TokenRecord[uuid.UUID]


def _options(**options: object) -> dict[str, object]:
    """Return options of a mapper."""
    return options


class Base(DeclarativeBase):
    """The declarative base of these tables, separate from the base of the other tests."""


class Customer(SQLAlchemyBaseUserTableUUID, Base):
    """A user."""

    __tablename__ = "customer"


class CustomerToken(SQLAlchemyBaseKnoxTokenTableUUID, Base):
    """A token class with columns of the application's own, and with subclasses."""

    __tablename__ = "customer_token"

    kind: Mapped[str] = mapped_column(String(20))
    plan: Mapped[str | None] = mapped_column(String(20))
    seats: Mapped[int] = mapped_column("number_of_seats", default=1)
    parent_id: Mapped[uuid.UUID | None] = mapped_column(ForeignKey("customer_token.id"))
    parent: Mapped["CustomerToken | None"] = relationship(remote_side="CustomerToken.id")

    __mapper_args__ = _options(polymorphic_on="kind", polymorphic_identity="session")

    @declared_attr
    def user_id(cls) -> Mapped[uuid.UUID]:
        """The foreign key to the user."""
        return mapped_column(ForeignKey("customer.id", ondelete="cascade"), nullable=False)


CustomerToken.loud_plan = column_property(func.upper(CustomerToken.plan))


class KioskToken(CustomerToken):
    """A subclass in the same table, with a column of its own."""

    if not TYPE_CHECKING:
        __tablename__ = None
    __mapper_args__ = _options(polymorphic_identity="kiosk")

    place: Mapped[str | None] = mapped_column(String(20))


class JoinedToken(CustomerToken):
    """A subclass with a table of its own for its additional column."""

    __tablename__ = "joined_customer_token"
    __mapper_args__ = _options(polymorphic_identity="joined")

    id: Mapped[uuid.UUID] = mapped_column(ForeignKey("customer_token.id"), primary_key=True)
    note: Mapped[str | None] = mapped_column(String(20))


@pytest.fixture
def any_backend(request: pytest.FixtureRequest, tmp_path: Path) -> Backend:
    """Return the database that the test is marked with, by default SQLite in a file."""
    return backend_of(getattr(request, "param", "sqlite"), request, tmp_path)


@pytest.fixture
async def engine(any_backend: Backend) -> AsyncIterator[AsyncEngine]:
    """Return an engine on new tables, and drop them afterwards."""
    engine = any_backend.create_engine()
    async with engine.begin() as connection:
        await connection.run_sync(Base.metadata.create_all)
    yield engine
    async with engine.begin() as connection:
        await connection.run_sync(Base.metadata.drop_all)
    await engine.dispose()


@pytest.fixture
async def session(engine: AsyncEngine) -> AsyncIterator[AsyncSession]:
    """Return a session."""
    async with AsyncSession(engine, expire_on_commit=False) as session:
        yield session


@pytest.fixture
async def ada(session: AsyncSession) -> Customer:
    """Return a user."""
    customer = Customer(email="ada@example.org", hashed_password="hash")
    session.add(customer)
    await session.commit()
    return customer


def fill(record: Record) -> Mapping[str, object]:
    """Copy the plan from the data of the record, and its name as the kind of session."""
    return {"kind": record.name or "session", "plan": record.data.get("plan")}


def strategy_on(
    session: AsyncSession, own_columns: Any = fill, table: type[CustomerToken] = CustomerToken, **settings: Any
) -> KnoxStrategy[Customer, uuid.UUID]:
    """Return a strategy whose store fills these columns."""
    store: SQLAlchemyTokenStore[Customer, uuid.UUID] = SQLAlchemyTokenStore(session, table, own_columns=own_columns)
    return KnoxStrategy(store, KnoxSettings(**settings), request=None, clock=lambda: NOW)


async def row_of(session: AsyncSession, token: IssuedToken) -> CustomerToken:
    """Return the object that the ORM loads for a token."""
    session.expunge_all()
    return await session.get_one(CustomerToken, token.record.id)


@EVERYWHERE
async def test_own_columns_are_filled_at_a_login(session: AsyncSession, ada: Customer) -> None:
    """A login stores the returned values, and the defaults of the columns that were not named."""
    token = await strategy_on(session).issue(ada, data={"plan": "pro"})

    row = await row_of(session, token)
    assert (row.kind, row.plan, row.seats, row.data) == ("session", "pro", 1, {"plan": "pro"})
    assert await strategy_on(session).read_record(token) == token.record


@EVERYWHERE
async def test_a_column_may_have_another_name_than_its_attribute(session: AsyncSession, ada: Customer) -> None:
    """The values are named by attributes, and None is stored as NULL."""
    token = await strategy_on(session, lambda _: {"kind": "session", "seats": 5, "plan": None}).issue(ada)

    row = await row_of(session, token)
    assert (row.seats, row.plan) == (5, None)


async def test_the_function_gets_the_new_record(session: AsyncSession, ada: Customer) -> None:
    """The function is called once for each new token, with its record, before the record is stored."""
    seen: list[Record] = []

    def note(record: Record) -> Mapping[str, object]:
        seen.append(record)
        return {"kind": "session"}

    token = await strategy_on(session, note).issue(ada, data={"plan": ["pro"]}, token_ttl=timedelta(days=1))

    assert seen == [token.record]


@EVERYWHERE
async def test_each_way_to_a_new_token_fills_them(session: AsyncSession, ada: Customer) -> None:
    """A token that a session asks for and the successor of an API token are new tokens too."""
    strategy = strategy_on(session)
    login = await strategy.issue(ada)
    api = await strategy.issue(ada, by=login.record, scopes=["read"], data={"plan": "pro"}, replace=False)

    successor = await strategy.roll_token(api.record, ada, by=login.record, overlap=timedelta(hours=1))

    assert [(await row_of(session, token)).plan for token in (login, api, successor)] == [None, "pro", "pro"]


@EVERYWHERE
async def test_they_stay_until_the_application_changes_them(session: AsyncSession, ada: Customer) -> None:
    """A use, a rotation and a re-authentication with other data leave the columns alone."""
    strategy = strategy_on(session)
    token = await strategy.issue(ada, data={"plan": "pro"})

    rotated = await strategy.rotate_token(token, ada)
    proved = await strategy.reauthenticate(rotated, ada, data={"plan": "free"})

    row = await row_of(session, proved)
    assert (row.plan, row.data) == ("pro", {"plan": "free"})


@pytest.mark.parametrize("name", [*RECORD, "digest", "expiry_hour"])
async def test_the_store_s_columns_cannot_be_filled(session: AsyncSession, ada: Customer, name: str) -> None:
    """A value for a column of the store is refused, and nothing is stored or evicted."""
    strategy = strategy_on(session, lambda _: {"kind": "session", name: None})
    kept = await strategy_on(session).issue(ada)

    with pytest.raises(TypeError, match=f"own_columns returned '{name}', but the store fills this column itself"):
        await strategy.issue(ada)

    assert await strategy.list_records(ada) == [kept.record]


@pytest.mark.parametrize("name", ["plna", "number_of_seats", "parent", "loud_plan", "place", "metadata", 5])
async def test_only_columns_can_be_filled(session: AsyncSession, ada: Customer, name: object) -> None:
    """A name that is no attribute, or not one of a column, is refused before anything is stored."""
    strategy = strategy_on(session, lambda _: {name: "pro"}, token_limit_per_user=1, limit_policy="evict_oldest")
    kept = await strategy_on(session).issue(ada)

    with pytest.raises(TypeError, match=f"own_columns returned {name!r}, but CustomerToken has no column of this name"):
        await strategy.issue(ada)

    assert await strategy.list_records(ada) == [kept.record]


@pytest.mark.parametrize("result", [None, [("plan", "pro")], "plan"])
async def test_the_function_returns_a_dictionary(session: AsyncSession, ada: Customer, result: object) -> None:
    """Something other than a dictionary is refused before anything is stored."""
    with pytest.raises(TypeError, match="own_columns must return a dictionary, not"):
        await strategy_on(session, lambda _: result).issue(ada)

    assert await strategy_on(session).list_records(ada) == []


@EVERYWHERE
async def test_an_error_of_the_function_fails_the_login(session: AsyncSession, ada: Customer) -> None:
    """An error of the application's own reaches it, and nothing is stored."""
    with pytest.raises(KeyError, match="plan"):
        await strategy_on(session, lambda record: {"kind": record.data["plan"]}).issue(ada)

    assert await strategy_on(session).list_records(ada) == []


async def test_the_function_cannot_change_the_data(session: AsyncSession, ada: Customer) -> None:
    """A change of the record's data in place is neither stored nor in the record that the caller gets."""

    def take(record: Record) -> Mapping[str, object]:
        return {"kind": "session", "plan": record.data["plans"].pop()}

    token = await strategy_on(session, take).issue(ada, data={"plans": ["pro"]})

    row = await row_of(session, token)
    assert (row.plan, row.data, token.record.data) == ("pro", {"plans": ["pro"]}, {"plans": ["pro"]})


async def test_something_else_than_a_function_is_refused(session: AsyncSession) -> None:
    """A dictionary instead of a function is refused when the store is made."""
    with pytest.raises(TypeError, match="own_columns must be a function of the new record that returns a dictionary"):
        strategy_on(session, {"plan": "pro"})


@EVERYWHERE
async def test_a_subclass_in_the_same_table_may_be_issued(session: AsyncSession, ada: Customer) -> None:
    """With single-table inheritance, the columns of the subclass and the one that names the class can be filled."""
    strategy = strategy_on(session, lambda _: {"kind": "kiosk", "place": "hall"}, table=KioskToken)

    token = await strategy.issue(ada)

    row = await row_of(session, token)
    await session.refresh(row)
    assert isinstance(row, KioskToken)
    assert (row.place, await strategy.read_record(token)) == ("hall", token.record)


async def test_a_subclass_with_a_table_of_its_own_is_refused(session: AsyncSession) -> None:
    """With joined-table inheritance, one INSERT could not store the record, so the store refuses the class at once."""
    with pytest.raises(TypeError, match="JoinedToken inherits some from another table: pass the superclass"):
        strategy_on(session, table=JoinedToken)


@EVERYWHERE
async def test_own_columns_may_be_queried(session: AsyncSession, ada: Customer) -> None:
    """The database groups live sessions by a column of the application's own."""
    strategy = strategy_on(session)
    for plan in ("pro", "pro", "free"):
        await strategy.issue(ada, data={"plan": plan})

    counted = await session.execute(select(CustomerToken.plan, func.count()).group_by(CustomerToken.plan))

    assert dict(counted.tuples().all()) == {"pro": 2, "free": 1}
