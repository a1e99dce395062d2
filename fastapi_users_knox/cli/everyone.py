"""The command `logout-everyone`: one user after the other, until no token is left that was issued before it began."""

import sys
from collections.abc import AsyncIterator, Sequence
from datetime import datetime

from fastapi_users_knox.cli.purging import run_steps
from fastapi_users_knox.cli.report import ExitCode, Problem, Report
from fastapi_users_knox.cli.target import Target

__all__ = ["is_confirmed", "leave_logged_in", "log_out_everyone"]

_PASSES = 10


def is_confirmed(question: str) -> bool:
    """Ask a question on standard error, and return whether the answer is yes."""
    sys.stderr.write(f"{question} [y/N] ")
    sys.stderr.flush()
    return sys.stdin.readline().strip().lower() in {"y", "yes"}


async def leave_logged_in(_target: Target, report: Report) -> ExitCode:
    """Do nothing, because the answer was no."""
    report.publish("Nobody is logged out.", users=0, revoked=0)
    return ExitCode.FINDINGS


async def log_out_everyone(target: Target, report: Report, *, keep_api_tokens: bool) -> ExitCode:
    """Revoke the tokens of all users.

    The first pass visits every user who has a token, whenever the token was created: the clocks of the application's
    servers may differ from this one. Rotations and refreshes change no record's user, so none of them escapes. A login
    that began before this command and is stored after its user was visited is found by the next pass, which visits only
    users who have a token from before. Whoever logs in later stays logged in.
    """
    operations, began = target.needed_operations(), target.context.now()
    work = _Work(target, report, keep_api_tokens=keep_api_tokens)
    await work.visit(None, total=await operations.count_users())
    for _ in range(_PASSES):
        if not await work.visit(began, total=None):
            report.summary += " No token is left that was issued before."
            return ExitCode.DONE
    raise Problem(
        "users still get tokens from before this command began, so the clock of a server is behind: correct it, and "
        "set not_before to refuse these tokens at once",
        exit_code=ExitCode.FINDINGS,
    )


class _Work:
    """The passes over the users, and what they have revoked."""

    def __init__(self, target: Target, report: Report, *, keep_api_tokens: bool) -> None:
        """Begin with nothing revoked."""
        self._target, self._report, self._keep = target, report, keep_api_tokens
        self._visits = self._users = self._revoked = 0
        self._publish()

    async def visit(self, before: datetime | None, *, total: int | None) -> int:
        """Revoke the tokens of each user who has one from before this time, and return the number of these users."""
        visits = self._visits
        users = self._target.needed_operations().users_with_tokens(before=before, keep_scoped=self._keep)
        with self._report.progress() as progress:
            task = progress.add_task("Logging out users", total=total)

            def note(revoked: int) -> None:
                self._visits += 1
                self._users += revoked > 0
                self._revoked += revoked
                progress.advance(task)
                self._publish()

            await run_steps(self._revocations(users), note)
        return self._visits - visits

    async def _revocations(self, users: AsyncIterator[Sequence[object]]) -> AsyncIterator[int]:
        """Revoke the tokens of one user after the other, and yield how many of each were live."""
        async for ids in users:
            for user_id in ids:
                records = await self._target.strategy.revoke_all(user_id, reason="admin", keep_scoped=self._keep)
                yield len(records)

    def _publish(self) -> None:
        self._report.publish(
            f"{self._revoked} sessions of {self._users} users are revoked.", users=self._users, revoked=self._revoked
        )
