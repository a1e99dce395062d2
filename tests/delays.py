"""Long delays, so that tests of the writes that a read causes also pass on a machine that is busy."""

from collections.abc import Callable
from typing import Any

from fastapi_users_knox.redis import after_reads
from fastapi_users_knox.sqlalchemy import dialects
from fastapi_users_knox.throttling import budget

LONG = 20.0  # seconds, of which a test needs only as much as the machine takes


def lengthen_delays(replace: Callable[[Any, str, float], None] = setattr) -> None:
    """Let a request wait long for a second connection and for a counter in Redis; by default, until the end."""
    replace(dialects, "MAX_WAIT", LONG)
    replace(after_reads, "MAX_DELAY", LONG)
    replace(budget, "MAX_DELAY", LONG)
