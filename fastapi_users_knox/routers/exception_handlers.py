"""The exception handler that adds `WWW-Authenticate` to each 401."""

from fastapi.requests import HTTPConnection
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException

from fastapi_users_knox.transports.challenges import challenge_for

__all__ = ["unauthorized_handler"]


async def unauthorized_handler(request: HTTPConnection, error: Exception) -> JSONResponse:
    """Answer a 401 as usual, but add `WWW-Authenticate` if it is missing, as it is in FastAPI-Users' own answers.

    Register the handler with `app.add_exception_handler(401, unauthorized_handler)`. The header names the schemes of
    the transports that looked for a token in this request. The header names an error only if a token was presented (RFC
    6750 §3.1). A 401 that refuses a WebSocket handshake gets the header too.
    """
    if not isinstance(error, HTTPException):
        raise error
    response = JSONResponse({"detail": error.detail}, error.status_code, headers=dict(error.headers or {}))
    response.headers.setdefault("WWW-Authenticate", challenge_for(request))
    return response
