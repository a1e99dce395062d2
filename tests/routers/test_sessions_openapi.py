"""How the sessions' routes stand in the OpenAPI document, and where they are."""

import re
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import pytest
from fastapi import FastAPI
from fastapi_users.authentication import BearerTransport
from fastapi_users.openapi import OpenAPIResponseType

from fastapi_users_knox import SessionRead, TokenRecord
from tests.site import build_app, cookie_backend, create_app, knox_backend

PATHS = {
    "auth:{}.logout_all": ("post", "/{}/logout-all"),
    "auth:{}.logout_others": ("post", "/{}/logout-others"),
    "auth:{}.sessions": ("get", "/{}/sessions"),
    "auth:{}.revoke_session": ("delete", "/{}/sessions/{{id}}"),
    "auth:{}.rotate": ("post", "/{}/rotate"),
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
    "users:{}.sessions": "200 401 403 404 422 503",
    "users:{}.revoke_sessions": "204 401 403 404 422 503",
    "users:{}.revoke_session": "204 401 403 404 422 503",
}


BACKENDS = (knox_backend(), cookie_backend())


@pytest.fixture(scope="module")
def app() -> FastAPI:
    """Build an application, of which these tests read the document alone; the shared ones may be built unmeasured."""
    return build_app(*BACKENDS)


def operation(app: FastAPI, name: str, backend: str = "knox") -> dict[str, Any]:
    """Return what the document says of a route."""
    method, path = PATHS[name]
    found: dict[str, Any] = app.openapi()["paths"][path.format(backend)][method]
    return found


def examples(documented: dict[str, Any], status: str) -> dict[str, Any]:
    """Return the examples of a route's error, by their codes."""
    found: dict[str, Any] = documented["responses"][status]["content"]["application/json"]["examples"]
    return {code: example["value"] for code, example in found.items()}


@pytest.mark.parametrize("name", PATHS)
async def test_routes_are_named_after_their_backend(app: FastAPI, name: str) -> None:
    """The routes of two backends have different names, by which their addresses are found."""
    for backend in ("knox", "cookie"):
        path = PATHS[name][1].format(backend)
        parameters = dict.fromkeys(re.findall(r"{(\w+)}", path), "x")
        assert app.url_path_for(name.format(backend), **parameters) == path.format(**parameters)


async def test_operations_are_named_once(app: FastAPI) -> None:
    """Clients made from the document have a name for each operation."""
    paths = app.openapi()["paths"].values()
    names = [operation["operationId"] for methods in paths for operation in methods.values()]

    assert len(names) == len(set(names))


@pytest.mark.parametrize("name", PATHS)
async def test_answers_are_documented(app: FastAPI, name: str) -> None:
    """Each route documents what it answers, and no more."""
    assert sorted(operation(app, name)["responses"]) == ANSWERS[name].split()


@pytest.mark.parametrize("name", PATHS)
async def test_errors_have_their_codes(app: FastAPI, name: str) -> None:
    """Each error has the answer as its example, and the header that comes with it."""
    documented = operation(app, name)

    assert examples(documented, "401") == {"Unauthorized": {"detail": "Unauthorized"}}
    assert examples(documented, "503") == {"TOKEN_STORE_UNAVAILABLE": {"detail": "TOKEN_STORE_UNAVAILABLE"}}
    assert [*documented["responses"]["401"]["headers"]] == ["WWW-Authenticate"]
    assert [*documented["responses"]["503"]["headers"]] == ["Retry-After"]


async def test_what_is_not_found_has_its_codes(app: FastAPI) -> None:
    """For administrators, an unknown session and an unknown user have different codes."""
    assert [*examples(operation(app, "auth:{}.revoke_session"), "404")] == ["SESSION_NOT_FOUND"]
    assert [*examples(operation(app, "users:{}.sessions"), "404")] == ["Not Found"]
    assert [*examples(operation(app, "users:{}.revoke_session"), "404")] == ["Not Found", "SESSION_NOT_FOUND"]


async def test_verification_is_documented() -> None:
    """Where it is required, 403 is documented."""
    app = create_app(*BACKENDS, requires_verification=True)

    assert examples(operation(app, "auth:{}.sessions"), "403") == {"Forbidden": {"detail": "Forbidden"}}


@pytest.mark.parametrize("name", PATHS)
async def test_a_route_needs_a_token(app: FastAPI, name: str) -> None:
    """A user's routes take the backend's own tokens, an administrator's those of any backend."""
    schemes = [scheme for requirement in operation(app, name)["security"] for scheme in requirement]

    assert schemes == (["KnoxBearer"] if name.startswith("auth") else ["KnoxBearer", "APIKeyCookie"])


@pytest.mark.parametrize("name", ["auth:{}.sessions", "users:{}.sessions"])
async def test_a_list_is_of_sessions(app: FastAPI, name: str) -> None:
    """A list has the sessions' schema."""
    schema = operation(app, name)["responses"]["200"]["content"]["application/json"]["schema"]

    assert (schema["type"], schema["items"]) == ("array", {"$ref": "#/components/schemas/SessionRead"})


async def test_a_session_is_documented(app: FastAPI) -> None:
    """Every field is always there and described, and the example is a session."""
    schema = app.openapi()["components"]["schemas"]["SessionRead"]

    assert set(schema["required"]) == set(schema["properties"]) == set(SessionRead.model_fields)
    assert all(field["description"] for field in schema["properties"].values())
    [example] = schema["examples"]
    assert SessionRead.model_validate(example).model_dump(mode="json") == example


def test_a_session_tells_no_secret() -> None:
    """Of what is stored, the user's own id and the audience are left out, and there is no room for more."""
    now = datetime(2030, 1, 1, tzinfo=UTC)
    record = TokenRecord(id=uuid4(), user_id=7, audience="web", created_at=now, expires_at=now + timedelta(hours=1))

    shown = SessionRead.of(record, presented=None).model_dump()

    assert shown.keys() == vars(record).keys() - {"user_id", "audience"} | {"current"}
    assert shown["current"] is False


async def test_a_rotation_is_documented_as_a_login(app: FastAPI) -> None:
    """It answers as a login of its transport does, with its model or with a cookie."""
    bearer, cookie = [operation(app, "auth:{}.rotate", name)["responses"] for name in ("knox", "cookie")]

    assert bearer["200"]["content"]["application/json"]["schema"] == {"$ref": "#/components/schemas/KnoxLoginResponse"}
    assert sorted(cookie) == ["204", "401", "503"]


async def test_a_rotation_of_a_silent_transport_is_documented() -> None:
    """A transport that documents nothing answers 200, as FastAPI has it."""

    class Silent(BearerTransport):
        @staticmethod
        def get_openapi_login_responses_success() -> OpenAPIResponseType:
            return {}

    app = create_app(knox_backend(transport=Silent("knox/login")))

    assert sorted(operation(app, "auth:{}.rotate")["responses"]) == ["200", "401", "503"]
