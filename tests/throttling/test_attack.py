"""An attack on one account from a thousand addresses and several processes, while its user logs in."""

from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
from redis.asyncio import Redis

from fastapi_users_knox.throttling import LoginThrottle
from tests.backends import SQLITE
from tests.redis_servers import RedisServer
from tests.site import Database
from tests.throttling.attack import Attackers, Target, addresses_of, attackers, prepare, simulate
from tests.throttling.places import RedisPlace, closing
from tests.throttling.site import ELSEWHERE, HOME, ThrottledWorld

pytestmark = [pytest.mark.anyio, pytest.mark.server, pytest.mark.unmeasured]

PROCESSES = 2


@pytest.fixture(scope="module")
def attacking() -> Iterator[Attackers]:
    """Return the processes, which run for all tests of this module."""
    with attackers(PROCESSES) as attacking:
        yield attacking


@pytest.fixture
def target(redis_7_server: RedisServer, tmp_path: Path) -> Target:
    """Return the application under attack."""
    return Target(backend=SQLITE["sqlite-wal-begin"](tmp_path), storage=redis_7_server.url())


async def test_a_distributed_attack(attacking: Attackers, target: Target) -> None:
    """From 1,000 addresses exactly 100 attempts are admitted, and the user's known device logs in all the while."""
    outcome = await simulate(target, attacking, addresses_of(1000))

    assert outcome.attackers.keys() == {400, 429}
    assert outcome.attackers[400] + outcome.new[200] == 100
    assert outcome.attackers.total() == 1000
    assert outcome.known.keys() == {200}
    engine = target.backend.create_engine()
    async with (
        closing(LoginThrottle(target.storage)) as throttle,
        Redis.from_url(target.storage, decode_responses=True) as redis,
    ):
        world = ThrottledWorld(database=Database(engine=engine), throttle=throttle)
        new_device = world.visitor(ELSEWHERE)
        assert (await new_device.log_in()).status == 429
        assert (await world.visitor(HOME).log_in()).status == 200
        await RedisPlace(throttle.storage, redis).let_pass(3600)
        assert (await new_device.log_in()).status == 200
    await engine.dispose()


async def test_simultaneous_attempts_of_several_processes(attacking: Attackers, target: Target) -> None:
    """Of many simultaneous attempts from one address exactly five are admitted, however many processes count."""
    await prepare(target)
    running = await attacking.start(target, [ELSEWHERE] * 40)

    statuses: Counter[int] = Counter()
    for future in running:
        statuses.update(await future)

    assert statuses == {400: 5, 429: 35}
