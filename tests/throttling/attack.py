"""An attack on one account from many addresses and processes, while its user logs in.

Run it for figures: `python -m tests.throttling.attack redis://127.0.0.1:6379/0 --processes 50 --guesses 10`. It empties
that Redis database.
"""

import asyncio
import multiprocessing
import sys
import tempfile
import time
from argparse import ArgumentParser
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from ipaddress import IPv4Address
from multiprocessing.synchronize import Barrier
from pathlib import Path

from redis.asyncio import Redis

from fastapi_users_knox.throttling import LoginThrottle
from tests.backends import SQLITE, Backend
from tests.delays import lengthen_delays
from tests.models import create_empty_tables
from tests.site import Database
from tests.throttling.places import closing
from tests.throttling.site import HOME, ThrottledWorld

PATIENCE = 600.0  # the seconds that all processes together may need to start
AT_ONCE = 10
MOST_LOGINS = 50

Running = asyncio.Future[Mapping[int, int]]

_barrier: Barrier


@dataclass(frozen=True, kw_only=True)
class Target:
    """The application under attack. It can be pickled, and each process serves it by itself.

    Attributes:
        backend: The database of the users and their tokens.
        storage: The URI of the throttle's storage.
    """

    backend: Backend
    storage: str

    async def guess(self, addresses: Sequence[str]) -> Counter[int]:
        """Guess Ada's password once from each address, several at once, and count the statuses of the responses."""
        engine = self.backend.create_engine()
        async with closing(LoginThrottle(self.storage)) as throttle:
            world = ThrottledWorld(database=Database(engine=engine), throttle=throttle)
            turns = asyncio.Semaphore(AT_ONCE)

            async def guess(address: str) -> int:
                async with turns:
                    return await world.visitor(address).guess()

            statuses = Counter(await asyncio.gather(*map(guess, addresses)))
        await engine.dispose()
        return statuses


@dataclass(kw_only=True)
class Outcome:
    """What an attack and the logins of its victim have met.

    Attributes:
        attackers: The statuses of the attackers' requests.
        known: The statuses of the user's logins from a known device, during the attack.
        new: The statuses of the user's logins from a new device, during the attack.
    """

    attackers: Counter[int] = field(default_factory=Counter)
    known: Counter[int] = field(default_factory=Counter)
    new: Counter[int] = field(default_factory=Counter)


class Attackers:
    """Processes that wait to guess."""

    def __init__(self, processes: int) -> None:
        context = multiprocessing.get_context("forkserver")
        context.set_forkserver_preload(["tests.throttling.prepared"])
        self._processes, self._barrier = processes, context.Barrier(processes + 1)
        self._pool = ProcessPoolExecutor(processes, context, _join, (self._barrier,))

    async def start(self, target: Target, addresses: Sequence[str]) -> Sequence[Running]:
        """Guess from all addresses, spread over the processes, and return when all of them begin."""
        shares = [addresses[process :: self._processes] for process in range(self._processes)]
        # Each process waits at the barrier until all others have a share too.
        running = [asyncio.wrap_future(self._pool.submit(_guess, target, share)) for share in shares]
        await asyncio.to_thread(self._barrier.wait, PATIENCE)
        return running

    def close(self) -> None:
        """Stop the processes."""
        self._pool.shutdown()


def _join(barrier: Barrier) -> None:
    global _barrier  # noqa: PLW0603 (a barrier can be passed to a pool's process only when the process starts)
    _barrier = barrier
    lengthen_delays()


def _guess(target: Target, addresses: Sequence[str]) -> Mapping[int, int]:
    _barrier.wait(PATIENCE)
    return asyncio.run(target.guess(addresses))


@contextmanager
def attackers(processes: int) -> Iterator[Attackers]:
    """Start processes, and stop them at the end."""
    started = Attackers(processes)
    try:
        yield started
    finally:
        started.close()


def addresses_of(number: int) -> list[str]:
    """Return as many addresses."""
    first = IPv4Address("10.0.0.1")
    return [str(first + offset) for offset in range(number)]


async def defend(target: Target, running: Sequence[Running]) -> Outcome:
    """Log Ada in from a known device and from a new one in turn, until the attackers have finished.

    She logs in less often than the limit of her own address allows.
    """
    outcome = Outcome()
    engine = target.backend.create_engine()
    async with closing(LoginThrottle(target.storage)) as throttle:
        world = ThrottledWorld(database=Database(engine=engine), throttle=throttle)
        new_devices = iter(addresses_of(2**16)[2**15 :])
        while outcome.known.total() < MOST_LOGINS and not all(future.done() for future in running):
            outcome.known[(await world.visitor(HOME).log_in()).status] += 1
            outcome.new[(await world.visitor(next(new_devices)).log_in()).status] += 1
    await engine.dispose()
    for future in running:
        outcome.attackers.update(await future)
    return outcome


async def prepare(target: Target) -> None:
    """Create Ada, and log her in from the device that is known."""
    engine = target.backend.create_engine()
    await create_empty_tables(engine)
    database = Database(engine=engine)
    await database.create_user()
    async with Redis.from_url(target.storage) as redis:
        await redis.flushdb()
    async with closing(LoginThrottle(target.storage)) as throttle:
        await ThrottledWorld(database=database, throttle=throttle).visitor(HOME).token()
        await throttle.storage.reset()
    await engine.dispose()


async def simulate(target: Target, attacking: Attackers, addresses: Sequence[str]) -> Outcome:
    """Run an attack, and return what it and its victim have met."""
    await prepare(target)
    return await defend(target, await attacking.start(target, addresses))


def main(arguments: Sequence[str]) -> None:
    """Run an attack, and print its outcome."""
    parser = ArgumentParser(description=__doc__)
    parser.add_argument("storage")
    parser.add_argument("--addresses", type=int, default=1000)
    parser.add_argument("--guesses", type=int, default=1, help="for each address")
    parser.add_argument("--processes", type=int, default=2)
    options = parser.parse_args(arguments)
    lengthen_delays()
    with tempfile.TemporaryDirectory() as directory, attackers(options.processes) as attacking:
        target = Target(backend=SQLITE["sqlite-wal-begin"](Path(directory)), storage=options.storage)
        started = time.monotonic()
        outcome = asyncio.run(simulate(target, attacking, addresses_of(options.addresses) * options.guesses))
        sys.stdout.write(f"{options}\n{outcome}\n{time.monotonic() - started:.0f} s\n")


if __name__ == "__main__":
    main(sys.argv[1:])
