"""A read begins a transaction where something of the application, the engine or the pool needs one."""

from collections.abc import Mapping
from typing import Any

import pytest
from sqlalchemy import (
    NullPool,
    StaticPool,
)
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession, create_async_engine

from tests.backends import Backend
from tests.models import User
from tests.sqlalchemy.lazy_begin.looks import IDLE, IN_TRANSACTION, postgresql, state_of
from tests.sqlalchemy.lazy_begin.openings import OPENINGS
from tests.strategies import Knox, sent_to, verbs

pytestmark = pytest.mark.anyio


@postgresql
@pytest.mark.parametrize("opening", OPENINGS)
async def test_a_setting_of_the_transaction_switches_it_off(
    engine: AsyncEngine, user: User, token: str, opening: str
) -> None:
    """If the application adds something to the beginning of a transaction, the read begins a transaction."""
    async with OPENINGS[opening](engine) as session:
        assert await Knox(session=session, user=user).accepts(token)

        assert await state_of(session, engine) == IN_TRANSACTION


@postgresql
@pytest.mark.parametrize(
    ("options", "state"),
    [
        ({"isolation_level": "REPEATABLE READ"}, IN_TRANSACTION),
        ({"isolation_level": "SERIALIZABLE"}, IN_TRANSACTION),
        ({"isolation_level": "READ COMMITTED"}, IDLE),
        ({"isolation_level": "AUTOCOMMIT"}, IDLE),
        ({"poolclass": NullPool}, IN_TRANSACTION),
        ({"poolclass": StaticPool}, IN_TRANSACTION),
        ({"pool_pre_ping": True}, IDLE),
    ],
    ids=["repeatable read", "serializable", "read committed", "autocommit", "no pool", "shared", "ping"],
)
async def test_the_options_of_the_engine_decide(
    any_backend: Backend, engine: AsyncEngine, user: User, token: str, *, options: Mapping[str, Any], state: str
) -> None:
    """With snapshots of a transaction, or without a pool, the read begins a transaction."""
    own = create_async_engine(any_backend.url, **options)
    for _ in range(2):  # The first read of a connection begins a transaction anyway.
        async with AsyncSession(own) as session:
            assert await Knox(session=session, user=user).accepts(token)
            seen = await state_of(session, engine)
    await own.dispose()

    assert seen == state


@postgresql
async def test_a_bound_session_reads_in_the_transaction_of_its_connection(
    engine: AsyncEngine, user: User, token: str
) -> None:
    """A session that is bound to a connection reads inside a transaction."""
    async with engine.connect() as connection, AsyncSession(connection) as session:
        assert await Knox(session=session, user=user).accepts(token)

        assert await state_of(session, engine) == IN_TRANSACTION


@pytest.mark.parametrize("any_backend", ["postgresql-psycopg"], indirect=True)
async def test_a_session_of_two_phases_reads_in_a_transaction(engine: AsyncEngine, user: User, token: str) -> None:
    """A session with two-phase transactions reads inside a transaction."""
    async with AsyncSession(engine, twophase=True) as session:
        assert await Knox(session=session, user=user).accepts(token)

        assert await state_of(session, engine) == IN_TRANSACTION


@pytest.mark.parametrize("any_backend", ["sqlite", "mariadb"], indirect=True)
async def test_elsewhere_nothing_changes(engine: AsyncEngine, user: User, token: str) -> None:
    """On other databases, the read is one SELECT in the session's transaction."""
    with sent_to(engine) as statements:
        async with AsyncSession(engine) as session:
            assert await Knox(session=session, user=user).accepts(token)

            assert session.in_transaction()
    assert verbs(statements) == ["SELECT"]
