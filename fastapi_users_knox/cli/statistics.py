"""The command `stats`: how many tokens there are, by audience, age, last use and user."""

from collections.abc import Mapping
from dataclasses import asdict

from rich.table import Table

from fastapi_users_knox.cli.report import ExitCode, Report, table_of
from fastapi_users_knox.cli.target import Target

__all__ = ["show_statistics"]


async def show_statistics(target: Target, report: Report, *, top: int) -> ExitCode:
    """Count the tokens, and show the users who have the most."""
    found = await target.needed_operations().count(target.liveness(), top=top)
    report.publish(
        f"{found.live} live tokens of {found.users} users, {found.expired} expired tokens",
        table_of(
            "By audience",
            ("Audience", "Live", "Expired"),
            [(name or "(empty)", count.live, count.expired) for name, count in found.audiences.items()],
        ),
        _spans("Live tokens by age", "Age", found.ages),
        _spans("Live tokens by last use", "Last use", found.uses),
        table_of("Users with the most live tokens", ("User", "Live"), found.top_users),
        live=found.live,
        expired=found.expired,
        users=found.users,
        audiences={name: asdict(count) for name, count in found.audiences.items()},
        ages=dict(found.ages),
        last_used=dict(found.uses),
        top_users=[{"user_id": user_id, "live": number} for user_id, number in found.top_users],
    )
    return ExitCode.DONE


def _spans(title: str, column: str, counts: Mapping[str, int]) -> Table:
    return table_of(title, (column, "Live"), [(name.replace("_", " "), count) for name, count in counts.items()])
