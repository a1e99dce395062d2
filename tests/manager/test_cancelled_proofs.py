"""Wherever a re-authentication is cancelled, no text that anybody knows belongs to a session that became fresh."""

import gc
from datetime import timedelta
from pathlib import Path

import anyio
import pytest
from sqlalchemy import update

from fastapi_users_knox import CredentialsChanged
from tests.backends import NOW, App, OpenApp
from tests.cancelled import CancelledAt
from tests.models import User, create_user

pytestmark = [pytest.mark.anyio, pytest.mark.unmeasured]

LATER = NOW + timedelta(hours=1)


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    """Use a file for each test, because a connection to SQLite that was cancelled may keep its lock for a while."""
    return tmp_path


async def log_in(app: App) -> tuple[User, str]:
    """Return a user and the user's token."""
    user = await create_user(app.session)
    return user, await app.strategy().issue(user)


async def change_password(open_app: OpenApp) -> None:
    """Change the passwords of all users in another request."""
    async with open_app() as app:
        await app.session.execute(update(User).values(hashed_password="another hash"))
        await app.session.commit()


async def is_stale_or_refused(open_app: OpenApp, token: str) -> bool:
    """Return whether the old text is refused, or its session has the login's `authenticated_at`."""
    gc.collect()  # A connection to SQLite that was cancelled during a read keeps its lock until it is collected.
    async with open_app() as app:
        found = await app.strategy(now=LATER).authenticate(token, app.user_manager, touch=False)
        return found is None or found[1].authenticated_at == NOW


async def cancelled_at(number: int, open_app: OpenApp, *, changes: bool) -> bool:
    """Cancel a re-authentication when it waits for the n-th time, and check what is stored.

    Returns:
        Whether the request was cancelled; false if it waits less often than that.
    """
    async with open_app() as app:
        user, token = await log_in(app)
        if changes:
            await change_password(open_app)
        with anyio.CancelScope() as scope:
            strategy = app.strategy(now=LATER)
            try:
                await CancelledAt(strategy.reauthenticate(token, user), number, scope.cancel)
            except CredentialsChanged:
                assert changes
    assert await is_stale_or_refused(open_app, token)
    return scope.cancel_called


@pytest.mark.parametrize("changes", [False, True], ids=["unchanged", "changed"])
async def test_it_is_cancelled_wherever_it_waits(open_app: OpenApp, *, changes: bool) -> None:
    """Whether or not the password has changed, the old text belongs to a session that is as stale as before."""
    number = 1
    gc.freeze()  # Each collection then skips the objects that exist by now, and takes far less time.
    while await cancelled_at(number, open_app, changes=changes):
        number += 1

    assert number > 1
