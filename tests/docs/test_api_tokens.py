"""The applications and programs of the page on API tokens work as the page describes."""

import json
import re
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from httpx import ASGITransport, AsyncClient
from sqlalchemy import update

from fastapi_users_knox import (
    ApiTokenCreated,
    ApiTokenRead,
    ApiTokenSettings,
    KnoxSettings,
    get_api_token_router,
    tokens,
)
from tests.docs.folder import DOCS, ORIGIN, SRC, calling, changed_by, load, log_in, register

PAGE = (DOCS / "api-tokens.md").read_text()
READ, WRITE = "reports:read", "reports:write"
CALL = {"jsonrpc": "2.0", "id": 1, "method": "tools/call"}

pytestmark = pytest.mark.anyio


@pytest.fixture
async def client(jane: str) -> AsyncIterator[AsyncClient]:  # noqa: ARG001 (it registers her)
    """Open a client of the documented application."""
    async with calling(load("api_tokens").app) as client:
        yield client


async def create(client: AsyncClient, session: dict[str, str], *scopes: str, **more: Any) -> ApiTokenCreated:
    """Create an API token."""
    wanted = {"name": "Nightly report", "scopes": scopes or (READ,), **more}
    answer = await client.post("/api-tokens/", headers=session, json=wanted)
    assert answer.status_code == 201, answer.text
    return ApiTokenCreated.model_validate(answer.json())


def bearing(token: ApiTokenCreated) -> dict[str, str]:
    """Return the header that presents an API token."""
    return {"Authorization": f"Bearer {token.token}"}


async def test_the_routes_are_those_of_the_table(client: AsyncClient) -> None:
    """The table of routes has exactly the routes of the router."""
    document = (await client.get("/openapi.json")).json()

    routes = {(method.upper(), path) for path, methods in document["paths"].items() for method in methods}
    assert {route for route in routes if route[1].startswith("/api-tokens")} == set(
        re.findall(r"^\| `(\w+) (/api-tokens\S*)` \|", PAGE, re.MULTILINE)
    )


async def test_the_declarations_accept_what_the_page_says(client: AsyncClient) -> None:
    """A session may do everything; an API token may do what its scopes allow, and none of FastAPI-Users' routes."""
    session = await log_in(client)
    reader, writer = [bearing(await create(client, session, scope)) for scope in (READ, WRITE)]

    statuses = [
        [
            (await client.request(method, path, params={"title": "Sales"}, headers=headers)).status_code
            for method, path in (
                ("GET", "/reports"),
                ("POST", "/reports"),
                ("GET", "/users/me"),
                ("GET", "/api-tokens/"),
            )
        ]
        for headers in (session, reader, writer)
    ]

    assert statuses == [[200, 200, 200, 200], [200, 403, 401, 401], [403, 200, 401, 401]]


async def test_the_answer_and_the_list_are_as_shown(client: AsyncClient) -> None:
    """The answer has the fields that the page shows, and the list has those of the table."""
    session = await log_in(client)
    shown = ApiTokenCreated.model_validate_json((SRC / "api_token.json").read_text())

    token = await create(client, session)
    [listed] = (await client.get("/api-tokens/", headers=session)).json()

    assert token.model_dump().keys() == shown.model_dump().keys()
    assert token.name == shown.name
    fields = re.findall(r"^\| (`[^|]+`) \| ", PAGE[PAGE.index("| Field |") : PAGE.index("## Accept")], re.MULTILINE)
    assert {name for row in fields for name in re.findall(r"`(\w+)`", row)} == listed.keys()
    assert ApiTokenRead.model_fields.keys() == listed.keys()


async def test_the_refusals_are_those_of_the_table(client: AsyncClient) -> None:
    """What refuses an API token is answered as the second table says."""
    session = await log_in(client)
    reader = bearing(await create(client, session))

    lacking = await client.post("/reports", params={"title": "Sales"}, headers=reader)
    elsewhere = await client.get("/api-tokens/", headers=reader)

    for answer in (lacking, elsewhere):
        detail = answer.json()["detail"]
        row = f"| {answer.status_code} | `{detail}` | `{answer.headers['WWW-Authenticate']}` |"
        assert row in PAGE


async def test_the_errors_are_those_of_the_table(client: AsyncClient) -> None:
    """The table of answers lists every status and detail that OpenAPI documents, and two that depend on options."""
    paths = (await client.get("/openapi.json")).json()["paths"]
    documented = {
        (status, code)
        for path, methods in paths.items()
        if path.startswith("/api-tokens")
        for operation in methods.values()
        for status, answer in operation["responses"].items()
        for code in answer.get("content", {}).get("application/json", {}).get("examples", {})
    }

    table = PAGE[PAGE.index("## Answers") : PAGE.index("Where an API token is used")]
    assert set(re.findall(r"^\| (\d+) \| `(\w+)` \|", table, re.MULTILINE)) == documented | {("403", "Forbidden")}


async def test_a_stale_login_is_refused(client: AsyncClient) -> None:
    """After more than ten minutes the user has to authenticate again."""
    session, db = await log_in(client), load("db")
    past = datetime.now(UTC) - timedelta(minutes=11)
    async with db.engine.begin() as connection:
        await connection.execute(update(db.KnoxToken).values(authenticated_at=past))

    answer = await client.get("/api-tokens/", headers=session)

    assert (answer.status_code, answer.json()) == (401, {"detail": "REAUTHENTICATION_REQUIRED"})


async def test_the_endpoint_serves_machines_alone(client: AsyncClient) -> None:
    """The endpoint of the assistants refuses sessions, and calls a tool that writes only with its scope."""
    load("agent")
    session = await log_in(client)
    reader, both = [bearing(await create(client, session, *scopes)) for scopes in ((READ,), (READ, WRITE))]

    answers = [
        await client.post("/mcp", json={**CALL, "params": {"name": name}}, headers=headers)
        for headers, name in (
            (session, "read_reports"),
            (reader, "read_reports"),
            (reader, "add_report"),
            (both, "add_report"),
        )
    ]

    assert [answer.status_code for answer in answers] == [401, 200, 403, 200]
    assert answers[2].headers["WWW-Authenticate"] == f'Bearer error="insufficient_scope", scope="{WRITE}"'
    assert answers[3].json()["result"]["content"][0]["text"] == "add_report for jane@example.org"


async def call_by_program(token: str, tool: str) -> str:
    """Call a tool with the documented client, and return its text or its advice."""
    headers = {"Authorization": f"Bearer {token}"}
    async with AsyncClient(transport=ASGITransport(load("app").app), base_url=ORIGIN, headers=headers) as http:
        try:
            return str(await load("machine_client").call_tool(tool, http))
        except SystemExit as advice:
            return str(advice)


async def test_the_machine_client_gives_advice(client: AsyncClient) -> None:
    """The client returns the text of a tool, or exits with what to do if its token is refused."""
    load("agent")
    token = (await create(client, await log_in(client))).token

    said = [await call_by_program(*call) for call in ((token, "read_reports"), (token, "add_report"), ("junk", "x"))]

    assert said[0] == "read_reports for jane@example.org"
    assert f'scope="{WRITE}"' in said[1]
    assert "expired or was ended" in said[2]


async def test_a_token_is_rolled_with_an_overlap(client: AsyncClient) -> None:
    """The body of the documented roll keeps the old token valid, and the job cannot roll its own token."""
    session = await log_in(client)
    old = await create(client, session)
    body = re.findall(r"-d '(.+)'", (SRC / "roll_api_token.sh").read_text())[0]

    by_job = await client.post(f"/api-tokens/{old.id}/roll", headers=bearing(old), json=json.loads(body))
    answer = await client.post(f"/api-tokens/{old.id}/roll", headers=session, json=json.loads(body))

    new = ApiTokenCreated.model_validate(answer.json())
    assert (by_job.status_code, answer.status_code) == (401, 201)
    assert [(await client.get("/reports", headers=bearing(each))).status_code for each in (old, new)] == [200, 200]


async def test_a_script_issues_a_token(client: AsyncClient) -> None:
    """The token that the script issues may write for an hour."""
    text = await load("own_api_token").issue("jane@example.org")

    answer = await client.post("/reports", params={"title": "x"}, headers={"Authorization": f"Bearer {text}"})

    assert answer.json() == {"title": "x", "added_by": "Deployment"}
    assert (await client.get("/reports", headers={"Authorization": f"Bearer {text}"})).status_code == 403


async def test_what_ends_api_tokens(client: AsyncClient, jane: str) -> None:
    """A logout on all devices keeps API tokens, and a superuser can revoke them."""
    load("sessions")
    session = await log_in(client)
    token = bearing(await create(client, session))
    statuses = []
    await client.post("/auth/logout-all", headers=session)
    statuses.append((await client.get("/reports", headers=token)).status_code)
    db = load("db")
    async with db.engine.begin() as connection:
        await connection.execute(update(db.User).values(is_superuser=True))
    await client.delete(f"/users/{jane}/sessions", headers=await log_in(client))
    statuses.append((await client.get("/reports", headers=token)).status_code)

    assert statuses == [200, 401]


@pytest.mark.parametrize("keeps", [True, False])
async def test_a_new_password_may_keep_api_tokens(
    folder: Path, monkeypatch: pytest.MonkeyPatch, *, keeps: bool
) -> None:
    """A new password revokes API tokens, unless the user manager has the change shown."""
    if keeps:
        changed_by("keep_api_tokens.diff", folder, monkeypatch)
    async with calling(load("api_tokens").app) as client:
        await register(client)
        session, phone = await log_in(client), await log_in(client)
        token = bearing(await create(client, session))
        await client.patch("/users/me", headers=session, json={"password": "a new one, and a better"})
        statuses = [(await client.get("/reports", headers=each)).status_code for each in (session, phone, token)]

    assert statuses == [200, 401, 200 if keeps else 401]
    await load("db").engine.dispose()


async def test_the_path_without_the_slash_is_redirected(client: AsyncClient) -> None:
    """A path without the slash at its end is redirected, as the page warns."""
    assert (await client.get("/api-tokens")).status_code == 307


def test_the_defaults_are_those_of_the_tables() -> None:
    """The tables list exactly the settings whose defaults differ, and the options of the router."""
    ours = ApiTokenSettings.model_fields
    differing = {name for name, field in ours.items() if field.default != KnoxSettings.model_fields[name].default}
    settings, options = PAGE.split("`get_api_token_router` has these options:")
    settings = settings[settings.index("| Setting |") :]
    options = options[: options.index("With `token_limit_per_user`")]

    assert set(re.findall(r"^\| `(\w+)` \|", settings, re.MULTILINE)) == differing
    keywords = set(get_api_token_router.__kwdefaults__ or {}) | {"scopes"}
    assert set(re.findall(r"^\| `(\w+)` \|", options, re.MULTILINE)) == keywords


def test_a_scanner_finds_the_tokens() -> None:
    """The regular expression on the page matches API tokens, and no tokens of sessions."""
    [pattern] = re.findall(r"^(knox_pat_\S+)$", PAGE, re.MULTILINE)
    found, other = [
        re.search(pattern, f"token={tokens.generate('ab', prefix=prefix)}\n")
        for prefix in (ApiTokenSettings().token_prefix, KnoxSettings().token_prefix)
    ]

    assert found
    assert other is None
