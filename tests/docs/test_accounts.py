"""The applications of the page on password changes, deactivation and deletion work as the page describes."""

from pathlib import Path

import pytest
from sqlalchemy import select

from tests.docs.folder import JANE, LOGIN, calling, changed_by, load, log_in, register, statuses

NEW_PASSWORD = "a new one, and a better"


async def test_a_second_factor_logs_the_other_devices_out(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Setting up a second factor revokes the user's other sessions and keeps the current session."""
    changed_by("second_factor.diff", folder, monkeypatch)
    async with calling(load("app").app) as client:
        await register(client)
        laptop, phone = await log_in(client), await log_in(client)

        answer = await client.post("/second-factor", headers=laptop)

        assert answer.json() == {"revoked": 1}
        assert await statuses(client, laptop, phone) == [200, 401]
    await load("db").engine.dispose()


async def test_a_change_of_the_address_may_log_the_other_devices_out(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With the change shown, a new e-mail address revokes the user's other sessions."""
    changed_by("email_change.diff", folder, monkeypatch)
    async with calling(load("app").app) as client:
        await register(client)
        laptop, phone = await log_in(client), await log_in(client)

        answer = await client.patch("/users/me", headers=laptop, json={"email": "jane@example.net"})

        assert (answer.status_code, await statuses(client, laptop, phone)) == (200, [200, 401])
    await load("db").engine.dispose()


async def test_a_soft_deletion_revokes_the_tokens(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A soft deletion keeps the user's row, revokes the token, and makes logins fail."""
    changed_by("soft_deletion.diff", folder, monkeypatch)
    db = load("db")
    async with calling(load("app").app) as client:
        user_id = await register(client)
        headers = await log_in(client)
        async with db.engine.begin() as connection:
            await connection.execute(db.User.__table__.update().values(is_superuser=True))

        deleted = await client.delete(f"/users/{user_id}", headers=headers)
        refused = await client.post("/auth/login", data=LOGIN)

        assert (deleted.status_code, refused.status_code, await statuses(client, headers)) == (204, 400, [401])
    async with db.engine.connect() as connection:
        assert await connection.scalar(select(db.User.email)) == f"{user_id}@example.com"
    await db.engine.dispose()


async def test_a_user_manager_may_take_more(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The function that `__init__` takes sends the mail about a reset, and the tokens are revoked."""
    changed_by("own_init.diff", folder, monkeypatch)
    users = load("users")
    app = load("app").app
    app.include_router(users.fastapi_users.get_reset_password_router(), prefix="/auth")
    tokens = []

    async def on_after_forgot_password(_self: object, _user: object, token: str, _request: object = None) -> None:
        tokens.append(token)

    monkeypatch.setattr(users.UserManager, "on_after_forgot_password", on_after_forgot_password)
    async with calling(app) as client:
        await register(client)
        headers = await log_in(client)
        await client.post("/auth/forgot-password", json={"email": JANE["email"]})
        await client.post("/auth/reset-password", json={"token": tokens[0], "password": NEW_PASSWORD})

        assert await statuses(client, headers) == [401]
    sent = capsys.readouterr().out
    assert sent == f"{JANE['email']} Your password was reset, and all your devices were logged out.\n"
    await load("db").engine.dispose()
