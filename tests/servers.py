"""Private database servers for the tests: real servers, each with its own directory and port.

No server has to run beforehand, and nothing is left behind, so several test runs can share a machine. SQL servers
refuse to run as root: when root runs the tests, another account owns the directory and runs the server.
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
PATIENCE = 180.0  # the seconds that a program may take to exit, or that a server may take to answer
SEARCH_PATH = f"{os.environ.get('PATH', os.defpath)}:/usr/local/sbin:/usr/sbin"


class ServerUnavailable(Exception):
    """This machine does not have the programs of a server. The message names the programs."""


class ServerFailed(Exception):
    """A program failed, or a server does not answer. The message ends with the log."""


class PortTaken(ServerFailed):
    """Another program is listening on the server's port."""


@contextmanager
def skip_if_unavailable() -> Iterator[None]:
    """Skip the test on `ServerUnavailable`, unless `KNOX_REQUIRE_BACKENDS=1` is set."""
    try:
        yield
    except ServerUnavailable as reason:
        if os.environ.get("KNOX_REQUIRE_BACKENDS") == "1":
            raise
        pytest.skip(str(reason))


@dataclass(kw_only=True)
class Home:
    """A private directory, the programs that run in it and, when root runs the tests, the account that owns it."""

    path: Path
    user: int | None
    group: int | None
    processes: list[subprocess.Popen[bytes]] = field(default_factory=list, init=False)

    def spawn(self, command: Sequence[str | Path]) -> subprocess.Popen[bytes]:
        """Start a program under the account, with a new log, in a session that the terminal's Ctrl-C does not reach."""
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
        """Run a program until it exits.

        Raises:
            ServerFailed: The program did not succeed.
        """
        status = self.spawn(command).wait(PATIENCE)
        if status != 0:
            raise ServerFailed(f"{command[0]} ended with status {status}:\n{self.log_tail()}")

    def can_run(self, program: Path) -> bool:
        """Return whether the account can read the program and the machine can execute it."""
        try:
            self.run([program, "--version"])
        except (OSError, ServerFailed):
            return False
        return True

    def log_tail(self) -> str:
        """Return the last lines in the log of the program that was started last."""
        return "\n".join((self.path / "log").read_text(errors="replace").splitlines()[-60:])

    def clear_away(self) -> None:
        """Stop the programs that are still running, and remove the directory."""
        for process in self.processes:
            if process.poll() is None:
                _end(process)
        shutil.rmtree(self.path, ignore_errors=True)


def _end(process: subprocess.Popen[bytes]) -> None:
    """Terminate a program, give it time to clean up, and then kill the processes that it started."""
    process.terminate()
    with suppress(subprocess.TimeoutExpired):
        process.wait(5)
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


@contextmanager
def _uninterrupted() -> Iterator[None]:
    """Delay Ctrl-C and SIGTERM, which interrupt the main thread, until the block has noted what to clean up."""
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
    """A server on the loopback interface that tests can connect to, pause, kill and start again.

    Attributes:
        home: The directory of the server.
        command: A function that returns the command that serves a port.
        is_ready: A function that returns whether the process with this id serves this port. If it raises `OSError` or
            `IndexError`, the process does not serve the port yet.
        kill_signal: The signal that kills the server.
        port: The port that the server listens on.
    """

    home: Home
    command: Callable[[int], Sequence[str | Path]]
    is_ready: Callable[[int, int], bool]
    kill_signal: signal.Signals = signal.SIGKILL
    port: int = 0
    _process: subprocess.Popen[bytes] | None = field(default=None, init=False)

    @contextmanager
    def running(self, ports: Iterable[int] | None = None) -> Iterator[Self]:
        """Serve on one of the ports, or on any free port, until the end of the block."""
        try:
            self.start_on_one_of(free_ports() if ports is None else ports)
            yield self
        finally:
            self.kill()

    def start_on_one_of(self, ports: Iterable[int]) -> None:
        """Start on the first of the ports that no other program has taken."""
        for port in ports:
            self.port = port
            with suppress(PortTaken):
                return self.start()
        raise PortTaken("all ports are taken")

    def start(self) -> None:
        """Start the server with the same port and data as before, and return when it answers.

        If `KNOX_NO_SERVERS=1` is set, the start fails, which shows that a test needs the mark `server` but does not
        have it.
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
        """Kill the server, as in a crash, and return when its process has exited."""
        if self._process is not None and self._process.poll() is None:
            self._resume()
            self._process.send_signal(self.kill_signal)
            self._process.wait(PATIENCE)

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Stop the server's processes during the block. Connections stay open, but the server does not answer."""
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
        """Yield the id of the server's process, and then the ids of its children, which only Linux reports."""
        if self._process is not None and self._process.poll() is None:
            pid = self._process.pid
            yield pid
            for children in Path(f"/proc/{pid}/task/{pid}").glob("children"):
                yield from map(int, children.read_text().split())

    def _answers(self, process: subprocess.Popen[bytes]) -> bool:
        """Return whether this process serves.

        Raises:
            PortTaken: The process has exited, because another program is listening on the port.
            ServerFailed: The process has exited for another reason.
        """
        if process.poll() is not None:
            log = self.home.log_tail()
            failure = PortTaken if os.strerror(errno.EADDRINUSE) in log else ServerFailed
            raise failure(f"the server ended with status {process.returncode}:\n{log}")
        with suppress(OSError, IndexError):
            return self.is_ready(process.pid, self.port)
        return False


@dataclass(kw_only=True)
class Server(Daemon):
    """An SQL server with a user and a database."""

    user: str
    database: str

    def url(self, scheme: str) -> str:
        """Return the database's URL for a scheme such as `postgresql+asyncpg`."""
        return f"{scheme}://{self.user}@{HOST}:{self.port}/{self.database}"


def _send(number: signal.Signals, pid: int) -> None:
    """Send a signal to a process, unless it has exited."""
    with suppress(ProcessLookupError):
        os.kill(pid, number)


def _await_stillness(pid: int) -> None:
    """Wait until SIGSTOP has stopped a process, which takes a moment."""
    while not _stands_still(pid):
        time.sleep(0.001)


def _stands_still(pid: int) -> bool:
    """Return whether all threads of a process are stopped (T) or have exited (Z)."""
    with suppress(FileNotFoundError, ProcessLookupError):  # A thread has exited meanwhile, so the caller looks again.
        stats = [stat.read_text() for stat in Path(f"/proc/{pid}/task").glob("*/stat")]
        return {stat.rpartition(") ")[2][0] for stat in stats} <= {"T", "Z"}
    return False


@contextmanager
def private_home(account: str | None = None) -> Iterator[Home]:
    """Create a directory in /tmp, which every account can read, and remove it even after Ctrl-C or SIGTERM."""
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    user, group = _account(account) if account and os.geteuid() == 0 else (None, None)
    with _uninterrupted():
        home = Home(path=Path(mkdtemp(prefix="knox-", dir="/tmp")), user=user, group=group)
        atexit.register(home.clear_away)  # in case an interrupt arrives before the `try` below
    try:
        if user is not None and group is not None:
            os.chown(home.path, user, group)
        yield home
    finally:
        home.clear_away()
        signal.signal(signal.SIGTERM, before)


def _account(name: str) -> tuple[int, int]:
    """Return the ids of an account and its group; if the account does not exist, return the ids of `nobody`."""
    with suppress(KeyError):
        return pwd.getpwnam(name)[2:4]
    return pwd.getpwnam("nobody")[2:4]


def free_ports() -> Iterator[int]:
    """Yield free ports below the ports of outgoing connections, so that a killed server can take its port again."""
    return filter(_is_free, random.SystemRandom().sample(range(20_000, 32_000), k=100))


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        with suppress(OSError):
            probe.bind((HOST, port))
            return True
    return False
