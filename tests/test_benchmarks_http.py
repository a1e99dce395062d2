"""The benchmark over HTTP loads servers that accept only their own token, and counts the responses correctly."""

import asyncio
from asyncio import StreamReader, StreamWriter
from contextlib import ExitStack, closing, suppress

import pytest

from benchmarks.http import log_in, take_turns, uvicorn
from benchmarks.load import CONNECTIONS, Refused, by_asyncio, count_answers
from benchmarks.measure import Scale
from benchmarks.peers import KNOX_REDIS, KNOX_SQL
from benchmarks.setting import client, database
from benchmarks.sites import Site, status
from tests.redis_servers import redis
from tests.servers import HOST, skip_if_unavailable
from tests.sql_servers import postgresql

pytestmark = pytest.mark.unmeasured

SCALE = Scale(
    rounds=1,
    calls=1,
    http_rounds=1,
    seconds=0.2,
    tokens=(),
    tokens_of_one=(),
    stored=1,
    clients=1,
    users=1,
    expired=1,
    refreshed=1,
)


async def test_servers_answer_to_their_own_token() -> None:
    """Each server accepts only its own token, and a turn returns the responses per second."""
    with ExitStack() as stack:
        with skip_if_unavailable():
            url = stack.enter_context(postgresql()).url("postgresql+asyncpg")
            redis_url = stack.enter_context(redis("any")).url()
        async with database(url) as engine, client(redis_url) as connected:
            tokens = await log_in(engine, connected)
            sites = {
                name: stack.enter_context(uvicorn(name, tokens[name], url, redis_url))
                for name in (KNOX_SQL, KNOX_REDIS)
            }
            swapped = [
                Site(port=sites[name].port, token=tokens[other])
                for name, other in [(KNOX_SQL, KNOX_REDIS), (KNOX_REDIS, KNOX_SQL)]
            ]
            rates = await take_turns(sites, SCALE, by_asyncio)

            assert [status(site) for site in sites.values()] == [200, 200]
            assert [status(site) for site in swapped] == [401, 401]
            assert all(rate > 0 for (rate,) in rates.values())
            with pytest.raises(Refused, match="401"):
                await by_asyncio(swapped[0], 0.2)


async def test_the_bundled_client_counts_the_answers() -> None:
    """The bundled client counts every response, also of a server that closes connections after three requests."""
    answered = 0

    async def answer(reader: StreamReader, writer: StreamWriter) -> None:
        nonlocal answered
        with suppress(asyncio.IncompleteReadError), closing(writer):
            for connection in ("keep-alive", "keep-alive", "close"):
                await reader.readuntil(b"\r\n\r\n")
                answered += 1
                writer.write(f"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: {connection}\r\n\r\n{{}}".encode())

    async with await asyncio.start_server(answer, HOST, 0) as server:
        site = Site(port=server.sockets[0].getsockname()[1], token="")
        counted = await count_answers(site, 0.2)

    assert counted == answered > CONNECTIONS
