"""How a token travels: the bearer transport."""

import re
from functools import partial
from typing import Annotated, Any

from fastapi import Response, status
from fastapi.openapi.models import OAuthFlowPassword, OAuthFlows
from fastapi.requests import HTTPConnection
from fastapi.responses import JSONResponse
from fastapi.security import OAuth2
from fastapi.security.base import SecurityBase
from fastapi_users.authentication.transport import Transport
from fastapi_users.openapi import OpenAPIResponseType
from fastapi_users.router.common import ErrorModel
from pydantic import AwareDatetime, BaseModel, Field, create_model

from fastapi_users_knox.challenges import credentials, note_transport
from fastapi_users_knox.store import IssuedToken

__all__ = ["NOT_CACHED", "KnoxBearerTransport", "KnoxLoginResponse", "login_refusals"]

NOT_CACHED = {"Cache-Control": "no-store", "Pragma": "no-cache"}
"""The headers of an answer that holds a token (RFC 6749 §5.1, ASVS 14.3.2)."""

_SCHEME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")  # RFC 9110 §5.6.2


class KnoxLoginResponse(BaseModel):
    """The answer to a login (RFC 6749 §5.1).

    `expires_in` is in seconds, left out when the token never expires; `expiry` is the same moment as knox tells it,
    in ISO 8601, or null.
    """

    access_token: Annotated[str, Field(repr=False)]
    token_type: str
    expires_in: Annotated[int, Field(json_schema_extra=lambda schema: schema.pop("default"))] = 0
    expiry: AwareDatetime | None = None


class _HeaderScheme(OAuth2):
    """Take the token from `Authorization: <prefix> <token>`, the prefix in any case (RFC 9110 §11.1)."""

    def __init__(self, token_url: str, header_prefix: str, scheme_name: str) -> None:
        flows = OAuthFlows(password=OAuthFlowPassword(tokenUrl=token_url))
        super().__init__(flows=flows, scheme_name=scheme_name, auto_error=False)
        self._header_prefix = header_prefix

    async def __call__(self, request: HTTPConnection) -> str | None:
        token = credentials(request, self._header_prefix)
        note_transport(request, scheme=self._header_prefix, presented=bool(token))
        return token


class KnoxBearerTransport(Transport):
    """Carry the token in the `Authorization` header, and answer a login with the token and its expiry.

    Args:
        tokenUrl: The login route's path, for the OpenAPI document.
        header_prefix: What stands before the token in the header, and what `WWW-Authenticate` names: knox's
            `AUTH_HEADER_PREFIX`.
        scheme_name: The security scheme's name in the OpenAPI document.
        user_schema: By which the user is added to the login's answer as `user`: knox's `USER_SERIALIZER`.

    Raises:
        ValueError: The prefix is no name of an authentication scheme.
    """

    scheme: SecurityBase

    def __init__(
        self,
        tokenUrl: str,  # noqa: N803
        *,
        header_prefix: str = "Bearer",
        scheme_name: str = "KnoxBearer",
        user_schema: type[BaseModel] | None = None,
    ) -> None:
        """Set up the header's scheme and the answer's shape."""
        if not _SCHEME.fullmatch(header_prefix):
            raise ValueError(f"header_prefix must be one word without spaces, such as 'Bearer', not {header_prefix!r}")
        self.scheme = _HeaderScheme(tokenUrl, header_prefix, scheme_name)
        self._token_type = header_prefix.lower()
        self._response_model = _with_user(user_schema)
        if user_schema is not None:
            # FastAPI-Users declares this method static, and asks the instance: here the answer is the instance's own.
            vars(self)["get_openapi_login_responses_success"] = partial(_login_responses, self._response_model)

    async def get_login_response(self, token: str) -> Response:
        """Answer with the token, which no cache may keep (ASVS 14.3.2)."""
        content: dict[str, object] = {"access_token": str(token), "token_type": self._token_type}
        if isinstance(token, IssuedToken):
            content |= {"expiry": token.record.expires_at, "user": token.user}
            if token.expires_in is not None:
                content["expires_in"] = token.expires_in
        model = self._response_model if "user" in content else KnoxLoginResponse
        answer = model.model_validate(content, from_attributes=True)
        unknown = model.model_fields.keys() - content.keys()
        body = answer.model_dump(mode="json", by_alias=True, exclude=unknown)
        return JSONResponse(body, headers=NOT_CACHED)

    async def get_logout_response(self) -> Response:
        """Answer with nothing."""
        return Response(status_code=status.HTTP_204_NO_CONTENT)

    @staticmethod
    def get_openapi_login_responses_success() -> OpenAPIResponseType:
        """Document what a login answers: beside success, the limit and the outage."""
        return _login_responses(KnoxLoginResponse)

    @staticmethod
    def get_openapi_logout_responses_success() -> OpenAPIResponseType:
        """Document what a logout answers."""
        return {status.HTTP_204_NO_CONTENT: {"model": None}}


def _with_user(user_schema: type[BaseModel] | None) -> type[KnoxLoginResponse]:
    if user_schema is None:
        return KnoxLoginResponse
    return create_model("KnoxUserLoginResponse", __base__=KnoxLoginResponse, user=(user_schema, ...))


def _login_responses(model: type[KnoxLoginResponse]) -> OpenAPIResponseType:
    return {status.HTTP_200_OK: {"model": model}, **login_refusals()}


def login_refusals() -> OpenAPIResponseType:
    """Document how a login with the right password may fail."""
    return {
        status.HTTP_403_FORBIDDEN: _error("LOGIN_TOKEN_LIMIT_REACHED", "The user has too many live tokens."),
        status.HTTP_503_SERVICE_UNAVAILABLE: _error("TOKEN_STORE_UNAVAILABLE", "The token store cannot answer."),
    }


def _error(code: str, summary: str) -> dict[str, Any]:
    example = {"summary": summary, "value": {"detail": code}}
    return {"model": ErrorModel, "content": {"application/json": {"examples": {code: example}}}}
