"""The benchmarks of PostgreSQL alone purge, refresh and refuse what they say."""

import uuid
from collections.abc import Iterator

import pytest
from sqlalchemy.ext.asyncio import create_async_engine

from benchmarks import pools, purging, wear
from benchmarks.filling import NOW, Place, create_users, log_in
from benchmarks.setting import database
from tests.servers import skip_if_unavailable
from tests.sql_servers import postgresql
from tests.strategies import Clock

pytestmark = [pytest.mark.unmeasured, pytest.mark.server]


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    """Start a PostgreSQL."""
    with skip_if_unavailable(), postgresql() as server:
        yield server.url("postgresql+asyncpg")


async def test_a_purge_is_timed_and_so_are_the_reads_in_the_meantime(url: str) -> None:
    """All expired tokens are purged, and reads are made during the purge and without it."""
    purged = await purging.purge(url, 5000)

    assert purged.rate > 0
    assert len(purged.alone) > 1
    assert len(purged.meanwhile) > 1


async def test_each_token_is_refreshed_several_times(url: str) -> None:
    """The recorded UPDATE refreshes every token once between two VACUUMs, and PostgreSQL counts and logs each."""
    states = await wear.wear(url, 20)

    pairs = list(zip(states[::2], states[1::2], strict=True))
    assert [after.updates - before.updates for before, after in pairs] == [20] * wear.REFRESHES
    assert all(after.wal > before.wal for before, after in pairs)


@pytest.mark.parametrize(("share", "is_written"), [(0, False), (1, True)])
async def test_clients_of_a_pool_refresh_as_often_as_they_should(url: str, share: float, is_written: bool) -> None:  # noqa: FBT001
    """Clients that share a pool are answered, and their reads refresh the tokens if that is due."""
    async with database(url) as engine:
        kept, clock = log_in(uuid.uuid4()), Clock(NOW)
        place = Place(engine=engine, clock=clock)
        await create_users(engine, [kept.record.user_id])
        await place.keep([kept])

        turn = await pools.turn(engine, [kept], [clock], share=share, seconds=0.1)

        async with place.session() as session:
            record = await place.knox(session).read_record(kept.text)
    assert turn.took
    assert not turn.refused
    assert record is not None
    assert (record.last_used_at is not None) is is_written


async def test_a_client_that_gets_no_connection_is_refused(url: str) -> None:
    """A request that waits too long for a connection counts as refused."""
    async with database(url):
        engine = create_async_engine(url, pool_size=1, max_overflow=0, pool_timeout=0.01)
        kept, clock = log_in(uuid.uuid4()), Clock(NOW)
        async with engine.connect():
            turn = await pools.turn(engine, [kept], [clock], share=0, seconds=0.1)
        await engine.dispose()

    assert not turn.took
    assert turn.refused
    assert turn.share == 100
