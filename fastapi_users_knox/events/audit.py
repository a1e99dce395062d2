"""A listener that writes one line to the log for each event."""

import json
import logging
from typing import Any

from fastapi_users_knox.events.events import KnoxEvent

__all__ = ["log_event"]

_logger = logging.getLogger("fastapi_users_knox.events")


def log_event(event: KnoxEvent[Any]) -> None:
    """Write an event to the log `fastapi_users_knox.events`, at level INFO, as one line of JSON (ASVS 16.2.5).

    The line contains the name of the `event`, the `user_id`, the `id` and `audience` of the record, the `reason`, the
    `action`, the `counter`, the `limit`, `retry_after`, and the `ip_address` of the client. Unknown values are left
    out. For your own formatters, the attribute `knox` of the log record has the same values. The line never contains a
    token, a digest, or text that a client can choose, such as a User-Agent or an e-mail address.
    """
    record = getattr(event, "record", None)
    known = {
        "event": type(event).__name__,
        "user_id": None if event.user_id is None else str(event.user_id),
        "id": None if record is None else str(record.id),
        "audience": None if record is None else record.audience,
        "reason": getattr(event, "reason", None),
        **{name: getattr(event, name, None) for name in ("action", "counter", "limit", "retry_after")},
        "ip_address": event.client.ip_address,
    }
    fields = {name: value for name, value in known.items() if value is not None}
    _logger.info("%s", json.dumps(fields), extra={"knox": fields})
