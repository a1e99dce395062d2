"""Count what happens to tokens, for Prometheus."""

from typing import Any

from prometheus_client import Counter

from fastapi_users_knox import KnoxEvent

EVENTS = Counter("knox_events", "What happened to tokens", ["event", "reason"])


def count(event: KnoxEvent[Any]) -> None:
    """Count an event by its name and, where it has one, its reason."""
    EVENTS.labels(event=type(event).__name__, reason=getattr(event, "reason", "")).inc()
