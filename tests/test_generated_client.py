"""A client that is generated from the example's OpenAPI document creates, lists, rolls and revokes API tokens."""

import json
import subprocess
import sys
import uuid
from collections.abc import AsyncIterator, Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
from httpx import ASGITransport, AsyncClient

from example_app.app import app
from tests.test_example_app import JANE, PATIENCE, calling, example_database, register

pytestmark = pytest.mark.unmeasured

PACKAGE = "generated_client"
ORIGIN = "http://example.org"


@pytest.fixture(scope="module")
def generated(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Generate the client, and make it importable."""
    folder = tmp_path_factory.mktemp("generated")
    document, config = folder / "openapi.json", folder / "config.yml"
    document.write_text(json.dumps(app.openapi()))
    config.write_text("post_hooks: []\n")  # By default the generator formats what it has written.
    options = [f"--path={document}", f"--output-path={folder / PACKAGE}", f"--config={config}", "--meta=none"]
    command = [sys.executable, "-m", "openapi_python_client", "generate", *options, "--fail-on-warning"]
    done = subprocess.run(command, capture_output=True, check=False, text=True, timeout=PATIENCE)
    assert done.returncode == 0, done.stdout + done.stderr
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(folder)
        yield
        for name in [name for name in sys.modules if name.partition(".")[0] == PACKAGE]:
            del sys.modules[name]


@pytest.fixture
async def client(tmp_path: Path) -> AsyncIterator[AsyncClient]:
    """Open a client of the example with a registered user."""
    async with example_database(tmp_path) as engine, calling(app, engine) as client:
        await register(client)
        yield client


def part(name: str) -> Any:
    """Import a module of the generated client."""
    return import_module(f"{PACKAGE}.{name}")


def operation(folder: str, name: str) -> Any:
    """Import the module of an operation, whose name begins with that of its route."""
    directory = Path(part(f"api.{folder}").__file__).parent
    [found] = [path.stem for path in directory.glob(f"{name}_*.py")]
    return part(f"api.{folder}.{found}")


def client_with(token: str) -> Any:
    """Return a generated client that sends a token."""
    options = {"transport": ASGITransport(app)}
    return part("client").AuthenticatedClient(
        base_url=ORIGIN, token=token, httpx_args=options, raise_on_unexpected_status=True
    )


async def log_in() -> Any:
    """Log Jane in with the generated client, and return a client that sends her session's token."""
    fields = part("models.body_auth_knox_login_auth_login_post").BodyAuthKnoxLoginAuthLoginPost
    body = fields(username=JANE["email"], password=JANE["password"])
    unknown = part("client").Client(base_url=ORIGIN, httpx_args={"transport": ASGITransport(app)})
    answer = await operation("auth", "auth_knox_login").asyncio(client=unknown, body=body)
    return client_with(answer.access_token)


def wanted(*scopes: str, **options: Any) -> Any:
    """Return the body that asks for a token."""
    scope = part("models.api_token_create_scopes_item").ApiTokenCreateScopesItem
    return part("models.api_token_create").ApiTokenCreate(
        name="Nightly report", scopes=[scope(name) for name in scopes], **options
    )


@pytest.mark.usefixtures("generated", "client")
async def test_the_client_manages_api_tokens() -> None:
    """The generated client creates a token, reads with it, lists it, rolls it and revokes it."""
    session = await log_in()
    create, listing, roll, end = (
        operation("api_tokens", f"auth_api_{name}")
        for name in ("create_api_token", "api_tokens", "roll_api_token", "end_api_token")
    )
    overlap = part("models.api_token_roll").ApiTokenRoll(overlap=60)

    token = await create.asyncio(client=session, body=wanted("reports:read", expires_in=3600))
    report = await operation("default", "read_reports").asyncio(client=client_with(token.token))
    [listed] = await listing.asyncio(client=session)
    successor = await roll.asyncio(token.id, client=session, body=overlap)
    both = await listing.asyncio(client=session)
    ended = [(await end.asyncio_detailed(each.id, client=session)).status_code for each in both]

    assert report.to_dict() == {"reports": f"of {JANE['email']}", "read_by": "Nightly report"}
    assert (listed.id, listed.scopes, listed.expires_at) == (token.id, ["reports:read"], token.expires_at)
    assert [each.id for each in both] == [successor.id, token.id]
    assert ended == [204, 204]
    assert await listing.asyncio(client=session) == []


@pytest.mark.usefixtures("generated", "client")
async def test_the_client_reads_the_errors() -> None:
    """The generated client knows every refusal, with its detail."""
    session = await log_in()
    create, roll, end = (
        operation("api_tokens", f"auth_api_{name}") for name in ("create_api_token", "roll_api_token", "end_api_token")
    )
    token = await create.asyncio(client=session, body=wanted("reports:read"))
    overlap = part("models.api_token_roll").ApiTokenRoll(overlap=60)
    await roll.asyncio(token.id, client=session, body=overlap)

    refusals = [
        await create.asyncio(client=client_with(token.token), body=wanted("reports:read")),
        await roll.asyncio(token.id, client=session, body=overlap),
        await end.asyncio(uuid.UUID(int=1), client=session),
    ]
    invalid = await create.asyncio(client=session, body=wanted("reports:read", expires_in=0))

    assert [refusal.detail for refusal in refusals] == [
        "Unauthorized",
        "API_TOKEN_ALREADY_ROLLED",
        "API_TOKEN_NOT_FOUND",
    ]
    assert [error.loc for error in invalid.detail] == [["body", "expires_in"]]
