"""The bearer transport: the token in the `Authorization` header, and the answer to a login."""

from functools import partial
from typing import Annotated

from fastapi import Response, status
from fastapi.openapi.models import HTTPBase, OAuthFlowPassword, OAuthFlows
from fastapi.requests import HTTPConnection
from fastapi.responses import JSONResponse
from fastapi.security import OAuth2
from fastapi.security.base import SecurityBase
from fastapi_users.authentication.transport import Transport
from fastapi_users.openapi import OpenAPIResponseType
from pydantic import AwareDatetime, BaseModel, Field, create_model

from fastapi_users_knox.records import IssuedToken
from fastapi_users_knox.transports.challenges import credentials, is_http_token, note_transport
from fastapi_users_knox.transports.responses import CACHING_FORBIDDEN, login_refusals

__all__ = ["KnoxBearerTransport", "KnoxLoginResponse"]


class KnoxLoginResponse(BaseModel):
    """The answer to a login (RFC 6749 §5.1).

    `expires_in` is the number of seconds until the token expires, and is left out if the token never expires. `expiry`
    is when the token expires, in the format of django-rest-knox: ISO 8601, or null if the token never expires.
    """

    access_token: Annotated[str, Field(repr=False)]
    token_type: str
    expires_in: Annotated[int, Field(json_schema_extra=lambda schema: schema.pop("default"))] = 0
    expiry: AwareDatetime | None = None


class _LoginScheme(OAuth2):
    """Read the token from the header; a login route issues it (RFC 6749 §4.3)."""

    def __init__(self, token_url: str, header_prefix: str, scheme_name: str) -> None:
        flows = OAuthFlows(password=OAuthFlowPassword(tokenUrl=token_url))
        super().__init__(flows=flows, scheme_name=scheme_name, auto_error=False)
        self._header_prefix = header_prefix

    async def __call__(self, request: HTTPConnection) -> str | None:
        return _token_in_header(request, self._header_prefix)


class _HeaderScheme(SecurityBase):
    """Read the token from the header; how the client got the token is not documented."""

    def __init__(self, header_prefix: str, scheme_name: str) -> None:
        self.model = HTTPBase(scheme=header_prefix.lower())
        self.scheme_name = scheme_name
        self._header_prefix = header_prefix

    async def __call__(self, request: HTTPConnection) -> str | None:
        return _token_in_header(request, self._header_prefix)


def _token_in_header(request: HTTPConnection, header_prefix: str) -> str | None:
    """Read `Authorization: <prefix> <token>`. The prefix is case-insensitive (RFC 9110 §11.1)."""
    token = credentials(request, header_prefix)
    note_transport(request, scheme=header_prefix, presented=bool(token))
    return token


class KnoxBearerTransport(Transport):
    """Carry the token in the `Authorization` header, and answer a login with the token and its expiry.

    Args:
        tokenUrl: The path of the login route, for the OpenAPI document; `None` for tokens that no login route issues,
            such as API tokens.
        header_prefix: The authentication scheme before the token in the header, which `WWW-Authenticate` names too. In
            django-rest-knox: `AUTH_HEADER_PREFIX`.
        scheme_name: The name of the security scheme in the OpenAPI document.
        user_schema: The schema of the field `user` in the answer to a login; `None` leaves the field out. In
            django-rest-knox: `USER_SERIALIZER`.

    Raises:
        ValueError: The prefix is not a valid name of an authentication scheme.
    """

    scheme: SecurityBase

    def __init__(
        self,
        tokenUrl: str | None,  # noqa: N803
        *,
        header_prefix: str = "Bearer",
        scheme_name: str = "KnoxBearer",
        user_schema: type[BaseModel] | None = None,
    ) -> None:
        """Create the security scheme and the response model."""
        if not is_http_token(header_prefix):
            raise ValueError(f"header_prefix must be one word without spaces, such as 'Bearer', not {header_prefix!r}")
        self.scheme = (
            _HeaderScheme(header_prefix, scheme_name)
            if tokenUrl is None
            else _LoginScheme(tokenUrl, header_prefix, scheme_name)
        )
        self._token_type = header_prefix.lower()
        self._response_model = _with_user(user_schema)
        if user_schema is not None:
            # FastAPI-Users declares this method static, but calls it on the instance, so an instance may override it.
            vars(self)["get_openapi_login_responses_success"] = partial(_login_responses, self._response_model)

    async def get_login_response(self, token: str) -> Response:
        """Answer a login with the token and its expiry. The answer must not be cached (ASVS 14.3.2)."""
        content: dict[str, object] = {"access_token": str(token), "token_type": self._token_type}
        if isinstance(token, IssuedToken):
            content |= {"expiry": token.record.expires_at, "user": token.user}
            if token.expires_in is not None:
                content["expires_in"] = token.expires_in
        model = self._response_model if "user" in content else KnoxLoginResponse
        answer = model.model_validate(content, from_attributes=True)
        unknown = model.model_fields.keys() - content.keys()
        body = answer.model_dump(mode="json", by_alias=True, exclude=unknown)
        return JSONResponse(body, headers=CACHING_FORBIDDEN)

    async def get_logout_response(self) -> Response:
        """Return an empty answer."""
        return Response(status_code=status.HTTP_204_NO_CONTENT)

    @staticmethod
    def get_openapi_login_responses_success() -> OpenAPIResponseType:
        """Document the answers to a login: success, a reached limit, and an unavailable store."""
        return _login_responses(KnoxLoginResponse)

    @staticmethod
    def get_openapi_logout_responses_success() -> OpenAPIResponseType:
        """Document the answer to a logout."""
        return {status.HTTP_204_NO_CONTENT: {"model": None}}


def _with_user(user_schema: type[BaseModel] | None) -> type[KnoxLoginResponse]:
    if user_schema is None:
        return KnoxLoginResponse
    return create_model("KnoxUserLoginResponse", __base__=KnoxLoginResponse, user=(user_schema, ...))


def _login_responses(model: type[KnoxLoginResponse]) -> OpenAPIResponseType:
    return {status.HTTP_200_OK: {"model": model}, **login_refusals()}
