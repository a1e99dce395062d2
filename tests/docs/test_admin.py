"""The application of the page on the admin pages works as the page describes."""

from pathlib import Path

import pytest

from tests.docs.folder import LOGIN, calling, changed_by, load, log_in, register, statuses


async def test_a_superuser_revokes_a_session(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With the change shown, Jane is refused until the script makes her a superuser; then she revokes her device."""
    changed_by("admin_pages.diff", folder, monkeypatch)
    async with calling(load("app").app) as client:
        await register(client)
        device = await log_in(client)
        refused = await client.post("/admin/login", data=LOGIN)
        await load("superuser").promote(LOGIN["username"])

        admitted = await client.post("/admin/login", data=LOGIN)
        page = await client.get("/admin/knox-token/list")
        [session] = (await client.get("/auth/sessions", headers=device)).json()[1:]
        before = await statuses(client, device)
        await client.delete(f"/admin/knox-token/delete?pks={session['id']}")
        after = await statuses(client, device)

    await load("db").engine.dispose()
    assert (refused.status_code, admitted.status_code) == (400, 303)
    assert page.text.count("jane@example.org") == 2
    assert (before, after) == ([200], [401])


async def test_only_a_registered_user_is_promoted(folder: Path) -> None:
    """The script says if nobody has registered with the address."""
    await load("db").create_db_and_tables()

    with pytest.raises(SystemExit, match=r"nobody has registered as eve@example\.org"):
        await load("superuser").promote("eve@example.org")

    await load("db").engine.dispose()
    assert (folder / "app.db").exists()
