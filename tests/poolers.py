"""A private PgBouncer in front of a PostgreSQL server. PgBouncer runs each transaction on any of its connections."""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

from tests.servers import HOST, Home, Server, private_home
from tests.sql_servers import on_path, postgresql_is_listening

CONFIGURATION = """
[databases]
* = host={host} port={behind} user={user}
[pgbouncer]
listen_addr = {host}
listen_port = {port}
unix_socket_dir =
auth_type = any
pool_mode = transaction
default_pool_size = 3
"""


@contextmanager
def pgbouncer(behind: Server) -> Iterator[Server]:
    """Run PgBouncer with three connections to the server. Each connection serves one transaction at a time."""
    with private_home("postgres") as home:
        program = on_path("pgbouncer")
        server = Server(
            home=home,
            command=partial(_command, program, home, behind),
            is_ready=postgresql_is_listening,
            user=behind.user,
            database=behind.database,
        )
        with server.running():
            yield server


def _command(program: Path, home: Home, behind: Server, port: int) -> list[str | Path]:
    file = home.path / "pgbouncer.ini"
    file.write_text(CONFIGURATION.format(host=HOST, port=port, behind=behind.port, user=behind.user))
    return [program, file]
