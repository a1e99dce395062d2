"""Write an audit log."""

import logging
import uuid

from fastapi_users_knox import KnoxEvent, TokenIssued, TokenLimitHit, TokenRevoked

logger = logging.getLogger("audit")


def audit(event: KnoxEvent[uuid.UUID]) -> None:
    """Log each login, each revoked token and each login that was refused."""
    match event:
        case TokenIssued(record=record):
            logger.info("%s logged in from %s: token %s", event.user_id, record.ip_address, record.id)
        case TokenRevoked(record=record, reason=reason):
            logger.info("%s lost token %s: %s", event.user_id, record.id, reason)
        case TokenLimitHit(limit=limit):
            logger.warning("%s has %d tokens already", event.user_id, limit)
        case _:
            pass
