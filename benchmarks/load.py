"""Load a server over eight connections; each sends the next request as soon as its last request is answered."""

import asyncio
import re
from asyncio import BaseTransport, Transport
from collections.abc import Awaitable, Callable, Mapping
from functools import partial
from shutil import which
from time import perf_counter
from typing import cast

import anyio

from benchmarks.sites import Site
from tests.servers import HOST, PATIENCE

CONNECTIONS = 8

Generate = Callable[[Site, float], Awaitable[float]]


class Refused(Exception):
    """A server did not answer every request with 200. The message contains the server's answer."""


async def by_wrk(site: Site, seconds: float) -> float:
    """Return the answered requests per second as wrk counts them; wrk accepts only whole seconds."""
    duration = f"-d{max(1, round(seconds))}s"
    done = await anyio.run_process(["wrk", "-t1", f"-c{CONNECTIONS}", duration, "-H", site.header, site.url])
    output = done.stdout.decode()
    if "Non-2xx" in output or "Socket errors" in output:
        raise Refused(output)
    return float(re.findall(r"Requests/sec: +([\d.]+)", output)[0])


async def by_asyncio(site: Site, seconds: float) -> float:
    """Return the answered requests per second on a machine without wrk."""
    began = perf_counter()
    answers = await count_answers(site, seconds)
    return answers / (perf_counter() - began)


async def count_answers(site: Site, seconds: float) -> int:
    """Send requests for this long, and return how many were answered."""
    end = perf_counter() + seconds
    async with asyncio.timeout(seconds + PATIENCE):
        return sum(await asyncio.gather(*(_ask(site, end) for _ in range(CONNECTIONS))))


async def _ask(site: Site, end: float) -> int:
    """Send requests until the end, with a new connection whenever the server closes one, and count the answers."""
    request = f"GET /me HTTP/1.1\r\nHost: {HOST}\r\n{site.header}\r\n\r\n".encode()
    connect = partial(asyncio.get_running_loop().create_connection, partial(_Connection, request, end))
    answers = 0
    while perf_counter() < end:
        _, connection = await connect(HOST, site.port)
        answers += await connection.answers
    return answers


class _Connection(asyncio.Protocol):
    """Send a request whenever the last request is answered, and report `answers` when the connection is closed.

    Streams would be simpler, but they need a third more processor time, and the server runs on the same processor.
    """

    def __init__(self, request: bytes, end: float) -> None:
        self.answers: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        self._request, self._end = request, end
        self._received, self._answered, self._is_done = b"", 0, False

    def connection_made(self, transport: BaseTransport) -> None:
        self._transport = cast("Transport", transport)
        self._transport.write(self._request)

    def data_received(self, data: bytes) -> None:
        """Read answers whose length is in a header."""
        self._received += data
        head, is_whole, body = self._received.lower().partition(b"\r\n\r\n")
        if not is_whole or len(body) < int(head.partition(b"content-length:")[2].partition(b"\r")[0]):
            return
        if not head.startswith(b"http/1.1 200 "):
            self._transport.abort()
            return
        self._received = b""
        self._answered += 1
        self._is_done = perf_counter() >= self._end or b"\nconnection: close" in head
        if self._is_done:
            self._transport.close()
        else:
            self._transport.write(self._request)

    def connection_lost(self, exc: Exception | None) -> None:
        """Report how many requests were answered, or that a request was not answered with 200."""
        if self._is_done:
            self.answers.set_result(self._answered)
        else:
            self.answers.set_exception(Refused(self._received.decode() or str(exc)))


GENERATORS: Mapping[str, Generate] = {"wrk": by_wrk, "asyncio": by_asyncio}


def generator() -> str:
    """Return the name of the program that loads the servers on this machine."""
    return "wrk" if which("wrk") else "asyncio"
