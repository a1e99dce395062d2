"""Long delays, so that tests of writes that are caused by a read also pass on a busy machine."""

from collections.abc import Callable
from typing import Any

from fastapi_users_knox.redis import after_reads
from fastapi_users_knox.sqlalchemy import dialects
from fastapi_users_knox.throttling import budget

LONG = 20.0  # seconds; a test takes only as long as the machine needs


def lengthen_delays(replace: Callable[[Any, str, float], None] = setattr) -> None:
    """Let a request wait long for a second connection and for a counter in Redis; by default, until the end."""
    replace(dialects, "MAX_WAIT", LONG)
    replace(after_reads, "MAX_DELAY", LONG)
    replace(budget, "MAX_DELAY", LONG)
