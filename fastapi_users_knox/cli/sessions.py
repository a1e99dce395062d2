"""The commands for the sessions of one user: list them, revoke one, or revoke all."""

from typing import Any
from uuid import UUID

from fastapi_users_knox.cli.report import ExitCode, Problem, Report, moment, table_of
from fastapi_users_knox.cli.target import Target
from fastapi_users_knox.cli.users import NamedUser, find_user, is_known
from fastapi_users_knox.records import TokenRecord

__all__ = ["list_sessions", "log_out_user", "revoke_session"]

_COLUMNS = ("ID", "Created (UTC)", "Last used", "Expires", "Client", "Address", "Scopes")


async def list_sessions(target: Target, report: Report, *, user: str) -> ExitCode:
    """List the live sessions of a user, newest first."""
    found = await find_user(target, user)
    records = await target.strategy.list_records(found)
    if not records:
        await _refuse_unknown(target, found, user)
    report.publish(
        f"{len(records)} live sessions of user {found.id}",
        table_of("", _COLUMNS, map(_row, records)),
        user_id=str(found.id),
        audience=target.context.settings.audience,
        sessions=[_described(record) for record in records],
    )
    return ExitCode.DONE


async def revoke_session(target: Target, report: Report, *, user: str, session_id: UUID) -> ExitCode:
    """Revoke one session of a user."""
    found = await find_user(target, user)
    is_revoked = await target.strategy.revoke(found, session_id, reason="admin")
    summary = "Session {} of user {} is revoked." if is_revoked else "Session {} of user {} is not live, or not known."
    report.publish(summary.format(session_id, found.id), user_id=str(found.id), id=str(session_id), revoked=is_revoked)
    return ExitCode.DONE if is_revoked else ExitCode.FINDINGS


async def log_out_user(target: Target, report: Report, *, user: str, keep_api_tokens: bool) -> ExitCode:
    """Revoke all sessions of a user, of every audience."""
    found = await find_user(target, user)
    records = await target.strategy.revoke_all(found.id, reason="admin", keep_scoped=keep_api_tokens)
    if not records:
        await _refuse_unknown(target, found, user)
    report.publish(
        f"{len(records)} sessions of user {found.id} are revoked.", user_id=str(found.id), revoked=len(records)
    )
    return ExitCode.DONE


async def _refuse_unknown(target: Target, user: NamedUser, text: str) -> None:
    """Raise `Problem` if there is no such user. Only then the lack of sessions may be due to a mistyped id."""
    if not await is_known(target, user):
        raise Problem(f"there is no user {text}", exit_code=ExitCode.FINDINGS)


def _row(record: TokenRecord[Any]) -> tuple[object, ...]:
    return (
        record.id,
        moment(record.created_at, otherwise=""),
        moment(record.last_used_at, otherwise="never"),
        moment(record.expires_at, otherwise="never"),
        record.name or record.user_agent,
        record.ip_address,
        None if record.scopes is None else " ".join(sorted(record.scopes)),
    )


def _described(record: TokenRecord[Any]) -> dict[str, object]:
    """Return a record for the JSON document, without the data, which is the application's own."""
    times = ("created_at", "authenticated_at", "last_used_at", "expires_at")
    values: dict[str, object] = {"id": str(record.id)}
    for name in times:
        value = getattr(record, name)
        values[name] = None if value is None else value.isoformat(timespec="milliseconds")
    texts = ("name", "device_id", "user_agent", "ip_address")
    values |= {name: getattr(record, name) for name in texts}
    return values | {"scopes": None if record.scopes is None else sorted(record.scopes)}
