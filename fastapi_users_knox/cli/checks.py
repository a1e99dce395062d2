"""The command `check`: what is wrong with a set-up, and what to do about it."""

from collections.abc import Iterator
from dataclasses import asdict

from fastapi_users_knox.cli.report import ExitCode, Report, table_of
from fastapi_users_knox.cli.target import Target
from fastapi_users_knox.records.finding import Finding

__all__ = ["check_setup"]

_MANY = 1000  # A purge that runs daily leaves fewer, or at most as many as there are live tokens.
_MIN_KEY_BYTES = 32
_SIGNS = {"ok": "ok", "problem": "PROBLEM", "unknown": "not checked"}


async def check_setup(target: Target, report: Report) -> ExitCode:
    """Check the store and the settings."""
    operations, context = target.needed_operations(), target.context
    findings = [
        *await operations.check(context.clock, is_application=target.has_settings),
        *_check_settings(target),
    ]
    if not any(finding.status == "problem" and finding.check in {"table", "columns"} for finding in findings):
        findings.append(await _check_expired(target))
    problems = sum(finding.status == "problem" for finding in findings)
    report.publish(
        f"{problems} problems in {len(findings)} checks",
        table_of("", ("Check", "Result", "Found"), [_row(finding) for finding in findings]),
        problems=problems,
        checks=[asdict(finding) for finding in findings],
    )
    return ExitCode.FINDINGS if problems else ExitCode.DONE


def _row(finding: Finding) -> tuple[str, str, str]:
    found = f"{finding.detail}. Cure: {finding.cure}" if finding.cure else finding.detail
    return finding.check, _SIGNS[finding.status], found


async def _check_expired(target: Target) -> Finding:
    """Check that expired tokens are purged."""
    found = await target.needed_operations().count(target.liveness(), top=0)
    piles_up = found.expired > max(_MANY, found.live)
    return Finding.of(
        "expired tokens",
        f"there are {found.expired} expired tokens, and {found.live} live ones" if piles_up else None,
        cure="run fastapi-users-knox purge every day, for example from cron",
        otherwise=f"there are {found.expired} expired tokens",
    )


def _check_settings(target: Target) -> Iterator[Finding]:
    """Check what the settings themselves cannot check, because it depends on the time or on how they were built."""
    if not target.has_settings:
        yield Finding(check="settings", status="unknown", detail="only --app shows the settings of the application")
        return
    settings, now = target.context.settings, target.context.now()
    lengths = [len(key.get_secret_value().encode()) for key in settings.digest_keys]
    is_short = any(length < _MIN_KEY_BYTES for length in lengths)
    yield Finding.of(
        "digest keys",
        f"a digest key has {min(lengths)} bytes" if is_short else None,
        cure=f"generate a key of at least {_MIN_KEY_BYTES} random bytes, and put it first in digest_keys",
        otherwise=f"there are {len(lengths)} digest keys of at least {_MIN_KEY_BYTES} bytes",
    )
    until = settings.accept_unkeyed_until
    yield Finding.of(
        "accept_unkeyed_until",
        f"accept_unkeyed_until was {until:%Y-%m-%d}" if until is not None and until <= now else None,
        cure="remove this setting, because it has no effect any more",
        otherwise="it is not in the past",
    )
    not_before = settings.not_before
    yield Finding.of(
        "not_before",
        f"not_before is in the future, so all tokens are refused until {not_before:%Y-%m-%d %H:%M}"
        if not_before is not None and not_before > now
        else None,
        cure="set it to the moment before which logins are not trusted",
        otherwise="it is not in the future",
    )
