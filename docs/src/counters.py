"""Count events for Prometheus."""

from typing import Any

from fastapi_users_knox import KnoxEvent
from prometheus_client import Counter

EVENTS = Counter("knox_events", "Events of tokens", ["event", "reason"])


def count(event: KnoxEvent[Any]) -> None:
    """Count an event by its name and, if it has one, its reason."""
    EVENTS.labels(event=type(event).__name__, reason=getattr(event, "reason", "")).inc()
