"""Re-authentication in place with a user manager that throttles it and publishes its failures."""

import json
import uuid
from dataclasses import asdict, replace
from typing import Any

import pytest

from fastapi_users_knox import (
    KnoxEvent,
    LoginFailed,
    LoginThrottled,
    TokenIssued,
    TokenReauthenticated,
    TooManyAttempts,
)
from fastapi_users_knox.throttling import LoginThrottle
from tests.models import User
from tests.site import ADA, OLD_HASH, bearing, client_of
from tests.strategies import change_user, request
from tests.throttling.attack import addresses_of
from tests.throttling.site import HOME, WRONG, Manager, ThrottledWorld, create_app

pytestmark = pytest.mark.anyio


async def is_live(world: ThrottledWorld, token: str) -> bool:
    """Return whether a token is accepted."""
    async with client_of(world.serving(create_app())) as client:
        return (await client.get("/active", headers=bearing(token))).status_code == 200


@pytest.mark.parametrize("any_backend", ["sqlite", "redis-7"], indirect=True)
async def test_too_many_attempts_are_refused(
    world: ThrottledWorld, ada: User, events: list[KnoxEvent[uuid.UUID]]
) -> None:
    """After five wrong passwords the right one is not checked: 429, with the time to wait, and the session stays."""
    visitor = world.visitor()
    token = await visitor.token()
    world.notes.clear()
    events.clear()

    failed = [(await visitor.reauthenticate(token, WRONG)).status for _ in range(5)]
    answer = await visitor.reauthenticate(token)

    assert failed == [400] * 5
    assert (answer.status, answer.body) == (429, b'{"detail":"LOGIN_THROTTLED"}')
    assert 1 <= int(answer.headers[b"retry-after"]) <= 61
    assert world.notes == ["hash"] * 5
    assert await is_live(world, token)
    assert [(type(event), event.user_id) for event in events] == [(LoginFailed, ada.id)] * 5 + [
        (LoginThrottled, ada.id)
    ]
    assert {event.action for event in events if isinstance(event, LoginFailed | LoginThrottled)} == {"reauthentication"}


async def test_what_was_typed_is_not_published(world: ThrottledWorld, events: list[KnoxEvent[uuid.UUID]]) -> None:
    """The event of a failure has neither the password nor a request whose body has it."""
    await world.database.create_user()
    visitor = world.visitor()
    token = await visitor.token()

    await visitor.reauthenticate(token, WRONG)

    event = events[-1]
    assert isinstance(event, LoginFailed)
    assert event.client.ip_address == HOME
    assert WRONG not in repr(asdict(replace(event, request=None))) + repr(vars(event.request))


async def test_a_success_gives_new_attempts(world: ThrottledWorld, ada: User) -> None:
    """After a re-authentication, five wrong passwords are checked again."""
    del ada
    visitor = world.visitor()
    token = await visitor.token()

    before = [(await visitor.reauthenticate(token, WRONG)).status for _ in range(4)]
    success = await visitor.reauthenticate(token)
    token = json.loads(success.body)["access_token"]
    after = [(await visitor.reauthenticate(token, WRONG)).status for _ in range(6)]

    assert (before, success.status, after) == ([400] * 4, 200, [400] * 5 + [429])


async def test_logins_are_counted_apart(world: ThrottledWorld, ada: User) -> None:
    """Guesses in a session do not keep the user from logging in, and a login gives no new attempts there."""
    del ada
    visitor = world.visitor()
    token = await visitor.token()
    for _ in range(5):
        await visitor.reauthenticate(token, WRONG)

    other = await visitor.token()

    assert (await visitor.reauthenticate(other)).status == 429


async def test_a_stolen_token_allows_few_guesses(world: ThrottledWorld, ada: User) -> None:
    """From however many addresses the guesses come, the limit of the account applies."""
    del ada
    world = replace(world, throttle=LoginThrottle(per_account=("7/hour",)))
    token = await world.visitor().token()

    statuses = [(await world.visitor(address).reauthenticate(token, WRONG)).status for address in addresses_of(8)]

    assert statuses == [400] * 7 + [429]


async def test_a_right_password_gives_no_new_attempts_at_a_second_factor(world: ThrottledWorld, ada: User) -> None:
    """The password does not reset the counters of another proof that the application checks by the same action."""
    del ada

    async def check() -> None:
        """Refuse the code."""

    visitor = world.visitor()
    token = await visitor.token()
    async with world.database.session() as session, world.database.store(session) as store:
        manager = world.manager(session, store, request(client=HOME))
        for _ in range(5):
            await manager.attempt_login(ADA, check, action="reauthentication")

        assert (await visitor.reauthenticate(token)).status == 200
        with pytest.raises(TooManyAttempts):
            await manager.attempt_login(ADA, check, action="reauthentication")


async def test_proofs_may_be_counted_apart(world: ThrottledWorld, ada: User) -> None:
    """Attempts of different purposes are counted apart, also with the same action."""

    async def refuse() -> None:
        """Refuse the code."""

    async def accept() -> User:
        return ada

    async with world.database.session() as session, world.database.store(session) as store:
        manager = world.manager(session, store, request())
        for _ in range(5):
            await manager.attempt_login(ADA, refuse, action="reauthentication", purpose="code")

        assert await manager.attempt_login(ADA, accept, action="reauthentication", purpose="passkey") is ada
        with pytest.raises(TooManyAttempts):
            await manager.attempt_login(ADA, accept, action="reauthentication", purpose="code")


async def test_an_unavailable_throttle_may_refuse(world: ThrottledWorld, ada: User) -> None:
    """With `fail_open=False`, a re-authentication without the throttle's storage is answered by 503."""
    del ada
    token = await world.visitor().token()
    lost = replace(world, throttle=LoginThrottle("redis://127.0.0.1:1", fail_open=False))

    answer = await lost.visitor().reauthenticate(token)

    assert (answer.status, answer.body) == (503, b'{"detail":"LOGIN_THROTTLE_UNAVAILABLE"}')
    assert await is_live(world, token)


# the mix-in without a throttle, and overrides


class Deactivating(Manager):
    """A user manager that returns another user, or the user as inactive."""

    async def authenticate(self, credentials: Any) -> User | None:
        """Do as the test says."""
        user = await super().authenticate(credentials)
        if user is not None and "inactive" in self.notes:
            user.is_active = False
        return await self.get_by_email("eve@example.org") if "other" in self.notes else user


@pytest.mark.parametrize("note", ["inactive", "other"])
async def test_a_refused_user_is_a_failure(
    world: ThrottledWorld, ada: User, events: list[KnoxEvent[uuid.UUID]], note: str
) -> None:
    """If `authenticate` returns another user or an inactive one, a failure is published for the user of the session."""
    await world.database.create_user("eve@example.org")
    world = replace(world, kind=Deactivating, throttle=None)
    token = await world.visitor().token()
    world.notes.append(note)

    answer = await world.visitor().reauthenticate(token)

    assert (answer.status, answer.body) == (400, b'{"detail":"LOGIN_BAD_CREDENTIALS"}')
    assert [(type(event), event.user_id) for event in events[1:]] == [(LoginFailed, ada.id)]


async def test_an_outdated_hash_revokes_nothing(
    world: ThrottledWorld, ada: User, events: list[KnoxEvent[uuid.UUID]]
) -> None:
    """The mix-in does not take the new hash of the same password for a new password."""
    visitor = world.visitor()
    token, other = await visitor.token(), await visitor.token()
    await change_user(world.database.engine, ada, hashed_password=OLD_HASH)

    answer = await visitor.reauthenticate(token)

    assert answer.status == 200
    assert await is_live(world, other)
    assert [type(event) for event in events] == [TokenIssued, TokenIssued, TokenReauthenticated]
