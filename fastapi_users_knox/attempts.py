"""The recent attempts of this process to write something because of a read."""

from collections.abc import Hashable
from datetime import datetime

__all__ = ["Attempts"]


class Attempts:
    """The recent attempts of this process to write something because of a read.

    The attempts are remembered for two reasons: only one of many simultaneous requests writes, and a failed write is
    not repeated at once.
    """

    _SIZE = 10_000

    def __init__(self) -> None:
        """Start without any attempts."""
        self._tried_at: dict[Hashable, datetime] = {}

    def claim(self, what: Hashable, now: datetime, *, tried_since: datetime) -> bool:
        """Return whether the caller may attempt this write: only if it has not been attempted since `tried_since`.

        If so, the attempt is remembered. At most 10,000 attempts are remembered; the oldest are forgotten first.
        """
        tried_at = self._tried_at.pop(what, None)
        is_ours = tried_at is None or tried_at < tried_since
        self._tried_at[what] = now if tried_at is None or is_ours else tried_at
        if len(self._tried_at) > self._SIZE:
            del self._tried_at[next(iter(self._tried_at))]
        return is_ours
