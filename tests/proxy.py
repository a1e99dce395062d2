"""A proxy in front of a Redis server. It loses a chosen reply, like a network that fails after the server's work."""

import asyncio
from asyncio import StreamReader, StreamWriter
from collections import deque
from contextlib import suppress
from typing import Self

from tests.servers import HOST, free_ports

# A client sends these commands by itself to set up a connection, so they do not count as commands of the caller.
SETUP = frozenset({"AUTH", "CLIENT", "HELLO", "READONLY", "SELECT"})
STRINGS = frozenset({b"$", b"=", b"!"})  # plain strings, verbatim strings and long errors
AGGREGATES = {b"*": 1, b"~": 1, b">": 1, b"%": 2}  # array, set, push, and map, which has two values for each entry
ATTRIBUTES = b"|"


class Proxy:
    """A proxy on the loopback interface, for clients that send one command at a time over each connection.

    The proxy understands both versions of Redis's protocol and forwards pushes of the server, but does not support
    SUBSCRIBE.

    Attributes:
        port: The port that the proxy listens on.
        seen: The commands since the last `drop`, except those that set up a connection. Each item is the command's name
            in capitals and its first argument.
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
        """The number of commands since the last `drop`."""
        return len(self.seen)

    def url(self) -> str:
        """Return the URL of the server's first database."""
        return f"redis://{HOST}:{self.port}/0"

    def drop(self, number: int) -> None:
        """Lose the reply to one of the next commands, and close the connection of that command.

        The number 1 means the next command, and 0 means that no reply is lost. The server executes the command whose
        reply is lost. The call also clears `seen`.
        """
        self.seen.clear()
        self._doomed = number

    async def accept(self) -> None:
        """Listen again at the same port, as if the server were reachable again."""
        if self._listener is None:
            self._listener = await asyncio.start_server(self._serve, HOST, self.port)

    async def refuse(self) -> None:
        """Refuse new connections and close the open ones, as if the server were unreachable."""
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
        """Forward commands and replies until the server closes the connection or a reply is lost."""
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
        """Forward commands until the reply to a command is to be lost, or the client closes the connection.

        For each command, append to `lost` whether its reply is to be lost.
        """
        try:
            while True not in lost:
                command = await read_value(reader)
                lost.append(self._is_doomed(command))
                writer.write(command)
                await writer.drain()
        except (OSError, EOFError):
            writer.close()  # The server then closes the connection, so no more replies come.

    def _is_doomed(self, command: bytes) -> bool:
        """Note the command in `seen`, and return whether its reply is to be lost."""
        name, *arguments = [word.decode(errors="replace") for word in command.split(b"\r\n", 5)[2:5:2]]
        if name.upper() in SETUP:
            return False
        self.seen.append((name.upper(), *arguments))
        return len(self.seen) == self._doomed


async def _pass_replies(reader: StreamReader, writer: StreamWriter, lost: deque[bool]) -> None:
    while True:
        reply = await read_value(reader)
        if not reply.startswith(b">") and lost and lost.popleft():  # A push is not the reply to a command.
            return
        writer.write(reply)
        await writer.drain()


async def read_value(stream: StreamReader) -> bytes:
    """Read one value of Redis's protocol, including the values inside it, and return its bytes unchanged."""
    head = await stream.readuntil(b"\r\n")
    kind, count = head[:1], head[1:-2]
    if kind in STRINGS and count != b"-1":
        return head + await stream.readexactly(int(count) + 2)
    return b"".join([head, *[await read_value(stream) for _ in range(_values_within(kind, count))]])


def _values_within(kind: bytes, count: bytes) -> int:
    """Return how many values follow as parts of a value with this head. Attributes count with the value after them."""
    if kind == ATTRIBUTES:
        return 2 * int(count) + 1
    return AGGREGATES[kind] * int(count) if kind in AGGREGATES else 0  # A null array has the count -1, so no values.


async def _close(writer: StreamWriter) -> None:
    writer.close()
    with suppress(OSError):
        await writer.wait_closed()
