"""What a check of a set-up finds."""

from dataclasses import dataclass
from typing import Literal

__all__ = ["Finding", "clock_finding"]

_MAX_SECONDS = 2  # Time servers keep clocks within milliseconds. A busy machine may answer late.


@dataclass(frozen=True, kw_only=True)
class Finding:
    """The result of one check.

    Attributes:
        check: What was checked.
        status: "ok", "problem", or "unknown" if it could not be checked.
        detail: What was found.
        cure: What to do about a problem; empty if there is none.
    """

    check: str
    status: Literal["ok", "problem", "unknown"]
    detail: str
    cure: str = ""

    @classmethod
    def of(cls, check: str, problem: str | None, *, cure: str, otherwise: str) -> "Finding":
        """Return a problem with its cure, or that all is well."""
        if problem is None:
            return cls(check=check, status="ok", detail=otherwise)
        return cls(check=check, status="problem", detail=problem, cure=cure)


def clock_finding(check: str, seconds: float) -> Finding:
    """Return whether a server's clock agrees with the clock of this process.

    Args:
        check: What was checked.
        seconds: How far the server's clock is ahead.
    """
    return Finding.of(
        check,
        None if abs(seconds) <= _MAX_SECONDS else f"the clocks differ by {abs(seconds):.1f} s",
        cure="synchronise the clocks of all machines, for example with chrony: the clock of the process that handles a "
        "request decides whether a token has expired",
        otherwise="the clocks agree",
    )
