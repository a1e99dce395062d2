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
    is when the token expires, in the format of django-rest-knox: ISO 8601, or null if the token never expires. To add
    fields or to change the format, subclass this model, and set it as `response_model` of a subclass of the transport.
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

    To change the answer, subclass the transport: set `response_model`, which the OpenAPI document shows too, and
    override `get_login_content` if the model has further fields. In django-rest-knox: `get_post_response_data`.

    Args:
        tokenUrl: The path of the login route, for the OpenAPI document; `None` for tokens that no login route issues,
            such as API tokens.
        header_prefix: The authentication scheme before the token in the header, which `WWW-Authenticate` names too. In
            django-rest-knox: `AUTH_HEADER_PREFIX`.
        scheme_name: The name of the security scheme in the OpenAPI document.
        user_schema: The schema of the field `user` in the answer to a login; `None` leaves the field out. In
            django-rest-knox: `USER_SERIALIZER`.

    Attributes:
        response_model: The model of the answer to a login.

    Raises:
        ValueError: The prefix is not a valid name of an authentication scheme.
    """

    scheme: SecurityBase
    response_model: type[KnoxLoginResponse] = KnoxLoginResponse

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
        if user_schema is not None:
            base = self.response_model
            self.response_model = create_model(f"{base.__name__}WithUser", __base__=base, user=(user_schema, ...))
            # FastAPI-Users declares this method static, but calls it on the instance, so an instance may override it.
            vars(self)["get_openapi_login_responses_success"] = partial(_login_responses, self.response_model)

    def get_login_content(self, token: IssuedToken) -> dict[str, object]:
        """Return the values of the fields of `response_model`. Values that the model does not have are left out.

        A subclass may add values to those that this method returns: the token, its type, its expiry and the `user`.
        """
        content: dict[str, object] = {"access_token": str(token), "token_type": self._token_type}
        if token.expires_in is not None:
            content["expires_in"] = token.expires_in
        return {**content, "expiry": token.record.expires_at, "user": token.user}

    async def get_login_response(self, token: str) -> Response:
        """Answer a login with the token and its expiry. The answer must not be cached (ASVS 14.3.2).

        A token that another strategy has issued has no record, so the answer has the token and its type alone.
        """
        if isinstance(token, IssuedToken):
            return _answer(self.response_model, self.get_login_content(token))
        return _answer(KnoxLoginResponse, {"access_token": token, "token_type": self._token_type})

    async def get_logout_response(self) -> Response:
        """Return an empty answer."""
        return Response(status_code=status.HTTP_204_NO_CONTENT)

    @classmethod
    def get_openapi_login_responses_success(cls) -> OpenAPIResponseType:
        """Document the answers to a login: success, a reached limit, and an unavailable store."""
        return _login_responses(cls.response_model)

    @staticmethod
    def get_openapi_logout_responses_success() -> OpenAPIResponseType:
        """Document the answer to a logout."""
        return {status.HTTP_204_NO_CONTENT: {"model": None}}


def _login_responses(model: type[KnoxLoginResponse]) -> OpenAPIResponseType:
    return {status.HTTP_200_OK: {"model": model}, **login_refusals()}


def _answer(model: type[KnoxLoginResponse], content: dict[str, object]) -> Response:
    """Return an answer by this model. Of our own fields, those that have no value are left out."""
    answer = model.model_validate(content, from_attributes=True)
    unknown = KnoxLoginResponse.model_fields.keys() - content.keys()
    body = answer.model_dump(mode="json", by_alias=True, exclude=unknown)
    return JSONResponse(body, headers=CACHING_FORBIDDEN)
