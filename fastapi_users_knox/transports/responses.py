"""What the answers of both transports have in common: the headers for caches, and the errors of a login."""

from typing import Any

from fastapi import status
from fastapi_users.openapi import OpenAPIResponseType
from fastapi_users.router.common import ErrorModel

__all__ = ["CACHING_FORBIDDEN", "login_refusals"]

CACHING_FORBIDDEN = {"Cache-Control": "no-store", "Pragma": "no-cache"}
"""The headers of an answer that contains a token (RFC 6749 §5.1, ASVS 14.3.2)."""


def login_refusals() -> OpenAPIResponseType:
    """Document how a login may fail, other than by a wrong password."""
    return {
        status.HTTP_429_TOO_MANY_REQUESTS: _error(
            {"LOGIN_THROTTLED": "There were too many attempts to log in."}, "Retry-After"
        ),
        status.HTTP_403_FORBIDDEN: _error({"LOGIN_TOKEN_LIMIT_REACHED": "The user has too many live tokens."}),
        status.HTTP_503_SERVICE_UNAVAILABLE: _error(
            {
                "TOKEN_STORE_UNAVAILABLE": "The token store is unavailable.",
                "LOGIN_THROTTLE_UNAVAILABLE": "The storage of the throttle is unavailable.",
            },
            "Retry-After",
        ),
    }


def _error(codes: dict[str, str], *headers: str) -> dict[str, Any]:
    examples = {code: {"summary": summary, "value": {"detail": code}} for code, summary in codes.items()}
    documented: dict[str, Any] = {"model": ErrorModel, "content": {"application/json": {"examples": examples}}}
    if headers:
        documented["headers"] = {header: {"schema": {"type": "string"}} for header in headers}
    return documented
