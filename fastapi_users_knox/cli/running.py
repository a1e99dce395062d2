"""How a command runs: what it works on is opened and closed, and every way to end has its message and exit code."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import NoReturn

import typer

from fastapi_users_knox.cli.report import ExitCode, Problem, Report
from fastapi_users_knox.cli.target import Options, Target, open_target
from fastapi_users_knox.errors import KnoxError, StoreUnavailable, describe

__all__ = ["Command", "run"]

Command = Callable[[Target, Report], Awaitable[ExitCode]]


def run(context: typer.Context, command: Command, *, as_json: bool) -> NoReturn:
    """Run a command, print what it did, and end the program.

    No traceback is printed, because it could show the parameters of a statement.
    """
    report = Report(as_json=as_json)
    try:
        exit_code = asyncio.run(_open_and_run(context.ensure_object(Options), command, report))
    except KeyboardInterrupt:
        exit_code = ExitCode.INTERRUPTED
        report.print_interruption()
    except Exception as error:  # noqa: BLE001 (whatever it is, no parameter may be printed)
        exit_code, message = _explain(error)
        report.print_error(message)
    else:
        report.print()
    raise typer.Exit(exit_code)


async def _open_and_run(options: Options, command: Command, report: Report) -> ExitCode:
    async with open_target(options) as target:
        return await command(target, report)


def _explain(error: Exception) -> tuple[ExitCode, str]:
    """Return the exit code and the message of an error."""
    match error:
        case Problem():
            return error.exit_code, str(error)
        case StoreUnavailable():
            return ExitCode.UNAVAILABLE, "the token store is unavailable; the log says why"
        case KnoxError():
            return ExitCode.USAGE, str(error)
        case _:
            return ExitCode.USAGE, describe(error)
