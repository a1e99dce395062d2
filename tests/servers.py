"""Private database servers for the tests: real ones, each in a directory and on a port of its own.

Nothing has to run beforehand and nothing stays behind, so test runs can go side by side. Servers of SQL refuse to
run as root: when root runs the tests, the directory belongs to another account and the server runs as that account.
"""

import atexit
import errno
import os
import pwd
import random
import shutil
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import mkdtemp
from typing import Self

import pytest

HOST = "127.0.0.1"
INTERRUPTS = (signal.SIGINT, signal.SIGTERM)
PATIENCE = 60.0  # seconds for a program to end or a server to answer
SEARCH_PATH = f"{os.environ.get('PATH', os.defpath)}:/usr/local/sbin:/usr/sbin"


class ServerUnavailable(Exception):
    """This machine has no programs of that server; the message names them."""


class ServerFailed(Exception):
    """A program failed or a server does not answer; the message ends with its log."""


class PortTaken(ServerFailed):
    """Another program listens on the server's port."""


@contextmanager
def skip_if_unavailable() -> Iterator[None]:
    """Turn `ServerUnavailable` into a skip, unless `KNOX_REQUIRE_BACKENDS=1` forbids skipping."""
    try:
        yield
    except ServerUnavailable as reason:
        if os.environ.get("KNOX_REQUIRE_BACKENDS") == "1":
            raise
        pytest.skip(str(reason))


@dataclass(kw_only=True)
class Home:
    """A private directory, what runs in it and, when root runs the tests, the account that owns it."""

    path: Path
    user: int | None
    group: int | None
    processes: list[subprocess.Popen[bytes]] = field(default_factory=list, init=False)

    def spawn(self, command: Sequence[str | Path]) -> subprocess.Popen[bytes]:
        """Start a program as the account, with a new log, out of reach of the terminal's Ctrl-C."""
        with (self.path / "log").open("wb") as log, _uninterrupted():
            process = subprocess.Popen(
                command,
                cwd=self.path,
                env={"PATH": SEARCH_PATH, "HOME": str(self.path), "TMPDIR": str(self.path), "LC_ALL": "C"},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
                user=self.user,
                group=self.group,
                extra_groups=None if self.user is None else [],
            )
            self.processes.append(process)
        return process

    def run(self, command: Sequence[str | Path]) -> None:
        """Run a program to its end; raise `ServerFailed` unless it succeeds."""
        status = self.spawn(command).wait(PATIENCE)
        if status != 0:
            raise ServerFailed(f"{command[0]} ended with status {status}:\n{self.log_tail()}")

    def can_run(self, program: Path) -> bool:
        """Tell whether the account reaches the program and the machine executes it."""
        try:
            self.run([program, "--version"])
        except (OSError, ServerFailed):
            return False
        return True

    def log_tail(self) -> str:
        """Return the last lines that the last program wrote."""
        return "\n".join((self.path / "log").read_text(errors="replace").splitlines()[-60:])

    def clear_away(self) -> None:
        """End what still runs, and remove the directory."""
        for process in self.processes:
            if process.poll() is None:
                _end(process)
        shutil.rmtree(self.path, ignore_errors=True)


def _end(process: subprocess.Popen[bytes]) -> None:
    """End an interrupted program, leaving it the time to clear away, and then what it started."""
    process.terminate()
    with suppress(subprocess.TimeoutExpired):
        process.wait(5)
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


@contextmanager
def _uninterrupted() -> Iterator[None]:
    """Let Ctrl-C and SIGTERM, which reach the main thread, wait until what they would leave behind is noted down."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    waiting: list[int] = []
    handlers = {number: signal.signal(number, lambda caught, _frame: waiting.append(caught)) for number in INTERRUPTS}
    try:
        yield
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)
        for caught in waiting:
            signal.raise_signal(caught)


@dataclass(kw_only=True)
class Daemon:
    """A server on the loopback interface, for tests to connect to, pause, kill and start again.

    `command` makes the command for a port; `is_ready` tells whether the process with an id serves a port, where an
    `OSError` or `IndexError` means not yet.
    """

    home: Home
    command: Callable[[int], Sequence[str | Path]]
    is_ready: Callable[[int, int], bool]
    kill_signal: signal.Signals = signal.SIGKILL
    port: int = 0
    _process: subprocess.Popen[bytes] | None = field(default=None, init=False)

    @contextmanager
    def running(self, ports: Iterable[int] | None = None) -> Iterator[Self]:
        """Serve on one of the ports, or on any that is free, until the end of the block."""
        try:
            self.start_on_one_of(free_ports() if ports is None else ports)
            yield self
        finally:
            self.kill()

    def start_on_one_of(self, ports: Iterable[int]) -> None:
        """Start on the first of the ports that nobody takes meanwhile."""
        for port in ports:
            self.port = port
            with suppress(PortTaken):
                return self.start()
        raise PortTaken("all ports are taken")

    def start(self) -> None:
        """Start, with the port and the data of before, and return when the server answers.

        `KNOX_NO_SERVERS=1` forbids it, so that a test that is to run without servers cannot come to need one unnoticed.
        """
        if os.environ.get("KNOX_NO_SERVERS") == "1":
            raise ServerFailed("a test that starts a server needs the mark `server`")
        self._process = self.home.spawn(self.command(self.port))
        deadline = time.monotonic() + PATIENCE
        while not self._answers(self._process):
            if time.monotonic() > deadline:
                raise ServerFailed(f"no answer within {PATIENCE} s:\n{self.home.log_tail()}")
            time.sleep(0.02)

    def kill(self) -> None:
        """End at once, as in a crash, and return when all of the server's processes are gone."""
        if self._process is not None and self._process.poll() is None:
            self._resume()
            self._process.send_signal(self.kill_signal)
            self._process.wait(PATIENCE)

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Freeze the server for the block: connections stay open, and nothing answers."""
        try:
            for pid in self._processes():
                _send(signal.SIGSTOP, pid)
                _await_stillness(pid)
            yield
        finally:
            self._resume()

    def _resume(self) -> None:
        for pid in self._processes():
            _send(signal.SIGCONT, pid)

    def _processes(self) -> Iterator[int]:
        """List the ids of the server's process and then of its children, which only Linux tells."""
        if self._process is not None and self._process.poll() is None:
            pid = self._process.pid
            yield pid
            for children in Path(f"/proc/{pid}/task/{pid}").glob("children"):
                yield from map(int, children.read_text().split())

    def _answers(self, process: subprocess.Popen[bytes]) -> bool:
        """Tell whether this very process serves; raise if it has ended."""
        if process.poll() is not None:
            log = self.home.log_tail()
            failure = PortTaken if os.strerror(errno.EADDRINUSE) in log else ServerFailed
            raise failure(f"the server ended with status {process.returncode}:\n{log}")
        with suppress(OSError, IndexError):
            return self.is_ready(process.pid, self.port)
        return False


@dataclass(kw_only=True)
class Server(Daemon):
    """A server of SQL, with a user and a database."""

    user: str
    database: str

    def url(self, scheme: str) -> str:
        """Return the database's URL for a scheme such as `postgresql+asyncpg`."""
        return f"{scheme}://{self.user}@{HOST}:{self.port}/{self.database}"


def _send(number: signal.Signals, pid: int) -> None:
    """Send a signal to a process that may have ended."""
    with suppress(ProcessLookupError):
        os.kill(pid, number)


def _await_stillness(pid: int) -> None:
    """Return when a process that got SIGSTOP does nothing any more, which takes it a moment."""
    while not _stands_still(pid):
        time.sleep(0.001)


def _stands_still(pid: int) -> bool:
    """Tell whether all threads are stopped (T) or have ended (Z)."""
    with suppress(FileNotFoundError, ProcessLookupError):  # a thread that ended meanwhile: look again
        stats = [stat.read_text() for stat in Path(f"/proc/{pid}/task").glob("*/stat")]
        return {stat.rpartition(") ")[2][0] for stat in stats} <= {"T", "Z"}
    return False


@contextmanager
def private_home(account: str | None = None) -> Iterator[Home]:
    """Make a directory in /tmp, where every account may look, and clear it away also after Ctrl-C and SIGTERM."""
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    user, group = _account(account) if account and os.geteuid() == 0 else (None, None)
    with _uninterrupted():
        home = Home(path=Path(mkdtemp(prefix="knox-", dir="/tmp")), user=user, group=group)
        atexit.register(home.clear_away)  # for an interrupt that hits the lines below
    try:
        if user is not None and group is not None:
            os.chown(home.path, user, group)
        yield home
    finally:
        home.clear_away()
        signal.signal(signal.SIGTERM, before)


def _account(name: str) -> tuple[int, int]:
    """Return the ids of an account and its group or, where there is none of that name, those of `nobody`."""
    with suppress(KeyError):
        return pwd.getpwnam(name)[2:4]
    return pwd.getpwnam("nobody")[2:4]


def free_ports() -> Iterator[int]:
    """Pick ports below those of outgoing connections, so that a killed server finds its port still free."""
    return filter(_is_free, random.SystemRandom().sample(range(20_000, 32_000), k=100))


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        with suppress(OSError):
            probe.bind((HOST, port))
            return True
    return False
