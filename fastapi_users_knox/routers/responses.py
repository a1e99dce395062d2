"""What the answers of all routes have in common: the errors in the OpenAPI document, and the headers for caches."""

from collections.abc import Mapping
from typing import Any

from fastapi import Response, status
from fastapi_users.openapi import OpenAPIResponseType
from fastapi_users.router.common import ErrorCode, ErrorModel

from fastapi_users_knox.transports.responses import login_refusals

__all__ = ["SESSION_NOT_FOUND", "forbid_caching", "not_found_refusal", "reauthentication_refusals", "refusals"]

SESSION_NOT_FOUND = "SESSION_NOT_FOUND"
_STALE = {"REAUTHENTICATION_REQUIRED": "The login is too long ago."}

_HEADERS = {
    status.HTTP_401_UNAUTHORIZED: ("WWW-Authenticate",),
    status.HTTP_503_SERVICE_UNAVAILABLE: ("Retry-After",),
}


def forbid_caching(response: Response) -> None:
    """Forbid caches to store the answer of a route (ASVS 14.3.2)."""
    response.headers["Cache-Control"] = "no-store"


def refusals(
    *,
    forbidden: str | None = None,
    not_found: dict[str, str] | None = None,
    stale: bool = False,
    more: Mapping[int, dict[str, str]] | None = None,
) -> OpenAPIResponseType:
    """Document the errors of a route that needs a token.

    Args:
        forbidden: Why a user may get a 403; `None` if the route has no 403.
        not_found: The values that `detail` may have in a 404, each with its meaning; `None` if the route has no 404.
        stale: Whether the route needs a recent login.
        more: Further values that `detail` may have, each with its meaning, by the status of the answer.
    """
    codes: dict[int, dict[str, str]] = {
        status.HTTP_401_UNAUTHORIZED: {"Unauthorized": "Missing token or inactive user."} | (_STALE if stale else {}),
        status.HTTP_503_SERVICE_UNAVAILABLE: {"TOKEN_STORE_UNAVAILABLE": "The token store is unavailable."},
    }
    if forbidden is not None:
        codes[status.HTTP_403_FORBIDDEN] = {"Forbidden": forbidden}
    if not_found is not None:
        codes[status.HTTP_404_NOT_FOUND] = not_found
    for code, meanings in (more or {}).items():
        codes[code] = codes.get(code, {}) | meanings
    return {code: _refusal(meanings, *_HEADERS.get(code, ())) for code, meanings in codes.items()}


def not_found_refusal(codes: dict[str, str]) -> OpenAPIResponseType:
    """Document a 404 alone, with the values that `detail` may have, each with its meaning."""
    return {status.HTTP_404_NOT_FOUND: _refusal(codes)}


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
