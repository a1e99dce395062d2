"""A storage that is unavailable, slow or broken neither locks everybody out nor holds up a login."""

import asyncio
import errno
import time

import pytest
from anyio.lowlevel import checkpoint
from limits.aio.storage import MemoryStorage

from fastapi_users_knox import ThrottleUnavailable
from fastapi_users_knox.errors import KnownBy
from fastapi_users_knox.throttling import LoginThrottle, budget
from tests.redis_servers import RedisServer
from tests.throttling.places import ADA, HOME, attempt, closing

pytestmark = [pytest.mark.anyio]

NOWHERE = "redis://127.0.0.1:1"


class Stopwatch:
    """A clock that a test moves."""

    seconds = 1000.0

    def __call__(self) -> float:
        """Return the time."""
        return self.seconds


async def test_an_unavailable_storage_admits_everybody(caplog: pytest.LogCaptureFixture) -> None:
    """By default all attempts are admitted, and a success is none the worse."""
    async with closing(LoginThrottle(NOWHERE)) as throttle:
        outcomes = [await attempt(throttle) for _ in range(6)]
        await throttle.forget(ADA, HOME, purpose="login")

    assert outcomes == ["admitted"] * 6
    [line] = caplog.records
    assert (line.name, line.levelname) == ("fastapi_users_knox", "ERROR")
    assert line.getMessage().startswith(
        "Attempts to log in are not throttled, because the storage of the throttle is unavailable: ConnectionError"
    )


async def test_an_unavailable_storage_may_admit_nobody(caplog: pytest.LogCaptureFixture) -> None:
    """With `fail_open=False` each attempt is answered by 503, but a success is none the worse."""
    async with closing(LoginThrottle(NOWHERE, fail_open=False)) as throttle:
        await throttle.forget(ADA, HOME, purpose="login")
        with pytest.raises(ThrottleUnavailable):
            await attempt(throttle)

    assert caplog.messages[0].startswith("Nobody can log in, because the storage")


async def test_an_available_storage_may_admit(redis_7_server: RedisServer) -> None:
    """With `fail_open=False` an available storage admits attempts as usual."""
    redis_7_server.ask("FLUSHALL")
    async with closing(LoginThrottle(redis_7_server.url(), fail_open=False)) as throttle:
        assert await attempt(throttle) == "admitted"


async def test_an_outage_is_logged_once_a_minute(caplog: pytest.LogCaptureFixture) -> None:
    """An outage is logged at its beginning and then once a minute, not at each attempt."""
    clock = Stopwatch()
    async with closing(LoginThrottle(NOWHERE, clock=clock)) as throttle:
        for seconds in (0, 30, 29.9):
            clock.seconds += seconds
            await attempt(throttle)
        within_a_minute = len(caplog.records)
        clock.seconds += 0.1
        await attempt(throttle)

    assert (within_a_minute, len(caplog.records)) == (1, 2)


async def test_an_error_of_the_test_for_known_clients_is_raised() -> None:
    """An error that is not of the storage is neither hidden nor counted as an outage."""

    async def broken() -> KnownBy:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await attempt(LoginThrottle(), known_by=broken)


@pytest.mark.bounded
async def test_a_busy_event_loop_is_no_outage(redis_7_server: RedisServer) -> None:
    """While the hashes of other logins block the event loop, an attempt is counted and refused as usual."""
    redis_7_server.ask("FLUSHALL")

    async def hash_passwords() -> None:
        for _ in range(4):
            end = time.monotonic() + 1.2 * budget.MAX_DELAY
            while time.monotonic() < end:
                pass
            await checkpoint()

    async with closing(LoginThrottle(redis_7_server.url(), per_account_and_address=("1/hour",))) as throttle:
        await attempt(throttle)

        outcome, _ = await asyncio.gather(attempt(throttle), hash_passwords())

    assert outcome == "account_and_address: 1 per 1 hour"


@pytest.mark.bounded
async def test_a_storage_that_does_not_answer_is_given_up(
    redis_7_server: RedisServer, caplog: pytest.LogCaptureFixture
) -> None:
    """An attempt and its success end by themselves if the server does not answer, even if the client has no timeout."""
    async with closing(LoginThrottle(redis_7_server.url())) as throttle:
        await attempt(throttle)
        with redis_7_server.paused():
            outcome = await attempt(throttle)
            await throttle.forget(ADA, HOME, purpose="login")

    assert outcome == "admitted"
    assert caplog.messages[0].endswith("unavailable: TimeoutError")


class MaxConnectionsError(Exception):
    """What the client libraries raise when their pool has no connection left, by the same name."""


def exhausted() -> OSError:
    """Return the error of a process that cannot open another file, as a client library wraps it."""
    error = OSError("cannot connect")
    error.__cause__ = OSError(errno.EMFILE, "Too many open files")
    return error


@pytest.mark.parametrize("error", [MaxConnectionsError(), exhausted()], ids=["connections", "files"])
async def test_a_process_without_connections_admits_nobody(error: Exception) -> None:
    """If the process has no connection left, an attempt is answered by 503, whatever an outage does."""
    storage = Exhausted(error)
    throttle = LoginThrottle(storage)

    with pytest.raises(ThrottleUnavailable):
        await attempt(throttle)
    await throttle.forget(ADA, HOME, purpose="login")


class Exhausted(MemoryStorage):
    """A storage whose client cannot connect."""

    def __init__(self, error: Exception) -> None:
        super().__init__()
        self._error = error

    async def incr(self, *_: object, **__: object) -> int:
        """Fail."""
        raise self._error

    async def clear(self, *_: object) -> None:
        """Fail."""
        raise self._error
