"""What the answers of both transports have in common: the headers for caches, and the errors of a login."""

from typing import Any

from fastapi import status
from fastapi_users.openapi import OpenAPIResponseType
from fastapi_users.router.common import ErrorModel

__all__ = ["CACHING_FORBIDDEN", "login_refusals"]

CACHING_FORBIDDEN = {"Cache-Control": "no-store", "Pragma": "no-cache"}
"""The headers of an answer that contains a token (RFC 6749 §5.1, ASVS 14.3.2)."""


def login_refusals() -> OpenAPIResponseType:
    """Document how a login with the right password may fail."""
    return {
        status.HTTP_403_FORBIDDEN: _error("LOGIN_TOKEN_LIMIT_REACHED", "The user has too many live tokens."),
        status.HTTP_503_SERVICE_UNAVAILABLE: _error("TOKEN_STORE_UNAVAILABLE", "The token store is unavailable."),
    }


def _error(code: str, summary: str) -> dict[str, Any]:
    example = {"summary": summary, "value": {"detail": code}}
    return {"model": ErrorModel, "content": {"application/json": {"examples": {code: example}}}}
