"""The applications of the tutorial work as the tutorial describes."""

import json
import logging
import re
import uuid
from pathlib import Path

import pytest

from fastapi_users_knox import ClientInfo, TokenLimitHit, tokens
from tests.docs.folder import LOGIN, SRC, calling, changed_by, load, log_in, register, statuses

ID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")


@pytest.mark.parametrize("application", ["before", "tutorial"])
async def test_both_sides_of_the_swap_run(application: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Before and after the swap, a user registers and logs in by the same routes and is accepted."""
    monkeypatch.syspath_prepend(SRC / application)
    async with calling(load("app").app) as client:
        await register(client)

        assert await statuses(client, await log_in(client), {}) == [200, 401]
    await load("db").engine.dispose()


@pytest.mark.usefixtures("jane")
async def test_after_the_swap_everybody_can_be_logged_out() -> None:
    """A logout-all revokes every token of the user."""
    async with calling(load("app").app) as client:
        laptop, phone = await log_in(client), await log_in(client)

        answer = await client.post("/auth/logout-all", headers=phone)

        assert (answer.status_code, await statuses(client, laptop, phone)) == (204, [401, 401])


@pytest.mark.usefixtures("jane")
async def test_a_new_password_logs_the_other_devices_out() -> None:
    """A new password revokes the user's other sessions and keeps the current session."""
    async with calling(load("app").app) as client:
        laptop, phone = await log_in(client), await log_in(client)

        answer = await client.patch("/users/me", json={"password": "a-better-password"}, headers=laptop)

        assert (answer.status_code, await statuses(client, laptop, phone)) == (200, [200, 401])


@pytest.mark.usefixtures("jane")
async def test_the_login_answers_as_shown() -> None:
    """The login response has the fields that the page shows, of the same kinds."""
    shown = json.loads((SRC / "login.json").read_text())
    async with calling(load("app").app) as client:
        response = await client.post("/auth/login", data=LOGIN)

    answer = response.json()
    assert tokens.parse(shown.pop("access_token"))
    assert tokens.parse(answer.pop("access_token"))
    assert re.sub(r"\d", "9", answer.pop("expiry")) == re.sub(r"\d", "9", shown.pop("expiry"))
    assert answer == shown
    assert response.headers["Cache-Control"] == "no-store"


async def test_jwts_are_kept_beside_knox_tokens(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With the change shown, a JWT is still accepted but cannot log out, and a login returns a new token."""
    changed_by("keep_jwts.diff", folder, monkeypatch)
    async with calling(load("app").app) as client:
        user_id = await register(client)
        users, db = load("users"), load("db")
        token = await users.get_jwt_strategy().write_token(db.User(id=uuid.UUID(user_id)))
        jwt = {"Authorization": f"Bearer {token}"}
        knox = await log_in(client)
        refused = [(await client.post(f"/auth/{route}", headers=jwt)).status_code for route in ("logout", "logout-all")]

        assert await statuses(client, jwt, knox) == [200, 200]
        assert refused == [401, 401]
    await db.engine.dispose()


async def test_a_strategy_by_hand_goes_by_the_request(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With the strategy shown, a login lasts one hour at the staff's host, and ten hours at another host."""
    changed_by("by_hand.diff", folder, monkeypatch)
    async with calling(load("app").app) as client:
        await register(client)
        lifetimes = [
            (await client.post(f"https://{host}/auth/login", data=LOGIN)).json()["expires_in"]
            for host in ("staff.example.org", "www.example.org")
        ]

    assert lifetimes == [3600, 36000]
    await load("db").engine.dispose()


async def test_the_health_check_answers() -> None:
    """The health check needs no token, and answers 200 as long as the store can answer."""
    async with calling(load("health").app) as client:
        answer = await client.get("/health")

    assert (answer.status_code, answer.json()) == (200, {"status": "ok"})


async def test_the_listener_writes_an_audit_log(
    folder: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The listener logs a login, a logout-all and a login beyond the limit, and no token."""
    changed_by("listeners.diff", folder, monkeypatch)
    caplog.set_level(logging.INFO, logger="audit")
    async with calling(load("app").app) as client:
        await register(client)
        headers = await log_in(client)
        await client.post("/auth/logout-all", headers=headers)
    load("audit").audit(TokenLimitHit(user_id=uuid.uuid4(), client=ClientInfo(), limit=5))

    assert [ID.sub("ID", line) for line in caplog.messages] == [
        "ID logged in from 127.0.0.1: token ID",
        "ID lost token ID: logout_all",
        "ID has 5 tokens already",
    ]
    assert headers["Authorization"].split()[-1] not in caplog.text
    await load("db").engine.dispose()
