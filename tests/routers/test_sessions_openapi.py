"""The OpenAPI document and the names of the sessions' routes."""

import re
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import pytest
from fastapi import FastAPI
from fastapi_users.authentication import BearerTransport
from fastapi_users.openapi import OpenAPIResponseType

from fastapi_users_knox import SessionRead, TokenRecord, get_knox_router
from tests.site import build_app, cookie_backend, create_app, create_users, knox_backend

pytestmark = pytest.mark.unmeasured

PATHS = {
    "auth:{}.logout_all": ("post", "/{}/logout-all"),
    "auth:{}.logout_others": ("post", "/{}/logout-others"),
    "auth:{}.sessions": ("get", "/{}/sessions"),
    "auth:{}.revoke_session": ("delete", "/{}/sessions/{{id}}"),
    "auth:{}.rotate": ("post", "/{}/rotate"),
    "auth:{}.reauthenticate": ("post", "/{}/reauthenticate"),
    "users:{}.sessions": ("get", "/admin/{}/{{user_id}}/sessions"),
    "users:{}.revoke_sessions": ("delete", "/admin/{}/{{user_id}}/sessions"),
    "users:{}.revoke_session": ("delete", "/admin/{}/{{user_id}}/sessions/{{id}}"),
}
ANSWERS = {
    "auth:{}.logout_all": "204 401 503",
    "auth:{}.logout_others": "204 401 503",
    "auth:{}.sessions": "200 401 503",
    "auth:{}.revoke_session": "204 401 404 422 503",
    "auth:{}.rotate": "200 401 503",
    "auth:{}.reauthenticate": "200 400 401 422 429 503",
    "users:{}.sessions": "200 401 403 404 422 503",
    "users:{}.revoke_sessions": "204 401 403 404 422 503",
    "users:{}.revoke_session": "204 401 403 404 422 503",
}


BACKENDS = (knox_backend(), cookie_backend())


@pytest.fixture(scope="module")
def app() -> FastAPI:
    """Build an application of which only the document is read, apart from the shared ones, which are not measured."""
    return build_app(*BACKENDS)


def operation(app: FastAPI, name: str, backend: str = "knox") -> dict[str, Any]:
    """Return the OpenAPI operation of a route."""
    method, path = PATHS[name]
    found: dict[str, Any] = app.openapi()["paths"][path.format(backend)][method]
    return found


def examples(documented: dict[str, Any], status: str) -> dict[str, Any]:
    """Return the examples of a route's error by their codes."""
    found: dict[str, Any] = documented["responses"][status]["content"]["application/json"]["examples"]
    return {code: example["value"] for code, example in found.items()}


@pytest.mark.parametrize("name", PATHS)
async def test_routes_are_named_after_their_backend(app: FastAPI, name: str) -> None:
    """Route names contain the backend's name, so `url_path_for` finds the routes of each."""
    for backend in ("knox", "cookie"):
        path = PATHS[name][1].format(backend)
        parameters = dict.fromkeys(re.findall(r"{(\w+)}", path), "x")
        assert app.url_path_for(name.format(backend), **parameters) == path.format(**parameters)


async def test_operations_are_named_once(app: FastAPI) -> None:
    """Operation ids are unique, so generated clients can name each operation."""
    paths = app.openapi()["paths"].values()
    names = [operation["operationId"] for methods in paths for operation in methods.values()]

    assert len(names) == len(set(names))


@pytest.mark.parametrize("name", PATHS)
async def test_answers_are_documented(app: FastAPI, name: str) -> None:
    """Each route documents exactly the statuses that it answers with."""
    assert sorted(operation(app, name)["responses"]) == ANSWERS[name].split()


@pytest.mark.parametrize("name", PATHS)
async def test_errors_have_their_codes(app: FastAPI, name: str) -> None:
    """Each error is documented with its body and its header."""
    documented = operation(app, name)

    assert examples(documented, "401") == {"Unauthorized": {"detail": "Unauthorized"}}
    throttled = ["LOGIN_THROTTLE_UNAVAILABLE"] if "429" in documented["responses"] else []
    unavailable = ["TOKEN_STORE_UNAVAILABLE", *throttled]
    assert examples(documented, "503") == {code: {"detail": code} for code in unavailable}
    assert [*documented["responses"]["401"]["headers"]] == ["WWW-Authenticate"]
    assert [*documented["responses"]["503"]["headers"]] == ["Retry-After"]


async def test_what_is_not_found_has_its_codes(app: FastAPI) -> None:
    """An unknown session and an unknown user are documented with different codes."""
    assert [*examples(operation(app, "auth:{}.revoke_session"), "404")] == ["SESSION_NOT_FOUND"]
    assert [*examples(operation(app, "users:{}.sessions"), "404")] == ["Not Found"]
    assert [*examples(operation(app, "users:{}.revoke_session"), "404")] == ["Not Found", "SESSION_NOT_FOUND"]


async def test_verification_is_documented() -> None:
    """With `requires_verification` the 403 is documented."""
    app = create_app(*BACKENDS, requires_verification=True)

    assert examples(operation(app, "auth:{}.sessions"), "403") == {"Forbidden": {"detail": "Forbidden"}}


async def test_the_need_of_a_recent_login_is_documented() -> None:
    """With `fresh_within`, the 401 of the routes that list and revoke sessions has two codes."""
    app, backend = FastAPI(), knox_backend()
    app.include_router(
        get_knox_router(create_users(backend), backend, fresh_within=timedelta(minutes=5)), prefix="/knox"
    )

    codes = {name: [*examples(operation(app, name), "401")] for name in PATHS if name.startswith("auth")}

    assert codes == {
        "auth:{}.logout_all": ["Unauthorized", "REAUTHENTICATION_REQUIRED"],
        "auth:{}.logout_others": ["Unauthorized", "REAUTHENTICATION_REQUIRED"],
        "auth:{}.sessions": ["Unauthorized", "REAUTHENTICATION_REQUIRED"],
        "auth:{}.revoke_session": ["Unauthorized", "REAUTHENTICATION_REQUIRED"],
        "auth:{}.rotate": ["Unauthorized"],
        "auth:{}.reauthenticate": ["Unauthorized"],
    }


@pytest.mark.parametrize("name", PATHS)
async def test_a_route_needs_a_token(app: FastAPI, name: str) -> None:
    """A user's routes take this backend's tokens, and a superuser's routes take the tokens of any backend."""
    schemes = [scheme for requirement in operation(app, name)["security"] for scheme in requirement]

    assert schemes == (["KnoxBearer"] if name.startswith("auth") else ["KnoxBearer", "APIKeyCookie"])


@pytest.mark.parametrize("name", ["auth:{}.sessions", "users:{}.sessions"])
async def test_a_list_is_of_sessions(app: FastAPI, name: str) -> None:
    """The lists of sessions are documented with the schema `SessionRead`."""
    schema = operation(app, name)["responses"]["200"]["content"]["application/json"]["schema"]

    assert (schema["type"], schema["items"]) == ("array", {"$ref": "#/components/schemas/SessionRead"})


async def test_a_session_is_documented(app: FastAPI) -> None:
    """Each field of `SessionRead` is required and described, and the example validates."""
    schema = app.openapi()["components"]["schemas"]["SessionRead"]

    assert set(schema["required"]) == set(schema["properties"]) == set(SessionRead.model_fields)
    assert all(field["description"] for field in schema["properties"].values())
    [example] = schema["examples"]
    assert SessionRead.model_validate(example).model_dump(mode="json") == example


def test_a_session_shows_no_secret() -> None:
    """`SessionRead` shows the record's fields without those that only the server needs."""
    now = datetime(2030, 1, 1, tzinfo=UTC)
    record = TokenRecord(id=uuid4(), user_id=7, audience="web", created_at=now, expires_at=now + timedelta(hours=1))

    shown = SessionRead.of(record, presented=None).model_dump()

    hidden = {"user_id", "audience", "token_ttl", "browser_session"}
    assert shown.keys() == vars(record).keys() - hidden | {"current"}
    assert shown["current"] is False


async def test_a_rotation_is_documented_as_a_login(app: FastAPI) -> None:
    """A rotation is documented with the login response of its transport."""
    bearer, cookie = [operation(app, "auth:{}.rotate", name)["responses"] for name in ("knox", "cookie")]

    assert bearer["200"]["content"]["application/json"]["schema"] == {"$ref": "#/components/schemas/KnoxLoginResponse"}
    assert sorted(cookie) == ["204", "401", "503"]


async def test_a_re_authentication_is_documented(app: FastAPI) -> None:
    """A re-authentication takes a password, and is documented with a login's answers except those about the limit."""
    bearer, cookie = [operation(app, "auth:{}.reauthenticate", name) for name in ("knox", "cookie")]

    [(kind, form)] = bearer["requestBody"]["content"].items()
    schema = app.openapi()["components"]["schemas"][form["schema"]["$ref"].rpartition("/")[2]]
    assert (kind, schema["required"]) == ("application/x-www-form-urlencoded", ["password"])
    assert schema["properties"]["password"]["format"] == "password"
    assert bearer["responses"]["200"] == operation(app, "auth:{}.rotate")["responses"]["200"]
    assert sorted(cookie["responses"]) == ["204", "400", "401", "422", "429", "503"]
    assert {status: [*examples(bearer, status)] for status in ("400", "429", "503")} == {
        "400": ["LOGIN_BAD_CREDENTIALS"],
        "429": ["LOGIN_THROTTLED"],
        "503": ["TOKEN_STORE_UNAVAILABLE", "LOGIN_THROTTLE_UNAVAILABLE"],
    }
    assert [*bearer["responses"]["429"]["headers"]] == ["Retry-After"]


async def test_a_rotation_of_a_silent_transport_is_documented() -> None:
    """If the transport documents no login response, a rotation is documented with 200."""

    class Silent(BearerTransport):
        @staticmethod
        def get_openapi_login_responses_success() -> OpenAPIResponseType:
            return {}

    app = create_app(knox_backend(transport=Silent("knox/login")))

    assert sorted(operation(app, "auth:{}.rotate")["responses"]) == ["200", "401", "503"]
