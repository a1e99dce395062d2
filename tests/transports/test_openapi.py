"""How the bearer transport documents itself in OpenAPI."""

import uuid
from datetime import datetime
from typing import Any, cast

import pytest
from fastapi import Depends, FastAPI, Response
from fastapi_users.authentication.transport import Transport
from fastapi_users.openapi import OpenAPIResponseType
from fastapi_users.schemas import BaseUser
from pydantic import field_serializer

from fastapi_users_knox import KnoxBearerTransport, KnoxLoginResponse

BEARER = KnoxBearerTransport("auth/login")


class UserRead(BaseUser[int]):
    """The schema with which an application returns a user."""


def openapi(transport: Transport) -> dict[str, Any]:
    """Return the OpenAPI document of an application with one login route."""
    app = FastAPI()

    @app.post("/login", responses=transport.get_openapi_login_responses_success())
    async def login() -> Response:
        return Response()

    return app.openapi()


@pytest.mark.parametrize(
    ("status", "code"),
    [
        ("403", "LOGIN_TOKEN_LIMIT_REACHED"),
        ("429", "LOGIN_THROTTLED"),
        ("503", "TOKEN_STORE_UNAVAILABLE"),
        ("503", "LOGIN_THROTTLE_UNAVAILABLE"),
    ],
)
def test_refusals_are_documented(status: str, code: str) -> None:
    """The limit, the throttle and the unavailable store are documented with their codes."""
    responses = openapi(BEARER)["paths"]["/login"]["post"]["responses"]

    assert responses[status]["content"]["application/json"]["examples"][code]["value"] == {"detail": code}


@pytest.mark.parametrize("status", ["429", "503"])
def test_the_wait_is_documented(status: str) -> None:
    """A response that asks the client to wait is documented with the header that says how long."""
    responses = openapi(BEARER)["paths"]["/login"]["post"]["responses"]

    assert responses[status]["headers"] == {"Retry-After": {"schema": {"type": "string"}}}


def schemes(transport: Transport) -> dict[str, Any]:
    """Return the security schemes that an application with one protected route documents."""
    app, scheme = FastAPI(), cast("Any", transport.scheme)

    @app.get("/", dependencies=[Depends(scheme)])
    async def protected() -> None: ...

    documented: dict[str, Any] = app.openapi()["components"]["securitySchemes"]
    return documented


def test_a_login_is_documented_as_a_password_flow() -> None:
    """With a `tokenUrl`, clients and the page of the API learn where to log in."""
    flow = {"scopes": {}, "tokenUrl": "auth/login"}

    assert schemes(BEARER) == {"KnoxBearer": {"type": "oauth2", "flows": {"password": flow}}}


@pytest.mark.parametrize(("prefix", "scheme"), [("Bearer", "bearer"), ("bearer", "bearer"), ("Token", "token")])
def test_a_token_without_a_login_is_documented_as_a_header(prefix: str, scheme: str) -> None:
    """Without a `tokenUrl`, the scheme is the one of the header (RFC 6750 and OpenAPI 3.1 §4.8.27)."""
    transport = KnoxBearerTransport(None, header_prefix=prefix, scheme_name="ApiToken")

    assert schemes(transport) == {"ApiToken": {"type": "http", "scheme": scheme}}


def test_the_answer_is_documented() -> None:
    """The login response is documented with its fields; the token and its type are required."""
    document = openapi(BEARER)

    content = document["paths"]["/login"]["post"]["responses"]["200"]["content"]["application/json"]
    assert content["schema"] == {"$ref": "#/components/schemas/KnoxLoginResponse"}
    schema = document["components"]["schemas"]["KnoxLoginResponse"]
    assert schema["required"] == ["access_token", "token_type"]
    assert set(schema["properties"]) == {"access_token", "token_type", "expires_in", "expiry"}


def test_expires_in_has_no_default() -> None:
    """`expires_in` has no default, so a generated client does not read a missing one as zero."""
    schema = openapi(BEARER)["components"]["schemas"]["KnoxLoginResponse"]

    assert "default" not in schema["properties"]["expires_in"]


class OwnAnswer(KnoxLoginResponse):
    """A login response with one more field, and with the expiry as a number."""

    session_id: uuid.UUID

    @field_serializer("expiry")
    def format_expiry(self, expiry: datetime | None) -> float | None:
        """Return the expiry in seconds since 1970."""
        return None if expiry is None else expiry.timestamp()


class OwnTransport(KnoxBearerTransport):
    """A transport with that login response."""

    response_model = OwnAnswer


@pytest.mark.parametrize(("user_schema", "name"), [(None, "OwnAnswer"), (UserRead, "OwnAnswerWithUser")])
def test_another_answer_is_documented(user_schema: type[UserRead] | None, name: str) -> None:
    """The application's own model is documented as the login response, with its fields and their formats."""
    document = openapi(OwnTransport("auth/login", user_schema=user_schema))

    content = document["paths"]["/login"]["post"]["responses"]["200"]["content"]["application/json"]
    assert content["schema"] == {"$ref": f"#/components/schemas/{name}"}
    properties = document["components"]["schemas"][name]["properties"]
    assert properties["session_id"]["format"] == "uuid"
    assert properties["expiry"]["anyOf"] == [{"type": "number"}, {"type": "null"}]
    assert ("user" in properties) == (user_schema is not None)


def test_the_user_is_documented() -> None:
    """With `user_schema` the login response is documented with the user."""
    transport = KnoxBearerTransport("auth/login", user_schema=UserRead)

    schemas = openapi(transport)["components"]["schemas"]
    assert schemas["KnoxLoginResponseWithUser"]["properties"]["user"] == {"$ref": "#/components/schemas/UserRead"}
    assert "UserRead" in schemas


def test_two_transports_document_their_own_users() -> None:
    """A transport without `user_schema` is not changed by another transport that has one."""
    KnoxBearerTransport("auth/login", user_schema=UserRead)

    assert "KnoxLoginResponseWithUser" not in openapi(KnoxBearerTransport("auth/login"))["components"]["schemas"]


def test_a_subclass_documents_what_it_likes() -> None:
    """A subclass can override the static methods of FastAPI-Users' `Transport`."""

    class Quiet(KnoxBearerTransport):
        @staticmethod
        def get_openapi_login_responses_success() -> OpenAPIResponseType:
            return {200: {"description": "quiet"}}

    assert Quiet("auth/login").get_openapi_login_responses_success() == {200: {"description": "quiet"}}


def test_the_class_documents_itself() -> None:
    """Called on the class, as FastAPI-Users declares them, the methods document a login without the user."""
    assert KnoxBearerTransport.get_openapi_login_responses_success().keys() == {200, 403, 429, 503}
    assert KnoxBearerTransport.get_openapi_logout_responses_success().keys() == {204}


@pytest.mark.parametrize(("options", "name"), [({}, "KnoxBearer"), ({"scheme_name": "Phones"}, "Phones")])
def test_the_scheme_is_named(options: dict[str, Any], name: str) -> None:
    """The security scheme is documented with its name and the path of the login route."""
    scheme = KnoxBearerTransport("auth/login", **options).scheme

    assert scheme.scheme_name == name
    assert scheme.model.model_dump(exclude_none=True, by_alias=True)["flows"] == {
        "password": {"tokenUrl": "auth/login", "scopes": {}}
    }
