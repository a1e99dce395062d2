"""The files and the commands of the page on the command line work as the page describes."""

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

from typer.main import get_command

from fastapi_users_knox.cli import program
from fastapi_users_knox.cli.report import ExitCode
from tests.docs.folder import DOCS, ROOT, SRC, TUTORIAL, calling, load, log_in

PAGE = (DOCS / "cli.md").read_text()
PATIENCE = 180.0  # seconds for a command to finish
RUN = "from fastapi_users_knox.cli import main; main()"


def run(name: str, folder: Path) -> subprocess.CompletedProcess[str]:
    """Run the last command of a documented script."""
    words = shlex.split((SRC / name).read_text().splitlines()[-1])[1:]
    paths = os.pathsep.join(map(str, (SRC, TUTORIAL, ROOT)))
    return subprocess.run(
        [sys.executable, "-c", RUN, *words],
        capture_output=True,
        check=False,
        cwd=folder,
        env={**os.environ, "PYTHONPATH": paths, "FASTAPI_USERS_KNOX_APP": "knox_cli:open_strategy"},
        text=True,
        timeout=PATIENCE,
    )


async def test_sessions_are_listed_and_revoked(folder: Path, jane: str) -> None:
    """The commands list the sessions of the tutorial's user, and revoke them."""
    async with calling(load("app").app) as client:
        for _ in range(2):
            await log_in(client)

    listed, revoked, everyone = [run(f"cli_{name}.sh", folder) for name in ("sessions", "logout_all", "everyone")]

    assert listed.stdout.endswith(f"2 live sessions of user {jane}\n")
    assert revoked.stdout == f"2 sessions of user {jane} are revoked.\n"
    assert everyone.stdout.startswith("0 sessions of 0 users are revoked.")


async def test_the_tutorial_has_one_problem(folder: Path, jane: str) -> None:
    """`check` finds only that the tutorial's SQLite does not enforce foreign keys."""
    assert jane

    checked = run("cli_check.sh", folder)

    assert "1 problems in" in checked.stdout
    assert "SQLite does not enforce foreign keys. Cure:" in checked.stdout
    assert checked.returncode == ExitCode.FINDINGS


def test_the_page_documents_every_command_and_option() -> None:
    """The page names all commands, options and variables of the program, and no other options."""
    command = get_command(program)
    commands = getattr(command, "commands")  # noqa: B009 (Typer does not export the class)
    parameters = [parameter for each in (command, *commands.values()) for parameter in each.params]
    options = {name for parameter in parameters for name in parameter.opts if name.startswith("--")}
    variables = {str(parameter.envvar) for parameter in command.params if parameter.envvar}

    assert set(re.findall(r"`(--[a-z-]+)", PAGE)) == options - {"--help"}
    assert set(re.findall(r"`(FASTAPI_USERS_KNOX_\w+)`", PAGE)) == variables
    assert all(f"`{name}" in PAGE for name in commands)


def test_the_page_documents_every_exit_code() -> None:
    """The table of exit codes has those of the program."""
    assert re.findall(r"^\| (\d+) \|", PAGE, re.MULTILINE) == [str(code.value) for code in ExitCode]
