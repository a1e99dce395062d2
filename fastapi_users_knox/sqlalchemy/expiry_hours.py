"""The column `expiry_hour`: the hour in which a row expires, by which expired rows are found.

PostgreSQL can update a row without touching any index (a HOT update) only if no indexed value changes. A refresh moves
`expires_at`, but `expiry_hour` only once an hour. So the index is on `expiry_hour`, and conditions check `expires_at`
as well. Such a condition finds every expired row as long as `expiry_hour` is not later than `expires_at`.
"""

from datetime import UTC, datetime
from typing import Protocol, overload

__all__ = ["UNKNOWN_HOUR", "hour_of", "hour_of_row"]

UNKNOWN_HOUR = datetime(1970, 1, 1, tzinfo=UTC)  # It is earlier than any expiry, so the row is always looked at.


@overload
def hour_of(expires_at: datetime) -> datetime: ...
@overload
def hour_of(expires_at: None) -> None: ...
@overload
def hour_of(expires_at: datetime | None) -> datetime | None: ...
def hour_of(expires_at: datetime | None) -> datetime | None:
    """Return the hour in which an expiry lies, rounded down in UTC; `None` if the token never expires."""
    if expires_at is None:
        return None
    return expires_at.astimezone(UTC).replace(minute=0, second=0, microsecond=0)


class _Insert(Protocol):
    """SQLAlchemy's execution context, whose method has no annotations."""

    def get_current_parameters(self) -> dict[str, datetime | None]:
        """Return the values of the row by column key."""
        ...


def hour_of_row(context: _Insert) -> datetime | None:
    """Return the hour for a row that is inserted without `expiry_hour`."""
    # An SQL expression for `expires_at` is not among the parameters.
    return hour_of(context.get_current_parameters().get("expires_at", UNKNOWN_HOUR))
