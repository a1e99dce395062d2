"""What the databases' own errors are taken for, and what is done about them."""

import asyncio
import uuid

import pytest
from sqlalchemy import inspect, update
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncSession

from fastapi_users_knox import StoreUnavailable
from fastapi_users_knox.sqlalchemy.dialects import is_transient
from fastapi_users_knox.sqlalchemy.statements import statements_for
from fastapi_users_knox.sqlalchemy.transactions import Transactions
from tests.backends import Backend
from tests.models import KnoxToken, User, create_empty_tables, create_user

pytestmark = pytest.mark.anyio


async def collision(backend: Backend) -> BaseException:
    """Let two transactions each write to a row and then to the other's, and return what that raises."""
    engine = backend.create_engine(**backend.impatient)
    await create_empty_tables(engine)
    async with AsyncSession(engine, expire_on_commit=False) as session:
        ids = [(await create_user(session)).id for _ in range(2)]
    async with engine.connect() as one, engine.connect() as other:
        outcomes = await _write_at_once((one, ids[0]), (other, ids[1]))
        if not outcomes:
            outcomes = await _write_at_once((one, ids[1]), (other, ids[0]))
    await engine.dispose()
    return outcomes[0]


async def _write_at_once(*writes: tuple[AsyncConnection, uuid.UUID]) -> list[BaseException]:
    """Write to users over connections, and return the errors."""
    id_of = inspect(User).columns["id"]
    outcomes = await asyncio.gather(
        *(
            connection.execute(update(User).where(id_of == id_).values(hashed_password="new"))
            for connection, id_ in writes
        ),
        return_exceptions=True,
    )
    return [outcome for outcome in outcomes if isinstance(outcome, BaseException)]


async def test_a_collision_is_transient(backend: Backend) -> None:
    """A dead-lock, or what SQLite has in its place, is taken for what may go well a moment later."""
    error = await collision(backend)

    assert isinstance(error, DBAPIError)
    assert is_transient(error)


async def test_a_mistake_is_not_transient(backend: Backend) -> None:
    """A statement that makes no sense will make none a moment later."""
    engine = backend.create_engine()
    async with engine.connect() as connection:
        with pytest.raises(DBAPIError) as raised:
            await connection.exec_driver_sql("NONSENSE")
    await engine.dispose()

    assert not is_transient(raised.value)


@pytest.mark.parametrize("failures", [0, 1, 3, 4])
async def test_work_that_fails_for_others_sake_is_done_again(backend: Backend, failures: int) -> None:
    """Work is done again up to three times; then the store is said to be unavailable."""
    error, engine = await collision(backend), backend.create_engine()
    attempts = iter([error] * failures)

    async def work(_connection: AsyncConnection) -> str:
        for failure in attempts:
            raise failure
        return "done"

    async with AsyncSession(engine) as session:
        writing_it = Transactions(session, statements_for(session, KnoxToken)).write(work)
        if failures > 3:
            with pytest.raises(StoreUnavailable):
                await writing_it
        else:
            assert await writing_it == "done"
    await engine.dispose()
