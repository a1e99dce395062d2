"""While Redis cannot answer or write, requests get 503 and no revoked token is accepted; afterwards all works again."""

import threading
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from dataclasses import dataclass
from datetime import timedelta

import pytest
from httpx import Response
from redis import Redis as BlockingRedis
from redis.asyncio import Redis

from fastapi_users_knox import KnoxSettings
from tests.redis.clients import Patience
from tests.redis.site import Site, patience, serving
from tests.redis_servers import Program, RedisServer, redis
from tests.servers import HOST, ServerFailed, skip_if_unavailable

pytestmark = [pytest.mark.anyio, pytest.mark.server, pytest.mark.unmeasured]

HOUR = timedelta(hours=1)
MINUTE = timedelta(minutes=1)
KEEPING = ("--appendonly", "yes", "--appendfsync", "always")
NOBODYS_PORT = "1"
PROGRAMS: Sequence[Program] = ("redis-6.2", "redis-7", "valkey")
PASSWORD = "secret"

Outage = Callable[[], AbstractContextManager[None]]


@contextmanager
def held(server: RedisServer) -> Iterator[None]:
    """Make Redis delay all scripts, by CLIENT PAUSE."""
    server.ask("CLIENT", "PAUSE", "600000", "WRITE")
    try:
        yield
    finally:
        server.ask("CLIENT", "UNPAUSE")


@contextmanager
def killed(server: RedisServer) -> Iterator[None]:
    """Kill the server, and start it again."""
    server.kill()
    try:
        yield
    finally:
        server.start()


@contextmanager
def full(server: RedisServer) -> Iterator[None]:
    """Leave Redis no memory for writes."""
    server.ask("CONFIG", "SET", "maxmemory", "1")
    try:
        yield
    finally:
        server.ask("CONFIG", "SET", "maxmemory", "0")


@contextmanager
def demoted(server: RedisServer) -> Iterator[None]:
    """Make the server a replica of a master that cannot be reached."""
    server.ask("REPLICAOF", HOST, NOBODYS_PORT)
    try:
        yield
    finally:
        server.ask("REPLICAOF", "NO", "ONE")


@contextmanager
def lonely(server: RedisServer) -> Iterator[None]:
    """Make the server require more replicas than it has."""
    server.ask("CONFIG", "SET", "min-replicas-to-write", "1")
    try:
        yield
    finally:
        server.ask("CONFIG", "SET", "min-replicas-to-write", "0")


@contextmanager
def locked(server: RedisServer) -> Iterator[None]:
    """Make the server require a password that the application does not have, and close the connections."""
    server.ask("CLIENT", "KILL", "TYPE", "normal")
    server.ask("CONFIG", "SET", "requirepass", PASSWORD)
    try:
        yield
    finally:
        with BlockingRedis(port=server.port, password=PASSWORD) as admin:
            admin.config_set("requirepass", "")


@contextmanager
def unsaved(server: RedisServer) -> Iterator[None]:
    """Make a snapshot fail, by a directory in place of its file, after which Redis refuses all writes."""
    in_the_way = server.home.path / "dump.rdb"
    in_the_way.mkdir()
    server.ask("CONFIG", "SET", "save", "3600 1")
    _snapshot(server, "err")
    try:
        yield
    finally:
        in_the_way.rmdir()
        _snapshot(server, "ok")


def _snapshot(server: RedisServer, outcome: str) -> None:
    """Start a snapshot, and wait until it has this outcome."""
    server.ask("BGSAVE")
    while server.facts("INFO", "persistence")["rdb_last_bgsave_status"] != outcome:
        pass


@contextmanager
def busy(server: RedisServer) -> Iterator[None]:
    """Run a script that blocks the server until it is killed."""

    def run() -> None:
        with suppress(ServerFailed):
            server.ask("EVAL", "while true do end", "0")

    server.ask("CONFIG", "SET", "lua-time-limit", "1")
    script = threading.Thread(target=run)
    script.start()
    try:
        while not _is_busy(server):
            pass
        yield
    finally:
        server.ask("SCRIPT", "KILL")
        script.join()


def _is_busy(server: RedisServer) -> bool:
    try:
        server.ask("PING")
    except ServerFailed as refusal:
        return "BUSY" in str(refusal)
    return False


@dataclass(frozen=True, kw_only=True)
class Trouble:
    """A failure of Redis, and how the application responds meanwhile.

    Attributes:
        around: Causes the failure at the start of a block, and repairs it at the end.
        read: The status of a request with a live token.
        refusal: The status of a request with a revoked token.
        logout: The status of a logout with a live token.
        ends: Whether that logout revokes the token.
        is_silent: Whether Redis does not answer at all, so that the client gives up.
        options: Options of the server.
    """

    around: Callable[[RedisServer], AbstractContextManager[None]]
    read: int = 503
    refusal: int = 503
    logout: int = 503
    ends: bool = False
    is_silent: bool = False
    options: Sequence[str] = ()


TROUBLES: Mapping[str, Trouble] = {
    "held": Trouble(around=held, is_silent=True),
    "frozen": Trouble(around=RedisServer.paused, is_silent=True),
    "killed": Trouble(around=killed, options=KEEPING),
    "full": Trouble(around=full, read=200, refusal=401, logout=204, ends=True),  # Reading and deleting need no memory.
    "demoted": Trouble(around=demoted),
    "lonely": Trouble(around=lonely),
    "locked": Trouble(around=locked),
    "unsaved": Trouble(around=unsaved),
    "busy": Trouble(around=busy),
}
CASES: Sequence[tuple[Program, str]] = [("redis-7", name) for name in TROUBLES]
# Error messages differ between the programs, so requests of each kind run on all of them. Silence is the same on each,
# and so is the time after which the record of a failed login expires.
WORDS = ("full", "demoted", "lonely", "locked", "unsaved", "busy")
OTHERS: Sequence[tuple[Program, str]] = [(program, name) for program in ("redis-6.2", "valkey") for name in WORDS]
on_each_program = pytest.mark.parametrize("case", [*CASES, *OTHERS], indirect=True, ids="-".join)


@pytest.fixture(params=CASES, ids="-".join)
def case(request: pytest.FixtureRequest) -> tuple[Program, str]:
    """Return each failure, on Redis 7."""
    case: tuple[Program, str] = request.param
    return case


@pytest.fixture
def trouble(case: tuple[Program, str]) -> Trouble:
    """Return the failure."""
    return TROUBLES[case[1]]


@pytest.fixture
def server(case: tuple[Program, str], trouble: Trouble) -> Iterator[RedisServer]:
    """Run a server that only this test uses."""
    with skip_if_unavailable(), redis(case[0], *trouble.options) as server:
        yield server


@pytest.fixture
def redis_7() -> Iterator[RedisServer]:
    """Run a Redis 7 server that only this test uses."""
    with skip_if_unavailable(), redis("redis-7") as server:
        yield server


@pytest.fixture
def waiting() -> Patience:
    """Return how long the application's client waits for replies."""
    return Patience()


@pytest.fixture
def outage(server: RedisServer, trouble: Trouble, waiting: Patience) -> Outage:
    """Return a function that makes the server fail during a block."""

    @contextmanager
    def outage() -> Iterator[None]:
        with trouble.around(server), waiting.lost() if trouble.is_silent else nullcontext():
            yield

    return outage


@pytest.fixture
async def site(server: RedisServer, waiting: Patience) -> AsyncIterator[Site]:
    """Run the application."""
    async with Redis.from_url(server.url(), **waiting.options()) as client, serving(client) as site:
        yield site


@pytest.fixture
async def limited(server: RedisServer, waiting: Patience) -> AsyncIterator[Site]:
    """Run the application with a limit of one token for each user."""
    settings = KnoxSettings(token_limit_per_user=1)
    async with Redis.from_url(server.url(), **waiting.options()) as client, serving(client, settings) as site:
        yield site


def is_unavailable(response: Response) -> bool:
    """Return whether a response is 503 with a `Retry-After` header."""
    answer = (response.status_code, response.json(), response.headers.get("Retry-After"))
    return answer == (503, {"detail": "TOKEN_STORE_UNAVAILABLE"}, "5")


@on_each_program
async def test_nobody_is_let_in_who_may_be_logged_out(outage: Outage, trouble: Trouble, site: Site) -> None:
    """During the failure, a revoked token, junk and no token are refused, and a live token gets 503 or 200."""
    live, revoked = await site.token(), await site.token()
    await site.log_out(revoked)

    with outage():
        answers = [await site.read(token) for token in (live, revoked, None, "junk")]

    assert answers == [trouble.read, trouble.refusal, 401, 401]
    assert [await site.read(token) for token in (live, revoked)] == [200, 401]


@on_each_program
async def test_a_login_asks_to_come_again(outage: Outage, site: Site) -> None:
    """During the failure, a login answers 503; afterwards, logins, reads and logouts work without a restart."""
    before = await site.token()

    with outage():
        during = await site.log_in()
    after = await site.token()

    assert is_unavailable(during)
    assert [await site.read(token) for token in (before, after)] == [200, 200]
    assert await site.log_out_all(after) == 204
    assert [await site.read(token) for token in (before, after)] == [401, 401]


@on_each_program
async def test_a_logout_that_answers_204_is_one(outage: Outage, trouble: Trouble, site: Site) -> None:
    """During the failure, a logout answers 503 and revokes nothing, or answers 204 and the token stays revoked."""
    first, second = await site.token(), await site.token()

    with outage():
        answers = [await site.log_out(first), await site.log_out_all(second)]

    assert answers == [trouble.logout, trouble.logout]
    assert [await site.read(token) for token in (first, second)] == ([401, 401] if trouble.ends else [200, 200])


def pass_ten_seconds(server: RedisServer) -> None:
    """Delete each key that would expire within ten seconds."""
    for key in server.ask("KEYS", "*"):
        if 0 <= int(str(server.ask("PTTL", str(key)))) <= 10_000:
            server.ask("DEL", str(key))


async def test_a_login_that_failed_takes_no_place(server: RedisServer, outage: Outage, limited: Site) -> None:
    """Ten seconds after a login answered 503, it does not count for the limit, even if Redis has stored a record."""
    await limited.log_out(await limited.token())

    with outage():
        during = await limited.log_in()
    pass_ten_seconds(server)
    after = await limited.log_in()

    assert is_unavailable(during)
    assert after.status_code == 200


# data that Redis has lost


async def test_a_redis_that_kept_nothing_logs_everybody_out(redis_7: RedisServer) -> None:
    """After Redis has restarted without its data, the old tokens are refused, and logins work within the limit."""
    settings = KnoxSettings(token_limit_per_user=1)
    async with Redis.from_url(redis_7.url(), **patience()) as client, serving(client, settings) as site:
        lost = await site.token()

        with killed(redis_7):
            pass
        answers = [await site.read(lost), await site.log_out(lost), await site.log_out_all(lost)]
        new = await site.token()

        assert answers == [401, 401, 401]
        assert [await site.read(token) for token in (lost, new)] == [401, 200]


@pytest.mark.parametrize("program", PROGRAMS)
async def test_scripts_that_redis_has_lost_are_loaded_again(program: Program) -> None:
    """Each request works if Redis has lost the scripts just before it."""
    with skip_if_unavailable(), redis(program) as server:
        async with Redis.from_url(server.url(), **patience()) as client, serving(client) as site:
            first, second, third = [await site.token() for _ in range(3)]
            answers = []
            for ask in (site.read, site.log_out, site.log_out_all):
                for token in (first, second, third):
                    server.ask("SCRIPT", "FLUSH")
                    answers.append(await ask(token))

    assert answers == [200, 200, 200, 204, 204, 204, 401, 401, 401]
