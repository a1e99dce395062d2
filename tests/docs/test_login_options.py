"""The functions, columns and login responses of the page on login options work as the page describes."""

import json
import shutil
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from httpx import AsyncClient, Response
from sqlalchemy import String, select, update

from fastapi_users_knox import LoginOptions
from tests.docs.folder import JANE, LOGIN, SRC, apply, calling, changed_by, load, log_in, register

Choosing = Callable[..., AbstractAsyncContextManager[AsyncClient]]


@pytest.fixture
def choosing(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Choosing:
    """Return a function that starts an application with one of the functions, with Jane, and opens a client."""

    @asynccontextmanager
    async def choosing(name: str, *, app: str = "cookies", others: tuple[str, ...] = ()) -> AsyncIterator[AsyncClient]:
        changed_by("login_options.diff", folder, monkeypatch)
        for change in others:
            apply(change, folder)
        shutil.copy(SRC / f"{name}.py", folder / "login_options.py")
        async with calling(load(app).app) as client:
            await register(client)
            yield client
        await load("db").engine.dispose()

    return choosing


async def browse(client: AsyncClient, **fields: str) -> Response:
    """Log Jane in by cookie with these further fields in the form, and return the answer."""
    answer = await client.post("/browser/login", data={**LOGIN, **fields})
    assert answer.status_code == 204, answer.text
    return answer


async def sessions(client: AsyncClient, headers: dict[str, str]) -> list[dict[str, Any]]:
    """Return the listed sessions."""
    listed: list[dict[str, Any]] = (await client.get("/auth/sessions", headers=headers)).json()
    return listed


async def promote() -> None:
    """Make everybody a superuser."""
    db = load("db")
    async with db.engine.begin() as connection:
        await connection.execute(update(db.User).values(is_superuser=True))


# the functions


async def test_the_checkbox_decides_how_long_the_browser_remembers(choosing: Choosing) -> None:
    """Without a tick the cookie ends with the browser; with a tick it stays for 30 days."""
    async with choosing("remember_me") as client:
        forgotten, remembered = await browse(client), await browse(client, remember="on")
        program = await client.post("/auth/login", data=LOGIN)

    assert "Max-Age" not in forgotten.headers["Set-Cookie"]
    assert "Expires" not in forgotten.headers["Set-Cookie"]
    assert f"; Max-Age={30 * 24 * 3600};" in remembered.headers["Set-Cookie"]
    assert program.json()["expires_in"] == 10 * 3600


async def test_an_administrator_has_one_short_session(choosing: Choosing) -> None:
    """A superuser's token lives for half an hour, and a second login revokes the first session."""
    async with choosing("short_sessions") as client:
        usual = await client.post("/auth/login", data=LOGIN)
        await promote()
        short = [await client.post("/auth/login", data=LOGIN) for _ in range(2)]
        left = await sessions(client, {"Authorization": f"Bearer {short[1].json()['access_token']}"})

    assert [answer.json()["expires_in"] for answer in (usual, *short)] == [36000, 1800, 1800]
    assert len(left) == 1


@pytest.mark.parametrize(("email", "limit"), [(JANE["email"], 10), ("jane@example.com", 2)])
async def test_the_plan_decides_the_number_of_sessions(choosing: Choosing, email: str, limit: int) -> None:
    """A login beyond the limit of the user's plan gets 403."""
    async with choosing("plan_limits") as client:
        await client.post("/auth/register", json={**JANE, "email": email})
        form = {**LOGIN, "username": email}
        statuses = [(await client.post("/auth/login", data=form)).status_code for _ in range(limit + 1)]

    assert statuses == [200] * limit + [403]


def test_each_plan_of_the_page_has_a_valid_limit() -> None:
    """Every limit that the page shows is one that `LoginOptions` accepts."""
    limits = load("plan_limits").LIMITS

    assert [LoginOptions(token_limit_per_user=limit).token_limit_per_user for limit in limits.values()] == [2, 10, None]


async def test_browsers_and_programs_have_tokens_of_their_own(choosing: Choosing) -> None:
    """Prefix and policy depend on the route: at the limit a program is refused, and a browser ends another session."""
    async with choosing("client_kinds") as client:
        programs = [await client.post("/auth/login", data=LOGIN) for _ in range(6)]
        browser = await browse(client)
        first = {"Authorization": f"Bearer {programs[0].json()['access_token']}"}
        evicted = await client.post("/authenticated-route", headers={**first, "Cookie": ""})

    assert [answer.status_code for answer in programs] == [200] * 5 + [403]
    assert programs[0].json()["access_token"].startswith("cli_")
    assert "__Host-knox=web_" in browser.headers["Set-Cookie"]
    assert evicted.status_code == 401


@pytest.mark.parametrize(
    ("fields", "greeting"),
    [({"language": "de"}, "Guten Tag"), ({"language": "xx"}, "Hello"), ({}, "Hello")],
)
async def test_a_route_reads_the_data_of_the_session(choosing: Choosing, fields: dict[str, str], greeting: str) -> None:
    """The language from the login form is in the record of each request, and in the user's list of sessions."""
    async with choosing("session_data", app="language") as client:
        token = (await client.post("/auth/login", data={**LOGIN, **fields})).json()["access_token"]
        headers = {"Authorization": f"Bearer {token}"}
        answers = [await client.get("/greeting", headers=headers) for _ in range(2)]
        [session] = await sessions(client, headers)

    assert [answer.json() for answer in answers] == [greeting] * 2
    assert session["data"] == {"language": fields.get("language") if greeting != "Hello" else "en"}


async def test_a_change_of_the_data_in_place_stores_nothing(choosing: Choosing) -> None:
    """The next request reads the data of the login, and only a re-authentication replaces it."""
    async with choosing("session_data", app="language") as client:
        token = (await log_in(client))["Authorization"].removeprefix("Bearer ")
        db, users = load("db"), load("users")
        async with db.async_session_maker() as session:
            strategy = await users.get_knox_strategy(None, await db.get_token_store(session))
            user = (await session.scalars(select(db.User))).one()
            (await strategy.read_record(token)).data["language"] = "fr"
            unchanged = await strategy.read_record(token)
            new = await strategy.reauthenticate(token, user, data={"language": "fr"})
            replaced = await strategy.read_record(new)

    assert (unchanged.data, replaced.data) == ({"language": "en"}, {"language": "fr"})


@pytest.mark.parametrize("name", ["remember_me", "short_sessions", "plan_limits", "client_kinds", "session_data"])
async def test_a_script_may_issue_a_token(choosing: Choosing, name: str) -> None:
    """Every function of the page works where there is no request."""
    async with choosing(name):
        db, users = load("db"), load("users")
        async with db.async_session_maker() as session:
            strategy = await users.get_knox_strategy(None, await db.get_token_store(session))
            user = (await session.scalars(select(db.User))).one()

            token = await strategy.issue(user)

            assert await strategy.read_record(token) == token.record


# own columns


async def test_the_store_fills_the_documented_column(choosing: Choosing) -> None:
    """The language of the login is in a column that can be queried, and that the Alembic operation shown creates."""
    async with choosing("session_data", app="language", others=("own_columns.diff",)) as client:
        await client.post("/auth/login", data={**LOGIN, "language": "fr"})
        db = load("db")
        async with db.async_session_maker() as session:
            found = (await session.scalars(select(db.KnoxToken).where(db.KnoxToken.language == "fr"))).all()

    [row] = found
    column = db.KnoxToken.__table__.columns["language"]
    assert row.data == {"language": "fr"}
    assert (repr(column.type), column.nullable) == (repr(String(2)), True)
    assert 'sa.Column("language", sa.String(length=2), nullable=True)' in (SRC.parent / "login-options.md").read_text()


# the login response


async def test_a_login_is_answered_as_shown(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A login and a rotation have the documented fields, and the OpenAPI document shows them."""
    changed_by("login_answer.diff", folder, monkeypatch)
    shown = json.loads((SRC / "login_answer.json").read_text())
    async with calling(load("app").app) as client:
        await register(client)
        login = (await client.post("/auth/login", data=LOGIN)).json()
        headers = {"Authorization": f"Bearer {login['access_token']}"}
        [session] = await sessions(client, headers)
        rotation = (await client.post("/auth/rotate", headers=headers)).json()
        document = (await client.get("/openapi.json")).json()
    await load("db").engine.dispose()

    assert [*login] == [*rotation] == [*shown]
    assert {name: type(value) for name, value in login.items()} == {name: type(value) for name, value in shown.items()}
    assert login["session_id"] == rotation["session_id"] == session["id"]
    answers = [document["paths"][f"/auth/{path}"]["post"]["responses"]["200"] for path in ("login", "rotate")]
    references = [answer["content"]["application/json"]["schema"] for answer in answers]
    assert references == [{"$ref": "#/components/schemas/LoginAnswer"}] * 2
    assert document["components"]["schemas"]["LoginAnswer"]["properties"].keys() == shown.keys()
