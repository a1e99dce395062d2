"""A Redis that cannot answer or cannot write: 503, never a user who may be logged out, and all is well afterwards."""

import threading
import uuid
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import pytest
from httpx import Response
from redis import Redis as BlockingRedis
from redis.asyncio import Redis

from fastapi_users_knox import Found, KnoxSettings
from fastapi_users_knox.redis import RedisTokenStore
from fastapi_users_knox.testing.contract import new_digest, new_record, presented
from tests.backends import NOW
from tests.redis.site import Site, patience, serving
from tests.redis_servers import Program, RedisServer, redis
from tests.servers import HOST, ServerFailed, skip_if_unavailable

pytestmark = [pytest.mark.anyio, pytest.mark.server]

HOUR = timedelta(hours=1)
MINUTE = timedelta(minutes=1)
KEEPING = ("--appendonly", "yes", "--appendfsync", "always")
NOBODYS_PORT = "1"
PROGRAMS: Sequence[Program] = ("redis-6.2", "redis-7", "valkey")
PASSWORD = "secret"


@contextmanager
def held(server: RedisServer) -> Iterator[None]:
    """Let scripts wait, by Redis's own means."""
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
    """Leave no memory to write to."""
    server.ask("CONFIG", "SET", "maxmemory", "1")
    try:
        yield
    finally:
        server.ask("CONFIG", "SET", "maxmemory", "0")


@contextmanager
def demoted(server: RedisServer) -> Iterator[None]:
    """Make the server a replica, of a master that is not there."""
    server.ask("REPLICAOF", HOST, NOBODYS_PORT)
    try:
        yield
    finally:
        server.ask("REPLICAOF", "NO", "ONE")


@contextmanager
def lonely(server: RedisServer) -> Iterator[None]:
    """Let the server want more replicas than it has."""
    server.ask("CONFIG", "SET", "min-replicas-to-write", "1")
    try:
        yield
    finally:
        server.ask("CONFIG", "SET", "min-replicas-to-write", "0")


@contextmanager
def locked(server: RedisServer) -> Iterator[None]:
    """Let the server want a password that the application does not have, and cut the connections."""
    server.ask("CLIENT", "KILL", "TYPE", "normal")
    server.ask("CONFIG", "SET", "requirepass", PASSWORD)
    try:
        yield
    finally:
        with BlockingRedis(port=server.port, password=PASSWORD) as admin:
            admin.config_set("requirepass", "")


@contextmanager
def unsaved(server: RedisServer) -> Iterator[None]:
    """Let a snapshot fail, after which Redis takes no writes: a directory stands where its file would be."""
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
    """Take a snapshot, and return when its outcome is there."""
    server.ask("BGSAVE")
    while server.facts("INFO", "persistence")["rdb_last_bgsave_status"] != outcome:
        pass


@contextmanager
def busy(server: RedisServer) -> Iterator[None]:
    """Run somebody else's script that does not end until it is killed."""

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
    """What may be the matter with Redis, and what the application answers meanwhile.

    Attributes:
        around: Brings the trouble about, and ends it.
        read: What a read with a live token answers.
        refusal: What a read with a revoked token answers.
        logout: What the logout of a live token answers.
        ends: Whether such a logout is one.
        options: Of the server.
    """

    around: Callable[[RedisServer], AbstractContextManager[None]]
    read: int = 503
    refusal: int = 503
    logout: int = 503
    ends: bool = False
    options: Sequence[str] = ()


TROUBLES: Mapping[str, Trouble] = {
    "held": Trouble(around=held),
    "frozen": Trouble(around=RedisServer.paused),
    "killed": Trouble(around=killed, options=KEEPING),
    "full": Trouble(
        around=full, read=200, refusal=401, logout=204, ends=True
    ),  # Who reads and who deletes needs no memory.
    "demoted": Trouble(around=demoted),
    "lonely": Trouble(around=lonely),
    "locked": Trouble(around=locked),
    "unsaved": Trouble(around=unsaved),
    "busy": Trouble(around=busy),
}
# The words in which Redis refuses differ between versions; that it is silent does not.
WORDS = ("full", "demoted", "lonely", "locked", "unsaved", "busy")
CASES: Sequence[tuple[Program, str]] = [
    *[("redis-7", name) for name in TROUBLES],
    *[("redis-6.2", name) for name in WORDS],
    *[("valkey", name) for name in WORDS],
]


@pytest.fixture(params=CASES, ids="-".join)
def case(request: pytest.FixtureRequest) -> tuple[Program, str]:
    """Name each kind of server in each trouble."""
    case: tuple[Program, str] = request.param
    return case


@pytest.fixture
def trouble(case: tuple[Program, str]) -> Trouble:
    """Give the trouble."""
    return TROUBLES[case[1]]


@pytest.fixture
def server(case: tuple[Program, str], trouble: Trouble) -> Iterator[RedisServer]:
    """Run a server that only this test uses."""
    with skip_if_unavailable(), redis(case[0], *trouble.options) as server:
        yield server


@pytest.fixture
def redis_7() -> Iterator[RedisServer]:
    """Run a server of the usual kind that only this test uses."""
    with skip_if_unavailable(), redis("redis-7") as server:
        yield server


@pytest.fixture
async def site(server: RedisServer) -> AsyncIterator[Site]:
    """Run the application."""
    async with Redis.from_url(server.url(), **patience()) as client, serving(client) as site:
        yield site


@pytest.fixture
async def limited(server: RedisServer) -> AsyncIterator[Site]:
    """Run the application with one token for each user."""
    settings = KnoxSettings(token_limit_per_user=1)
    async with Redis.from_url(server.url(), **patience()) as client, serving(client, settings) as site:
        yield site


def is_unavailable(response: Response) -> bool:
    """Tell whether an answer asks the client to come again."""
    answer = (response.status_code, response.json(), response.headers.get("Retry-After"))
    return answer == (503, {"detail": "TOKEN_STORE_UNAVAILABLE"}, "5")


async def test_nobody_is_let_in_who_may_be_logged_out(server: RedisServer, trouble: Trouble, site: Site) -> None:
    """While Redis is in trouble a revoked token stays refused, as do none and junk; a live one gets 503 or works."""
    live, revoked = await site.token(), await site.token()
    await site.log_out(revoked)

    with trouble.around(server):
        answers = [await site.read(token) for token in (live, revoked, None, "junk")]

    assert answers == [trouble.read, trouble.refusal, 401, 401]
    assert [await site.read(token) for token in (live, revoked)] == [200, 401]


async def test_a_login_asks_to_come_again(server: RedisServer, trouble: Trouble, site: Site) -> None:
    """While Redis is in trouble a login answers 503; afterwards the same application goes on as if nothing had been."""
    before = await site.token()

    with trouble.around(server):
        during = await site.log_in()
    after = await site.token()

    assert is_unavailable(during)
    assert [await site.read(token) for token in (before, after)] == [200, 200]
    assert await site.log_out_all(after) == 204
    assert [await site.read(token) for token in (before, after)] == [401, 401]


async def test_who_is_told_to_be_logged_out_is(server: RedisServer, trouble: Trouble, site: Site) -> None:
    """While Redis is in trouble a logout answers 503 and ends nothing, or 204 and the token is dead for good."""
    first, second = await site.token(), await site.token()

    with trouble.around(server):
        answers = [await site.log_out(first), await site.log_out_all(second)]

    assert answers == [trouble.logout, trouble.logout]
    assert [await site.read(token) for token in (first, second)] == ([401, 401] if trouble.ends else [200, 200])


def pass_ten_seconds(server: RedisServer) -> None:
    """Let go of each key that would go within that time."""
    for key in server.ask("KEYS", "*"):
        if 0 <= int(str(server.ask("PTTL", str(key)))) <= 10_000:
            server.ask("DEL", str(key))


async def test_a_login_that_failed_takes_no_place(server: RedisServer, trouble: Trouble, limited: Site) -> None:
    """A login that was answered 503 does not count for the limit ten seconds later, whatever Redis has made of it."""
    await limited.log_out(await limited.token())

    with trouble.around(server):
        during = await limited.log_in()
    pass_ten_seconds(server)
    after = await limited.log_in()

    assert is_unavailable(during)
    assert after.status_code == 200


# what is lost with Redis's memory


async def test_a_redis_that_kept_nothing_logs_everybody_out(redis_7: RedisServer) -> None:
    """After a restart without the data all tokens are refused, and logins work, within the limit."""
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
async def test_a_redis_that_forgot_the_scripts_is_told_them_anew(program: Program) -> None:
    """Nobody notices when Redis has forgotten the scripts."""
    with skip_if_unavailable(), redis(program) as server:
        async with Redis.from_url(server.url(), **patience()) as client, serving(client) as site:
            first, second, third = [await site.token() for _ in range(3)]
            answers = []
            for ask in (site.read, site.log_out, site.log_out_all):
                for token in (first, second, third):
                    server.ask("SCRIPT", "FLUSH")
                    answers.append(await ask(token))

    assert answers == [200, 200, 200, 204, 204, 204, 401, 401, 401]


# what a read writes


@pytest.mark.parametrize("program", PROGRAMS)
async def test_a_refresh_that_cannot_be_written_fails_no_request(program: Program) -> None:
    """Where Redis has no memory left a read whose refresh is due is answered, and later ones are refreshed again."""
    settings = KnoxSettings(auto_refresh=True, token_ttl=2 * HOUR)
    with skip_if_unavailable(), redis(program) as server:
        async with Redis.from_url(server.url(), **patience()) as client, serving(client, settings) as site:
            token = await site.token()

            with full(server):
                site.clock.now += HOUR
                during = [await site.read(token) for _ in range(2)]
            site.clock.now += HOUR - MINUTE
            after = await site.read(token)
            site.clock.now += HOUR

            assert (during, after) == ([200, 200], 200)
            assert await site.read(token) == 200


async def test_what_a_read_writes_does_not_wait(redis_7: RedisServer, caplog: pytest.LogCaptureFixture) -> None:
    """Of a Redis that is silent, a renewal and a purge give up by themselves, even where the client never would."""
    async with Redis.from_url(redis_7.url(), socket_timeout=None, socket_connect_timeout=None) as client:
        store: RedisTokenStore[Any, Any] = RedisTokenStore(client)
        found = await stored(store)

        with redis_7.paused():
            renewed = await store.renew(found, now=NOW + HOUR / 2, unused_since=NOW + MINUTE)
            purged = await store.purge(audience="web", now=NOW + 2 * HOUR, seen=found, tried_since=NOW)

    assert (renewed, purged) == (False, 0)
    assert caplog.messages == ["Skipped updating last_used_at and expires_at: TimeoutError"] * 2


async def test_an_answer_that_came_too_late_is_nobodys(redis_7: RedisServer) -> None:
    """What Redis answers to a call that was given up is not taken for the answer to the next one."""
    async with Redis.from_url(redis_7.url(), socket_timeout=None, max_connections=1) as client:
        store: RedisTokenStore[Any, Any] = RedisTokenStore(client)
        found, other = await stored(store), await stored(store)

        with redis_7.paused():
            await store.renew(found, now=NOW + HOUR / 2, unused_since=NOW + MINUTE)

        assert await seen(store, other) == other
        assert await seen(store, found) is not None


async def stored(store: RedisTokenStore[Any, Any]) -> Found[Any, Any]:
    """Store a record of a user of its own, and find it."""
    record, digest = new_record(uuid.uuid4()), new_digest()
    await store.add(record, digest, now=NOW)
    return Found(record=record, digest=digest)


async def seen(store: RedisTokenStore[Any, Any], found: Found[Any, Any]) -> Found[Any, Any] | None:
    """Find a record again."""
    return await store.get(presented(found.record.user_id, found.digest), audience="web")
