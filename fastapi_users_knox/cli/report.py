"""What a command prints: one JSON document, or a table and a sentence. Messages and progress go to standard error."""

import json
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import IntEnum
from typing import IO

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn
from rich.table import Table
from rich.text import Text

__all__ = ["ExitCode", "Problem", "Report", "moment", "printable", "table_of"]

_WIDE = 200  # columns of a table in a file or a pipe, where rich would take a terminal of 80 for granted


class ExitCode(IntEnum):
    """How the program ends."""

    DONE = 0
    FINDINGS = 1
    USAGE = 2
    UNAVAILABLE = 3
    INTERRUPTED = 130


class Problem(Exception):
    """A command cannot be done, and the message says why. It contains no token, digest or password."""

    def __init__(self, message: str, *, exit_code: ExitCode = ExitCode.USAGE) -> None:
        """Keep the exit code."""
        super().__init__(message)
        self.exit_code = exit_code


@dataclass(kw_only=True)
class Report:
    """What a command has done so far. It is printed at the end, and also if the command is interrupted or fails.

    Attributes:
        as_json: Whether to print the document instead of the tables and the summary.
        document: The JSON document.
        tables: The tables.
        summary: A sentence.
    """

    as_json: bool
    document: dict[str, object] = field(default_factory=dict)
    tables: list[Table] = field(default_factory=list)
    summary: str = ""

    def publish(self, summary: str, /, *tables: Table, **document: object) -> None:
        """Replace what is printed at the end."""
        self.summary, self.tables, self.document = summary, [*tables], document

    def print(self) -> None:
        """Print what was done."""
        if self.as_json:
            self._print_document()
            return
        console = _console(sys.stdout)
        for table in self.tables:
            console.print(table)
        console.print(printable(self.summary), soft_wrap=True)

    def print_error(self, message: str) -> None:
        """Print why the command failed, and what it has done before."""
        self._print_unfinished(f"Error: {message}.", error=message)

    def print_interruption(self) -> None:
        """Print what the command has done before it was interrupted."""
        self._print_unfinished("Interrupted.", interrupted=True)

    def progress(self) -> Progress:
        """Return a progress bar on standard error, which is shown only on a terminal."""
        console = _console(sys.stderr)
        columns = (
            SpinnerColumn(),
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
        )
        return Progress(*columns, console=console, transient=True, disable=self.as_json or not console.is_terminal)

    def _print_unfinished(self, message: str, **marks: object) -> None:
        _console(sys.stderr).print(printable(f"{message} {self.summary}".rstrip()), soft_wrap=True)
        if self.as_json:
            self.document |= marks
            self._print_document()

    def _print_document(self) -> None:
        sys.stdout.write(json.dumps(self.document) + "\n")


def _console(stream: IO[str]) -> Console:
    """Return a console that prints text as it is. A client chose some of it, so it must not be taken for markup."""
    return Console(file=stream, width=None if stream.isatty() else _WIDE, markup=False, highlight=False, emoji=False)


def table_of(title: str, columns: Sequence[str], rows: Iterable[Sequence[object]]) -> Table:
    """Return a table. Control characters in its cells, which could move the cursor, are replaced."""
    table = Table(*columns, title=title or None, title_justify="left")
    for row in rows:
        table.add_row(*[Text(printable(cell), overflow="fold") for cell in row])
    return table


def printable(value: object) -> str:
    """Return a value as text without control characters; nothing for `None`."""
    text = "" if value is None else str(value)
    return "".join(letter if letter.isprintable() else "\N{REPLACEMENT CHARACTER}" for letter in text)


def moment(value: datetime | None, *, otherwise: str) -> str:
    """Return a time in UTC for a table."""
    return otherwise if value is None else f"{value.astimezone(UTC):%Y-%m-%d %H:%M}"
