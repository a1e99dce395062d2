"""Malformed tokens in headers and cookies give 401, or no user on optional routes, and send no statement."""

from collections.abc import Sequence
from urllib.parse import urlencode

import pytest
from httpx import AsyncClient

from fastapi_users_knox import tokens
from tests.asgi import RawHeaders, send, talk
from tests.site import Backend, Database, Served, cookie_backend, credentials, knox_backend, login
from tests.strategies import flipped, sent_to, stored, verbs

pytestmark = pytest.mark.unmeasured

TOKEN = tokens.generate("00", prefix="knox_")  # well-formed, but never issued
TEXTS: dict[str, bytes] = {
    "empty": b"",
    "space": b" ",
    "spaces": b"     ",
    "NUL": b"\0",
    "NULs": b"\0" * 56,
    "control": bytes(range(1, 32)),
    "not ASCII": "ä€\N{FULLWIDTH DIGIT ZERO}".encode() * 10,
    "Latin-1": bytes(range(128, 256)),
    "not UTF-8": b"\xff\xfe\xc3\x28",
    "1 MB": b"a" * 2**20,
    "1 MB of spaces": b" " * 2**20,
    "checksum": flipped(TOKEN).encode(),
    "prefix only": b"knox_",
    "too long": TOKEN.encode() + b"0" * 100,
    "twice": TOKEN.encode() + b" " + TOKEN.encode(),
    "NUL behind": TOKEN.encode() + b"\0",
    "percent": TOKEN.replace("_", "%5F").encode(),
    "UTF-16": TOKEN.encode("utf-16"),
    "a digest": tokens.digest(TOKEN),
}
HEADERS = {f"bearer {name}": [(b"authorization", b"Bearer " + text)] for name, text in TEXTS.items()} | {
    "nothing": [],
    "empty": [(b"authorization", b"")],
    "no prefix": [(b"authorization", TOKEN.encode())],
    "prefix": [(b"authorization", b"Bearer")],
    "another prefix": [(b"authorization", b"Token " + TOKEN.encode())],
    "basic": [(b"authorization", b"Basic YTpi")],
    "not ASCII": [(b"authorization", b"\xff\0 \xff")],
    "two": [(b"authorization", b"Bearer x"), (b"authorization", b"Bearer y")],
    "1 MB": [(b"authorization", b"x" * 2**20)],
}
COOKIES = {f"cookie {name}": [(b"cookie", b"knox=" + text)] for name, text in TEXTS.items()} | {
    "cookie quoted": [(b"cookie", b'knox="\\777\\000"')],
    "cookies": [(b"cookie", b";;;=;=knox;knox=;knox")],
    "many cookies": [(b"cookie", b"; ".join(b"knox=%d" % number for number in range(10_000)))],
}
JUNK = HEADERS | COOKIES


@pytest.fixture
def backends() -> Sequence[Backend]:
    """Return one backend for the header and one for the cookie."""
    return [knox_backend(), cookie_backend()]


@pytest.mark.parametrize(
    ("path", "answer"), [("/active", (401, b'{"detail":"Unauthorized"}')), ("/optional", (200, b"null"))]
)
async def test_junk_is_refused_for_free(app: Served, database: Database, path: str, answer: tuple[int, bytes]) -> None:
    """A malformed token authenticates nobody, and no statement is sent."""
    with sent_to(database.engine) as statements:
        answers = {name: await send(app, path, headers) for name, headers in JUNK.items()}

    assert {name: (sent.status, sent.body) for name, sent in answers.items()} == dict.fromkeys(JUNK, answer)
    assert statements == []


@pytest.mark.parametrize(
    "headers", [[(b"authorization", b"Bearer " + TOKEN.encode())], [(b"cookie", b"knox=" + TOKEN.encode())]]
)
@pytest.mark.parametrize(("path", "status"), [("/active", 401), ("/optional", 200)])
async def test_an_unknown_token_is_refused(
    app: Served, database: Database, path: str, status: int, headers: RawHeaders
) -> None:
    """A well-formed token that was never issued is refused after one statement."""
    with sent_to(database.engine) as statements:
        answer = await send(app, path, headers)

    assert answer.status == status
    assert verbs(statements) == ["SELECT"]


FORM = [(b"content-type", b"application/x-www-form-urlencoded")]
FILLED_IN = urlencode(credentials()).encode()


async def test_junk_does_not_hinder_a_login(app: Served, database: Database) -> None:
    """A login with the right password succeeds, even if it sends malformed headers."""
    await database.create_user()

    answers = [
        await send(app, "/knox/login", [*FORM, *headers], method="POST", body=FILLED_IN) for headers in JUNK.values()
    ]

    assert {answer.status for answer in answers} == {200}
    assert len(await stored(database.engine)) == len(JUNK)


@pytest.mark.parametrize("path", ["/knox/logout", "/knox/logout-all", "/cookie/logout", "/cookie/logout-all"])
async def test_junk_logs_nobody_out(app: Served, path: str) -> None:
    """Logging out without a valid token gives 401."""
    answers = {name: (await send(app, path, headers, method="POST")).status for name, headers in JUNK.items()}

    assert answers == dict.fromkeys(JUNK, 401)


async def test_junk_opens_no_websocket(app: Served) -> None:
    """A WebSocket route that requires a user does not accept a malformed token."""
    sent = [message for headers in JUNK.values() for message in await talk(app, "/ws/active", headers)]

    assert "websocket.accept" not in {message["type"] for message in sent}


async def test_junk_in_a_client_s_description_is_left_out(app: Served, database: Database) -> None:
    """A login succeeds with any bytes in the client's description; bytes that cannot be stored are dropped."""
    await database.create_user()
    description = [(name, b"\0\xffA\x1b" + b"x" * 1000) for name in (b"user-agent", b"x-device-name", b"x-device-id")]

    answer = await send(app, "/knox/login", [*FORM, *description], method="POST", body=FILLED_IN)

    [row] = await stored(database.engine)
    assert answer.status == 200
    assert row.user_agent == "ÿA" + "x" * 254
    assert row.name == row.device_id == "ÿA" + "x" * 126


async def test_a_token_is_not_taken_from_the_address(client: AsyncClient, database: Database) -> None:
    """A token in the URL is not accepted, because URLs are logged (ASVS 14.2.1)."""
    await database.create_user()
    token = await login(client)

    for name in ("access_token", "token", "knox"):
        assert (await client.get("/active", params={name: token})).status_code == 401
