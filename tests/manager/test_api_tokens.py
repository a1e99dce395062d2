"""What a change of the user does to API tokens, which are the tokens with scopes, on every kind of store."""

from collections.abc import Awaitable, Callable

import pytest
from fastapi_users.schemas import BaseUserUpdate
from sqlalchemy import update

from fastapi_users_knox import IssuedToken, TokenRevoked
from tests.backends import OpenApp
from tests.manager.account import API, WEB, Account, Manager
from tests.models import User

pytestmark = pytest.mark.anyio

SCOPES = {"reports:read"}
SETTINGS = {"cron": API, "scoped session": WEB}  # The audience does not matter, only whether there are scopes.
EVERYTHING = ["laptop", "phone", "script", "cron", "scoped session"]


class Sparing(Manager):
    """A user manager that keeps the API tokens when the password changes."""

    revoke_api_tokens_on_password_change = False
    revoke_on_email_change = True


class Lax(Sparing):
    """A user manager that revokes nothing when the password changes."""

    revoke_on_password_change = False
    revoke_on_password_reset = False


Change = Callable[[Account, Manager], Awaitable[object]]


def change_password(account: Account, manager: Manager) -> Awaitable[object]:
    """Change the password."""
    return manager.update(BaseUserUpdate(password="another password"), account.user)


def reset_password(account: Account, manager: Manager) -> Awaitable[object]:
    """Reset the forgotten password."""
    return account.reset(manager)


def deactivate(account: Account, manager: Manager) -> Awaitable[object]:
    """Deactivate the user."""
    return manager.update(BaseUserUpdate(is_active=False), account.user)


def deactivate_with_new_password(account: Account, manager: Manager) -> Awaitable[object]:
    """Deactivate the user, and change the password in the same update."""
    return manager.update(BaseUserUpdate(is_active=False, password="another password"), account.user)


def change_address(account: Account, manager: Manager) -> Awaitable[object]:
    """Change the e-mail address."""
    return manager.update(BaseUserUpdate(email="eve@example.org"), account.user)


def change_both(account: Account, manager: Manager) -> Awaitable[object]:
    """Change the e-mail address and the password in the same update."""
    return manager.update(BaseUserUpdate(email="eve@example.org", password="another password"), account.user)


def revoke_other_tokens(account: Account, manager: Manager) -> Awaitable[object]:
    """Log out everywhere else."""
    return manager.revoke_other_tokens(account.user)


@pytest.fixture
async def account(account: Account) -> Account:
    """Give the user API tokens too, which were issued on the authority of the presented session."""
    laptop = account.tokens["laptop"]
    assert isinstance(laptop, IssuedToken)
    for name, settings in SETTINGS.items():
        strategy = account.strategy(settings)
        account.tokens[name] = await strategy.issue(account.user, by=laptop.record, scopes=SCOPES, replace=False)
    account.events.clear()
    return account


async def alive(account: Account) -> list[str]:
    """Return the names of the tokens that are accepted, sessions first."""
    found = await account.alive()
    for name, settings in SETTINGS.items():
        strategy = account.strategy(settings)
        if await strategy.authenticate(account.tokens[name], account.manager(), scopes=SCOPES):
            found.append(name)
    return found


async def test_all_are_alive_before(account: Account) -> None:
    """Without a change every token is accepted."""
    assert await alive(account) == EVERYTHING


@pytest.mark.parametrize(
    ("kind", "change", "kept"),
    [
        (Manager, change_password, ["laptop"]),
        (Manager, reset_password, []),
        (Sparing, change_password, ["laptop", *SETTINGS]),
        (Sparing, reset_password, [*SETTINGS]),
        (Lax, change_password, EVERYTHING),
        (Lax, reset_password, EVERYTHING),
        (Sparing, change_address, ["laptop"]),
        (Sparing, change_both, ["laptop"]),
        (Sparing, revoke_other_tokens, ["laptop"]),
        (Manager, revoke_other_tokens, ["laptop"]),
    ],
)
async def test_a_change_ends_api_tokens(
    account: Account, *, kind: type[Manager], change: Change, kept: list[str]
) -> None:
    """A new password revokes API tokens too, unless this is switched off. It revokes the sessions in both cases."""
    await change(account, account.manager(kind=kind))

    assert await alive(account) == kept
    revoked = [event for event in account.events if isinstance(event, TokenRevoked)]
    assert len(revoked) == len(EVERYTHING) - len(kept)


@pytest.mark.parametrize("kind", [Manager, Sparing])
@pytest.mark.parametrize("change", [deactivate, deactivate_with_new_password])
async def test_a_deactivation_ends_all(
    account: Account, open_app: OpenApp, *, kind: type[Manager], change: Change
) -> None:
    """A deactivation revokes every token, with and without the switch. None is valid again after an activation."""
    await change(account, account.manager(kind=kind))

    async with open_app() as app:
        await app.session.execute(update(User).where(User.__table__.c.id == account.user_id).values(is_active=True))
        await app.session.commit()
    await account.app.session.refresh(account.user)
    assert await alive(account) == []
    assert account.revoke_reasons() == ["deactivated"] * 5


@pytest.mark.parametrize("kind", [Manager, Sparing])
async def test_a_deletion_ends_all(account: Account, *, kind: type[Manager]) -> None:
    """A deletion revokes every token, with and without the switch. The strategies of both audiences publish events."""
    await account.manager(account.strategy(), account.strategy(API), kind=kind).delete(account.user)

    for settings in (WEB, API):
        strategy = account.strategy(settings)
        assert [await strategy.read_record(token, scopes=SCOPES) for token in account.tokens.values()] == [None] * 5
    assert account.revoke_reasons() == ["deleted"] * 5


async def test_a_kept_api_token_may_be_ended_later(account: Account) -> None:
    """An API token that a new password did not revoke can be revoked like any other."""
    cron = account.tokens["cron"]
    assert isinstance(cron, IssuedToken)
    await change_password(account, account.manager(kind=Sparing))

    ended = await account.strategy(API).revoke(account.user, cron.record.id)

    assert (ended, await alive(account)) == (True, ["laptop", "scoped session"])
