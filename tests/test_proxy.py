"""The proxy of the tests loses the chosen reply, and forwards everything else unchanged."""

import asyncio
from asyncio import StreamReader
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import ConnectionError as Lost
from redis.exceptions import ResponseError

from tests.proxy import Proxy, read_value
from tests.redis_servers import RedisServer, command_of, redis
from tests.servers import HOST, skip_if_unavailable

pytestmark = [pytest.mark.server, pytest.mark.unmeasured]


@pytest.fixture
async def proxy(redis_7_server: RedisServer) -> AsyncIterator[Proxy]:
    """Run a proxy in front of an empty server."""
    redis_7_server.ask("FLUSHALL")
    async with Proxy(HOST, redis_7_server.port) as proxy:
        yield proxy


@asynccontextmanager
async def connect(port: int, protocol: int = 3) -> AsyncIterator[Redis]:
    """Open a client that does not retry."""
    retry = Retry(NoBackoff(), 0)
    async with Redis(port=port, protocol=protocol, decode_responses=True, retry=retry, client_name="test") as client:
        yield client


async def converse(client: Redis) -> list[object]:
    """Send commands whose replies have all kinds of shapes, and return the replies."""
    async with client.pipeline() as pipeline:
        pipeline.set("key", "x\r\n" * 100_000)
        pipeline.lpush("list", "a", "b")
        pipeline.hset("hash", mapping={"a": "1", "b": ""})
        pipeline.zadd("zset", {"member": 1.5})
        written = await pipeline.execute()
    with pytest.raises(ResponseError, match="WRONGTYPE"):
        await client.get("list")
    script = "return {1, {'two', {false, redis.status_reply('FINE')}}}"
    return [
        written,
        await client.get("key"),
        await client.get("none"),
        await client.lrange("list", 0, -1),
        await client.hgetall("hash"),
        await client.zscore("zset", "member"),
        await client.smembers("none"),
        await client.eval(script, 0),
        await client.blpop(["none"], timeout=0.01),
        await client.config_get("maxmemory-policy"),
    ]


@pytest.mark.parametrize("protocol", [2, 3])
async def test_all_answers_pass(redis_7_server: RedisServer, proxy: Proxy, protocol: int) -> None:
    """A client gets the same replies through the proxy as from the server itself."""
    async with connect(redis_7_server.port, protocol) as client:
        direct = await converse(client)
        await client.flushall()

    async with connect(proxy.port, protocol) as client:
        assert await converse(client) == direct


@pytest.mark.parametrize("protocol", [2, 3])
async def test_commands_count_and_set_up_does_not(proxy: Proxy, protocol: int) -> None:
    """`seen` has the commands of all connections, without those that a client sends to set up a connection."""
    async with connect(proxy.port, protocol) as one, connect(proxy.port, protocol) as other:
        await one.set("key", "value")
        await other.get("key")
        await one.ping()

    assert proxy.seen == [("SET", "key"), ("GET", "key"), ("PING",)]
    assert proxy.commands == 3


@pytest.mark.parametrize("protocol", [2, 3])
async def test_a_lost_reply_is_that_of_an_obeyed_command(
    redis_7_server: RedisServer, proxy: Proxy, protocol: int
) -> None:
    """If a reply is lost, the client's connection is closed although the server has executed the command."""
    async with connect(proxy.port, protocol) as client:
        proxy.drop(2)
        first = await client.incr("counter")

        with pytest.raises(Lost):
            await client.incr("counter")

        assert (first, redis_7_server.ask("GET", "counter")) == (1, "2")
        assert await client.incr("counter") == 3
    assert proxy.commands == 3


async def test_only_the_connection_of_the_lost_reply_is_closed(proxy: Proxy) -> None:
    """A lost reply leaves the other connections open."""
    async with connect(proxy.port) as one, connect(proxy.port) as other:
        others_id = await other.client_id()
        proxy.drop(1)

        with pytest.raises(Lost):
            await one.incr("counter")

        assert await other.client_id() == others_id


async def test_each_reply_of_a_call_can_be_lost_in_turn(proxy: Proxy) -> None:
    """A loop can lose each reply of a call in turn, and stops at the first number that the call does not reach."""

    async def call(client: Redis) -> None:
        await client.delete("list")
        for _ in range(3):
            await client.rpush("list", "element")

    lengths = []
    async with connect(proxy.port) as client:
        for number in range(1, 10):
            proxy.drop(number)
            try:
                await call(client)
            except Lost:
                lengths.append(await client.llen("list"))
            if proxy.commands < number:
                break

    assert (lengths, number) == ([0, 1, 2, 3], 5)


async def test_an_unreachable_server_comes_back(proxy: Proxy) -> None:
    """A proxy that refuses closes the open connections and accepts no new connections until `accept` is called."""
    async with connect(proxy.port) as client:
        await client.set("key", "kept")

        await proxy.refuse()
        for _ in range(2):
            with pytest.raises(Lost):
                await client.get("key")
        await proxy.accept()

        assert await client.get("key") == "kept"


async def test_a_dead_server_is_a_closed_connection() -> None:
    """If the server is killed, clients lose their connections at once, and can connect when it has started again."""
    with skip_if_unavailable(), redis("redis-7") as server:
        async with Proxy(HOST, server.port) as proxy, connect(proxy.port) as client:
            await client.ping()

            server.kill()
            for _ in range(2):
                with pytest.raises(Lost):
                    await client.ping()
            server.start()

            assert await client.ping()


async def test_a_push_is_no_reply(proxy: Proxy) -> None:
    """A push of the server is forwarded at once, and is not counted as the reply to a command."""
    reader, writer = await asyncio.open_connection(HOST, proxy.port)
    for command in ("HELLO 3", "CLIENT TRACKING ON", "GET key"):
        writer.write(command_of(command.split()))
        await read_value(reader)

    async with connect(proxy.port) as client:
        await client.set("key", "value")
    push = await asyncio.wait_for(read_value(reader), timeout=60)
    proxy.drop(1)
    writer.write(command_of(["GET", "key"]))
    rest = await reader.read()
    writer.close()
    await writer.wait_closed()

    assert (push, rest) == (b">2\r\n$10\r\ninvalidate\r\n*1\r\n$3\r\nkey\r\n", b"")


@pytest.mark.parametrize(
    "value",
    [
        b"+OK\r\n",
        b"-ERR no\r\n",
        b":-7\r\n",
        b"$5\r\na\r\nb\r\r\n",
        b"$0\r\n\r\n",
        b"$-1\r\n",
        b"*-1\r\n",
        b"*0\r\n",
        b"_\r\n",
        b"#t\r\n",
        b",inf\r\n",
        b"(3492890328409238509324850943850943825024385\r\n",
        b"!9\r\nERR no\r\n!\r\n",
        b"=7\r\ntxt:a\r\n\r\n",
        b"~2\r\n+a\r\n_\r\n",
        b"%2\r\n+a\r\n*2\r\n:1\r\n%1\r\n+b\r\n$1\r\nc\r\n+d\r\n#f\r\n",
        b">2\r\n+message\r\n$1\r\nx\r\n",
        b"|1\r\n+ttl\r\n:3600\r\n*1\r\n$1\r\nx\r\n",
    ],
)
async def test_a_value_is_read_to_its_end(value: bytes) -> None:
    """One read returns exactly one value of any type of the protocol, and leaves the next value in the stream."""
    stream = StreamReader()
    stream.feed_data(value + b"+next\r\n")

    assert await read_value(stream) == value
    assert await read_value(stream) == b"+next\r\n"
