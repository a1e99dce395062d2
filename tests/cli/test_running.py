"""How a command ends if the store is unavailable, raises an error, or if somebody interrupts it."""

import json
import os
import signal
from contextlib import suppress
from datetime import timedelta

from sqlalchemy.engine import make_url

from tests.cli.place import TABLE, Place, run_program, start_program
from tests.servers import PATIENCE, Server

USER = "00000000-0000-0000-0000-000000000000"


def test_an_unavailable_database_ends_with_3() -> None:
    """If the database cannot be reached, the exit code is 3, and the log says why without the password."""
    url = "postgresql+asyncpg://knox:the-password@127.0.0.1:1/knox"

    result = run_program(["--database", url, "--table", TABLE, "sessions", USER], {})

    assert result.exit_code == 3
    assert "Error: the token store is unavailable; the log says why.\n" in result.stderr
    assert "the-password" not in result.output


def test_an_unavailable_redis_ends_with_3() -> None:
    """If Redis cannot be reached, the exit code is 3."""
    result = run_program(["--redis", "redis://:the-password@127.0.0.1:1", "logout-all", USER], {})

    assert (result.exit_code, "the-password" in result.output) == (3, False)


async def test_a_missing_table_ends_with_2(sqlite: Place, postgresql_server: Server) -> None:
    """A mistake in the set-up, such as a missing table, is described without the parameters of the statement."""
    url = make_url(postgresql_server.url("postgresql+asyncpg")).set(database="template1")
    options = ["--database", url.render_as_string(hide_password=False), "--table", TABLE]

    result = await sqlite.run_with(options, "sessions", USER, code=2)

    assert 'relation "knox_token" does not exist' in result.stderr
    assert not any(text in result.output for text in ("Traceback", "SELECT", USER.replace("-", "")))


def test_ctrl_c_ends_with_130() -> None:
    """Ctrl-C ends the program with 130, a message and no traceback."""
    process = start_program("--app", "tests.cli.application:open_slowly", "sessions", USER, "--json")
    with process:
        assert process.stderr
        assert process.stderr.readline() == "waiting\n"

        process.send_signal(signal.SIGINT)

        output, errors = process.communicate(timeout=PATIENCE)
    assert (process.returncode, errors) == (130, "Interrupted.\n")
    assert json.loads(output) == {"interrupted": True}


async def test_a_terminal_shows_progress(sqlite: Place) -> None:
    """On a terminal, standard error has a progress bar, and standard output only the result."""
    await sqlite.log_in(await sqlite.create_user(), ago=timedelta(days=1))
    reading, terminal = os.openpty()

    with start_program(*sqlite.options, "purge", errors=terminal) as process:
        os.close(terminal)
        assert process.stdout
        output = process.stdout.read()
    shown = read_terminal(reading)

    assert process.returncode == 0
    assert "Deleting expired tokens" in shown
    assert output.startswith("1 expired tokens are deleted")


def read_terminal(reading: int) -> str:
    """Return what was written to a terminal that is closed now."""
    shown = b""
    with suppress(OSError):  # Linux reports the end of a terminal as an error.
        while part := os.read(reading, 4096):
            shown += part
    os.close(reading)
    return shown.decode()
