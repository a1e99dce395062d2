"""A proxy before a Redis server that loses a chosen reply, as a network does just after the server has obeyed."""

import asyncio
from asyncio import StreamReader, StreamWriter
from collections import deque
from contextlib import suppress
from typing import Self

from tests.servers import HOST, free_ports

# What a client sends to set a connection up, which is none of the caller's commands.
SETUP = frozenset({"AUTH", "CLIENT", "HELLO", "READONLY", "SELECT"})
STRINGS = frozenset({b"$", b"=", b"!"})  # plain, verbatim, and those of long errors
AGGREGATES = {b"*": 1, b"~": 1, b">": 1, b"%": 2}  # an array, a set and a push; a map has two values for each it counts
ATTRIBUTES = b"|"


class Proxy:
    """A proxy on the loopback interface, for clients that send one command at a time on each connection.

    It reads both versions of Redis's protocol, and passes a server's pushes, but is not for SUBSCRIBE.

    Attributes:
        port: Where it listens.
        seen: The commands since the last `drop`, each with the name in capitals and the first argument, without those
            that set a connection up.
    """

    def __init__(self, host: str, port: int) -> None:
        self.port = 0
        self.seen: list[tuple[str, ...]] = []
        self._address = (host, port)
        self._doomed = 0
        self._listener: asyncio.Server | None = None
        self._connections: set[asyncio.Task[None]] = set()

    async def __aenter__(self) -> Self:
        self.port = next(free_ports())
        await self.accept()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.refuse()

    @property
    def commands(self) -> int:
        """Return the number of commands since the last `drop`."""
        return len(self.seen)

    def url(self) -> str:
        """Return the URL of the server's first database."""
        return f"redis://{HOST}:{self.port}/0"

    def drop(self, number: int) -> None:
        """Lose the reply of the command of that number from now, counted from 1, and close its connection then.

        The server has executed the command by then. With 0, lose none and count from now.
        """
        self.seen.clear()
        self._doomed = number

    async def accept(self) -> None:
        """Listen, where it does not: the server is there again, at the same port."""
        if self._listener is None:
            self._listener = await asyncio.start_server(self._serve, HOST, self.port)

    async def refuse(self) -> None:
        """Refuse new connections and cut the open ones: the server cannot be reached."""
        if self._listener is not None:
            self._listener.close()
            self._listener = None
        for connection in self._connections:
            connection.cancel()
        await asyncio.gather(*self._connections, return_exceptions=True)

    def _serve(self, reader: StreamReader, writer: StreamWriter) -> None:
        connection = asyncio.create_task(self._pass_until_closed(reader, writer))
        self._connections.add(connection)
        connection.add_done_callback(self._connections.discard)

    async def _pass_until_closed(self, reader: StreamReader, writer: StreamWriter) -> None:
        try:
            with suppress(OSError, EOFError):
                await self._connect(reader, writer)
        finally:
            await _close(writer)

    async def _connect(self, reader: StreamReader, writer: StreamWriter) -> None:
        """Pass commands and replies until the server hangs up or a reply is lost."""
        server_reader, server_writer = await asyncio.open_connection(*self._address)
        lost: deque[bool] = deque()
        commands = asyncio.create_task(self._pass_commands(reader, server_writer, lost))
        try:
            await _pass_replies(server_reader, writer, lost)
        finally:
            commands.cancel()
            await asyncio.gather(commands, return_exceptions=True)
            await _close(server_writer)

    async def _pass_commands(self, reader: StreamReader, writer: StreamWriter, lost: deque[bool]) -> None:
        """Pass commands, noting down of each whether its reply shall be lost, until it shall or the client hangs up."""
        try:
            while True not in lost:
                command = await read_value(reader)
                lost.append(self._is_doomed(command))
                writer.write(command)
                await writer.drain()
        except (OSError, EOFError):
            writer.close()  # which ends the replies, too

    def _is_doomed(self, command: bytes) -> bool:
        """Note a command down, and tell whether its reply shall be lost."""
        name, *arguments = [word.decode(errors="replace") for word in command.split(b"\r\n", 5)[2:5:2]]
        if name.upper() in SETUP:
            return False
        self.seen.append((name.upper(), *arguments))
        return len(self.seen) == self._doomed


async def _pass_replies(reader: StreamReader, writer: StreamWriter, lost: deque[bool]) -> None:
    while True:
        reply = await read_value(reader)
        if not reply.startswith(b">") and lost and lost.popleft():  # a push answers no command
            return
        writer.write(reply)
        await writer.drain()


async def read_value(stream: StreamReader) -> bytes:
    """Read one value of Redis's protocol, with all that it contains, and return the very bytes."""
    head = await stream.readuntil(b"\r\n")
    kind, count = head[:1], head[1:-2]
    if kind in STRINGS and count != b"-1":
        return head + await stream.readexactly(int(count) + 2)
    return b"".join([head, *[await read_value(stream) for _ in range(_values_within(kind, count))]])


def _values_within(kind: bytes, count: bytes) -> int:
    """Return how many values belong to the one that begins so; attributes belong to the one that comes after them."""
    if kind == ATTRIBUTES:
        return 2 * int(count) + 1
    return AGGREGATES[kind] * int(count) if kind in AGGREGATES else 0  # a null array counts -1, and so has none


async def _close(writer: StreamWriter) -> None:
    writer.close()
    with suppress(OSError):
        await writer.wait_closed()
