"""How many tokens a store has, by their age and use, and which of them count as live."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from fastapi_users_knox.records.token_record import TokenRecord

__all__ = ["SPANS", "AudienceCount", "Liveness", "Statistics", "span_of"]

SPANS: Mapping[str, tuple[timedelta, timedelta]] = {
    "under_1_hour": (timedelta.min, timedelta(hours=1)),
    "under_1_day": (timedelta(hours=1), timedelta(days=1)),
    "under_7_days": (timedelta(days=1), timedelta(days=7)),
    "under_30_days": (timedelta(days=7), timedelta(days=30)),
    "longer": (timedelta(days=30), timedelta.max),
}
"""How long ago something was: for each name, at least the first time, and less than the second."""


@dataclass(frozen=True, kw_only=True)
class Liveness:
    """Which records of a store are live.

    Attributes:
        now: The time at which they are.
        audience: The audience to which `created_since` applies.
        created_since: The earliest `created_at` of a live record of this audience; `None` means any.
    """

    now: datetime
    audience: str
    created_since: datetime | None

    def is_live(self, record: TokenRecord[Any]) -> bool:
        """Return whether a record is live."""
        return record.is_live(self.now, created_since=self.created_since if record.audience == self.audience else None)


@dataclass(frozen=True, kw_only=True)
class AudienceCount:
    """The number of records in one audience.

    Attributes:
        live: Those that are live.
        expired: Those that have expired, or are past the cap, and are not deleted yet.
    """

    live: int
    expired: int


@dataclass(frozen=True, kw_only=True)
class Statistics:
    """The numbers of the records in a store.

    Attributes:
        audiences: The number of records by audience.
        ages: The number of live records by the time since `created_at`, by the names in `SPANS`.
        uses: The number of live records by the time since `last_used_at`, by these names and "never".
        users: The number of users with live records.
        top_users: The ids of the users with the most live records, and their number, largest first.
    """

    audiences: Mapping[str, AudienceCount]
    ages: Mapping[str, int]
    uses: Mapping[str, int]
    users: int
    top_users: Sequence[tuple[str, int]]

    @property
    def live(self) -> int:
        """The number of live records."""
        return sum(count.live for count in self.audiences.values())

    @property
    def expired(self) -> int:
        """The number of expired records."""
        return sum(count.expired for count in self.audiences.values())


def span_of(elapsed: timedelta) -> str:
    """Return the name of the span in which a time lies."""
    return next(name for name, (_, end) in SPANS.items() if elapsed < end)
