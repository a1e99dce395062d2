"""Every route of the example, called with every kind of credential: who is accepted where."""

from collections.abc import AsyncIterator
from dataclasses import dataclass

import pytest
from httpx import AsyncClient
from sqlalchemy.ext.asyncio import AsyncEngine

from example_app.app import app
from tests.asgi import talk
from tests.example_credentials import (
    Credential,
    Route,
    Rows,
    all_routes,
    issue_all,
    restore,
    saved,
    undocumented,
)
from tests.test_example_app import calling, example_database

pytestmark = pytest.mark.unmeasured

PUBLIC = {
    "POST /auth/login",
    "POST /browser/login",
    "POST /auth/register",
    "POST /auth/forgot-password",
    "POST /auth/reset-password",
    "POST /auth/request-verify-token",
    "POST /auth/verify",
}
OF_API_TOKENS = {"GET /reports": ["reports:read"], "POST /reports": ["reports:write"]}
OF_SUPERUSERS = "/users/{"
KINDS = [
    *("nothing", "junk", "an unknown token", "a session", "a session in a cookie", "a revoked session"),
    *("an API token that may read", "an API token that may write", "an API token in a cookie"),
    *("an expired API token", "a revoked API token", "a superuser's session", "a superuser's API token"),
    *("an inactive user's session", "an inactive user's API token"),
]


@dataclass(frozen=True, kw_only=True)
class Example:
    """The example with users and tokens, which each request finds unchanged."""

    engine: AsyncEngine
    client: AsyncClient
    rows: Rows
    credentials: dict[str, Credential]

    async def answers(self, credential: Credential) -> dict[str, str]:
        """Call every route with a credential, and return the answers by the routes' names."""
        found = {}
        for route in all_routes():
            call = self._talk if route.method == "WEBSOCKET" else self._request
            found[route.name] = await call(route, credential)
            if found[route.name] == "accepted":
                await restore(self.engine, self.rows)
        return found

    async def _request(self, route: Route, credential: Credential) -> str:
        response = await self.client.request(route.method, route.url, headers=credential.headers)
        return {401: "401", 403: "403"}.get(response.status_code, "accepted")

    async def _talk(self, route: Route, credential: Credential) -> str:
        headers = [(name.lower().encode(), value.encode()) for name, value in credential.headers.items()]
        [start, *_] = await talk(app, route.url, headers)
        return "accepted" if start["type"] == "websocket.accept" else str(start["status"])


@pytest.fixture
async def example(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Example]:
    """Return the example on a new database."""
    async with example_database(tmp_path_factory.mktemp("example")) as engine, calling(app, engine) as client:
        credentials = await issue_all(engine)
        yield Example(engine=engine, client=client, rows=await saved(engine), credentials=credentials)


def expected(route: Route, credential: Credential) -> str:
    """Return the answer that the OpenAPI document promises."""
    if route.name in PUBLIC:
        return "accepted"
    if not credential.fulfils(route.security):
        lacks_scopes = credential.scopes is not None and any(credential.scheme in each for each in route.security)
        return "403" if lacks_scopes else "401"
    return "403" if route.path.startswith(OF_SUPERUSERS) and not credential.is_superuser else "accepted"


@pytest.mark.parametrize("kind", KINDS)
async def test_a_credential_is_accepted_where_it_is_documented(example: Example, kind: str) -> None:
    """Each route accepts exactly the credentials that its security requirements name, and superusers' where it must."""
    credential = example.credentials[kind]

    answers = await example.answers(credential)

    assert answers == {route.name: expected(route, credential) for route in all_routes()}


async def test_no_kind_is_left_out(example: Example) -> None:
    """Every kind of credential is tested."""
    assert set(example.credentials) == set(KINDS)


@pytest.mark.parametrize(
    ("kind", "routes"),
    [
        ("an API token that may read", {"GET /reports"}),
        ("an API token that may write", {"POST /reports"}),
        ("a superuser's API token", {"GET /reports", "POST /reports"}),
        ("an API token in a cookie", set[str]()),
    ],
)
async def test_an_api_token_is_accepted_where_its_scopes_are_named(
    example: Example, kind: str, routes: set[str]
) -> None:
    """An API token is accepted on the routes that name its scopes, and nowhere else."""
    answers = await example.answers(example.credentials[kind])

    assert {name for name, answer in answers.items() if answer == "accepted"} - PUBLIC == routes


def test_the_documented_requirements_are_these() -> None:
    """Only the routes above are public, and only those of the reports document that they accept API tokens."""
    routes = [*all_routes()]

    assert {route.name for route in routes if not route.security} == PUBLIC
    assert {
        route.name: each["ApiToken"] for route in routes for each in route.security if "ApiToken" in each
    } == OF_API_TOKENS
    assert undocumented() == []
    assert [route.name for route in routes if route.method == "WEBSOCKET"] == ["WEBSOCKET /authenticated-websocket"]
