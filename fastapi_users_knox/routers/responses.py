"""What the answers of all routes have in common: the errors in the OpenAPI document, and the headers for caches."""

from typing import Any

from fastapi import Response, status
from fastapi_users.openapi import OpenAPIResponseType
from fastapi_users.router.common import ErrorCode, ErrorModel

from fastapi_users_knox.transports.responses import login_refusals

__all__ = ["SESSION_NOT_FOUND", "forbid_caching", "reauthentication_refusals", "refusals"]

SESSION_NOT_FOUND = "SESSION_NOT_FOUND"


def forbid_caching(response: Response) -> None:
    """Forbid caches to store the answer of a route (ASVS 14.3.2)."""
    response.headers["Cache-Control"] = "no-store"


def refusals(*, forbidden: str | None = None, not_found: dict[str, str] | None = None) -> OpenAPIResponseType:
    """Document the errors of a route that needs a token.

    Args:
        forbidden: Why a user may get a 403; `None` if the route has no 403.
        not_found: The values that `detail` may have in a 404, each with its meaning; `None` if the route has no 404.
    """
    documented: OpenAPIResponseType = {
        status.HTTP_401_UNAUTHORIZED: _refusal({"Unauthorized": "Missing token or inactive user."}, "WWW-Authenticate"),
        status.HTTP_503_SERVICE_UNAVAILABLE: _refusal(
            {"TOKEN_STORE_UNAVAILABLE": "The token store is unavailable."}, "Retry-After"
        ),
    }
    if forbidden is not None:
        documented[status.HTTP_403_FORBIDDEN] = _refusal({"Forbidden": forbidden})
    if not_found is not None:
        documented[status.HTTP_404_NOT_FOUND] = _refusal(not_found)
    return documented


def reauthentication_refusals() -> OpenAPIResponseType:
    """Document how a re-authentication may fail, other than by the token. Unlike a login, it has no limit."""
    documented = login_refusals()
    return {
        status.HTTP_400_BAD_REQUEST: _refusal(
            {ErrorCode.LOGIN_BAD_CREDENTIALS: "The password is wrong, or the user has just changed or is inactive."}
        ),
        **{code: documented[code] for code in (status.HTTP_429_TOO_MANY_REQUESTS, status.HTTP_503_SERVICE_UNAVAILABLE)},
    }


def _refusal(codes: dict[str, str], *headers: str) -> dict[str, Any]:
    examples = {code: {"summary": summary, "value": {"detail": code}} for code, summary in codes.items()}
    return {
        "model": ErrorModel,
        "description": " ".join(codes.values()),
        "headers": {header: {"schema": {"type": "string"}} for header in headers},
        "content": {"application/json": {"examples": examples}},
    }
