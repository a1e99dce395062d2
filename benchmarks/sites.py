"""Serve over HTTP, each program on its own port."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from functools import partial
from http.client import HTTPConnection
from pathlib import Path
from signal import SIGTERM

from tests.servers import HOST, Daemon, private_home

ROOT = Path(__file__).parents[1]


@dataclass(frozen=True, kw_only=True)
class Site:
    """A program that serves `GET /me`.

    Attributes:
        port: The port that it listens on.
        token: The token that it accepts.
    """

    port: int
    token: str

    @property
    def url(self) -> str:
        """The URL of the route."""
        return f"http://{HOST}:{self.port}/me"

    @property
    def header(self) -> str:
        """Return the header that a request needs."""
        return f"Authorization: Bearer {self.token}"


def status(site: Site) -> int:
    """Send one request, and return the answer's status."""
    with closing(HTTPConnection(HOST, site.port, timeout=5)) as connection:
        connection.request("GET", "/me", headers=dict([site.header.split(": ")]))
        return connection.getresponse().status


@contextmanager
def serving(command: Sequence[str | Path], *, port_option: str, token: str) -> Iterator[Site]:
    """Run a program with its port as an option, and begin the block once the program accepts the token."""
    with private_home() as home:
        server = Daemon(
            home=home,
            command=lambda port: [*command, port_option.format(port)],
            is_ready=partial(_takes, token),
            kill_signal=SIGTERM,  # The program then stops its own workers.
        )
        with server.running():
            yield Site(port=server.port, token=token)


def _takes(token: str, _pid: int, port: int) -> bool:
    return status(Site(port=port, token=token)) == 200


def command_in(environment: Mapping[str, str], *command: str | Path) -> list[str | Path]:
    """Return the command with these environment variables, and with the repository on the path of Python."""
    variables = {"PYTHONPATH": str(ROOT), **environment}
    return ["env", *(f"{name}={value}" for name, value in variables.items()), *command]
